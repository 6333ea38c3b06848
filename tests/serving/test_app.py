"""The service asked as programs ask it: right numbers, reasons for all else, no path of its own."""

import concurrent.futures
import os
import signal
import tempfile
import time

import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.fixtures import isolated_work, noise_video
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media import isolation, view
from vqa_jax.scoring import explanation, timeline, versions
from vqa_jax.serving.app import make_app
from vqa_jax.serving.config import ServeConfig
from vqa_jax.settings import DecodeLimits


def ask(client, path, files=(), **data):
    """(status, JSON) of a POST with files {field: path, or (name, bytes)}."""
    opened = {}
    for field, file in dict(files).items():
        if isinstance(file, str):
            with open(file, "rb") as f:
                file = os.path.basename(file), f.read()
        opened[field] = file
    answer = client.post(path, files=opened, data=data)
    assert tempfile.gettempdir() not in answer.text
    return answer.status_code, answer.json()


def near(found, wanted):
    return found == pytest.approx(wanted, abs=TOLERANCES["served_score"]["atol"])


def test_the_score_is_that_of_the_command_alone_and_among_others(client, student, videos):
    wanted = {path: student.score(path).score for path in (videos.good, videos.dark)}
    assert wanted[videos.good] > wanted[videos.dark] + 1
    paths = [videos.good, videos.dark] * 4
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: ask(client, "/v1/score", {"video": path}), paths))
    for path, (status, answer) in zip(paths, found, strict=True):
        assert status == 200 and answer["curve"] is None
        assert near(answer["result"]["score"], wanted[path])
        assert answer["result"]["path"] == os.path.basename(path)
        assert answer["result"]["scale"] and answer["result"]["error"] is None


def test_the_curve_is_that_of_timeline_up_to_the_bound(client, student, videos):
    status, answer = ask(client, "/v1/score", {"video": videos.part}, curve=True, pictures=True)
    wanted = timeline.score_passages(student, videos.part, 2.0, 1.0, seconds=8.0)
    curve = answer["curve"]
    assert status == 200 and curve["note"] == "the first 8 s"
    assert [m["start"] for m in curve["moments"]] == [m.start for m in wanted.moments]
    assert near([m["score"] for m in curve["moments"]], [m.score for m in wanted.moments])
    assert curve["worst"][0]["moment"]["start"] == 6
    assert curve["worst"][0]["picture"]["crop"].startswith("data:image/jpeg;base64,")
    _, plain = ask(client, "/v1/score", {"video": videos.good}, curve=True)
    assert plain["curve"]["note"] == "" and plain["curve"]["worst"][0]["picture"] is None


def test_an_explanation_is_that_of_the_command(client, student, videos):
    status, answer = ask(client, "/v1/score", {"video": videos.good}, explain=True)
    found, wanted = answer["explanation"], explanation.explain(student, videos.good)
    assert status == 200 and answer["curve"] is None
    assert near(found["pictures"], wanted.pictures) and near(found["motion"], wanted.motion)
    assert near(found["undistorted"], wanted.undistorted)
    assert found["heat"].startswith("data:image/jpeg") and found["text"] and found["what_not"]
    assert near([p["score"] for p in found["places"]], [p.score for p in wanted.places])


def test_a_student_without_a_head_says_so_and_names_no_folder(student, videos, monkeypatch):
    monkeypatch.setitem(student.__dict__, "flaw_head", None)
    with TestClient(make_app(student, ServeConfig())) as client:
        assert "data-explains" not in client.get("/").text
        status, answer = ask(client, "/v1/score", {"video": videos.good}, explain=True)
    assert status == 422 and "no auxiliary head" in answer["error"]


def test_two_are_compared_as_by_the_command(client, student, videos):
    files = {"first": videos.dark, "second": videos.good}
    status, answer = ask(client, "/v1/compare", files, over_time=True, pictures=True)
    wanted = versions.rank(student, [videos.dark, videos.good])
    assert status == 200
    assert near(answer["pair"]["second_better"], wanted.pairs[0].second_better)
    assert near([v["score"] for v in answer["versions"]], [v.score for v in wanted.versions])
    assert [v["path"] for v in answer["versions"]] == ["dark.mp4", "good.mp4"]
    over = answer["over_time"]
    assert len(over["moments"]) == 2 and over["note"] == ""
    assert over["most"][0]["second"]["crop"].startswith("data:image/jpeg")
    files["second"] = videos.part
    _, answer = ask(client, "/v1/compare", files, over_time=True)
    assert "seconds long" in answer["over_time"]["note"]
    assert ask(client, "/v1/compare", files)[1]["over_time"] is None


