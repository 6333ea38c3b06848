"""Videos that come in: the list of URLs and the ways around it, and files fetched with bounds."""

import contextlib
import http.server
import os
import threading

import pytest

from vqa_jax.media.container import UnreadableFileError
from vqa_jax.serving import intake
from vqa_jax.settings import SettingsError


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://cdn.example.com/videos/a.mp4?sig=1", True),
        ("https://CDN.example.com/videos/a/b.mp4", True),
        ("http://cdn.example.com/videos/a.mp4", False),
        ("https://cdn.example.com/videos2/a.mp4", False),
        ("https://cdn.example.com/videos", False),
        ("https://cdn.example.com/videos/../secret", False),
        ("https://cdn.example.com/videos/%2e%2e/secret", False),
        ("https://cdn.example.com/videos/..%2fsecret", False),
        ("https://cdn.example.com/videos/..\\secret", False),
        ("https://cdn.example.com:8443/videos/a.mp4", False),
        ("https://cdn.example.com@evil.org/videos/a.mp4", False),
        ("https://user@cdn.example.com/videos/a.mp4", False),
        ("https://cdn.example.com.evil.org/videos/a.mp4", False),
        ("https://cdn.example.com/videos/a b.mp4", False),
        ("https://cdn.example.com/videos/a\n.mp4", False),
        ("https://[/videos/a.mp4", False),
        ("file:///etc/passwd", False),
        ("/etc/passwd", False),
        ("filecache::https://cdn.example.com/videos/a.mp4", False),
        ("", False),
    ],
)
def test_only_what_is_below_a_prefix_is_fetched(url, allowed):
    assert (url in intake.AllowedUrls(["https://cdn.example.com/videos"])) is allowed
    assert url not in intake.AllowedUrls([])


@pytest.mark.parametrize("prefix", ["file:///srv", "https://", "https://u@h/x", "s3://b/x", "h/x"])
def test_prefixes_that_allow_more_than_they_say_are_refused(prefix):
    with pytest.raises(SettingsError, match="HOST/FOLDER"):
        intake.AllowedUrls([prefix])


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # as http.server calls it
        self.send_response({"/moved": 302, "/gone": 404}.get(self.path, 200))
        if self.path == "/moved":
            self.send_header("Location", "/good")
        self.send_header("Content-Length", str(3_000_000 if self.path == "/short" else 2_000_000))
        self.end_headers()
        self.wfile.write(bytes(2_000_000))

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def host():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_comes_whole_and_goes_again(host):
    with intake.fetched(f"{host}/good", 2, 20) as path:
        assert os.path.getsize(path) == 2_000_000
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("path", "most_mb", "seconds", "reason"),
    [
        ("/good", 1, 20, "larger than 1 MB"),
        ("/good", 2, 0.0, "took too long|cannot be fetched"),
        ("/short", 9, 20, "incomplete"),
        ("/moved", 9, 20, "status 302"),
        ("/gone", 9, 20, "status 404"),
    ],
)
def test_what_does_not_come_within_the_bounds_is_told(host, path, most_mb, seconds, reason):
    with (
        pytest.raises(UnreadableFileError, match=reason) as error,
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(intake.fetched(host + path, most_mb, max(seconds, 1e-3)))
    assert error.value.stage == "fetch" and "/tmp" not in str(error.value)


def test_nobody_there():
    with (
        pytest.raises(UnreadableFileError, match="cannot be fetched"),
        intake.fetched("http://127.0.0.1:9/a.mp4", 1, 5),
    ):
        pass


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\a.mkv", "a.mkv"),
        ("https://h/v/a%20b.mp4?sig=secret", "a b.mp4"),
        ("a\x1b[31m\n.mp4", "a[31m.mp4"),
        ("", "video"),
        (None, "video"),
    ],
)
def test_names_are_the_last_part_and_nothing_else(given, name):
    assert intake.name_of(given) == name