def test_a_picture_has_a_score_and_a_curve_of_one_moment(client, student, tmp_path):
    path = str(tmp_path / "a.png")
    Image.fromarray(next(noise_video.noise(1))).save(path)
    status, answer = ask(client, "/v1/score", {"video": path}, curve=True, explain=True)
    assert status == 200 and len(answer["curve"]["moments"]) == 1
    assert near(answer["result"]["score"], student.score(path).score)
    assert answer["explanation"]["motion"] is None


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/hostname\n"


@pytest.mark.parametrize(
    "file",
    [
        ("empty.mp4", b""),
        ("text.mp4", b"no video at all"),
        ("list.m3u8", PLAYLIST),
        ("list.mp4", PLAYLIST),
        ("list.ffconcat", CONCAT),
        ("../../../etc/passwd", b"root"),
    ],
)
def test_what_is_no_video_is_refused_with_a_reason(client, file):
    status, answer = ask(client, "/v1/score", {"video": file})
    assert status == 422 and answer["error"] and answer["file"] == os.path.basename(file[0])
    status, answer = ask(client, "/v1/compare", {"first": file, "second": file})
    assert status == 422 and answer["stage"] == "probe"


def test_a_cut_file_has_a_score_and_a_note_or_a_reason(client, videos):
    with open(videos.part, "rb") as file:
        cut = file.read()[: os.path.getsize(videos.part) // 2]
    status, answer = ask(client, "/v1/score", {"video": ("cut.mkv", cut)}, curve=True)
    if status == 200:
        assert answer["result"]["notes"]
    else:
        assert status == 422 and answer["error"]


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/v1/score", {}, 422),
        ("/v1/score", {"url": "file:///etc/passwd"}, 403),
        ("/v1/score", {"url": "/etc/passwd"}, 403),
        ("/v1/score", {"video": "/etc/passwd"}, 422),
        ("/v1/compare", {"first_url": "https://example.com/a.mp4"}, 403),
        ("/v1/nothing", {}, 404),
        ("/etc/passwd", {}, 404),
    ],
)
def test_paths_and_urls_are_no_way_in(client, path, data, status):
    found, answer = ask(client, path, **data)
    assert found == status and answer["error"]


@pytest.mark.parametrize(
    "path", ["/static/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"]
)
def test_nothing_of_the_disk_is_served(client, path):
    assert client.get(path).status_code == 404


def test_a_killed_child_costs_its_own_request_alone(client, student, videos, monkeypatch):
    """The first of two requests hangs in its decoder, which is killed from outside."""
    hung = []
    original = isolation.Isolated.call

    def call(child, path, fn, *args):
        if fn is view.video_input and not hung:
            hung.append(child)
            return original(child, path, isolated_work.spin)
        return original(child, path, fn, *args)

    monkeypatch.setattr(isolation.Isolated, "call", call)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        lost = pool.submit(ask, client, "/v1/score", {"video": videos.good})
        until = time.monotonic() + 60
        while not (hung and hung[0]._is_ready) and time.monotonic() < until:
            time.sleep(0.02)
        other = pool.submit(ask, client, "/v1/score", {"video": videos.dark})
        status, answer = other.result()
        assert status == 200 and near(answer["result"]["score"], student.score(videos.dark).score)
        os.kill(hung[0]._process.pid, signal.SIGKILL)
        status, answer = lost.result()
    assert (status, answer["stage"], answer["file"]) == (422, "limit", "good.mp4")
    assert "killed from outside" in answer["error"]


def test_work_that_takes_too_long_is_told(student, videos, monkeypatch):
    config = ServeConfig(DecodeLimits(seconds=60), work_seconds=0.5)
    original = isolation.Isolated.call

    def call(child, path, fn, *args):
        return original(child, path, isolated_work.spin)

    monkeypatch.setattr(isolation.Isolated, "call", call)
    with TestClient(make_app(student, config)) as client:
        status, answer = ask(client, "/v1/score", {"video": videos.good})
    assert status == 504 and "0.5 s" in answer["error"]


def test_state_numbers_and_pages(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert "vqa_jax_batch_videos_count" in client.get("/metrics").text
    api = client.get("/openapi.json").json()
    assert {"/v1/score", "/v1/compare", "/healthz"} <= set(api["paths"])
    for path, kind in (
        ("/", "html"),
        ("/docs", "html"),
        ("/page.js", "script"),
        ("/page.css", "css"),
    ):
        answer = client.get(path)
        assert answer.status_code == 200 and kind in answer.headers["content-type"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    docs = client.get("/docs").text
    assert "/v1/compare" in docs and "over_time" in docs and "second_better" not in docs
    assert client.get("/redoc").status_code == 404
