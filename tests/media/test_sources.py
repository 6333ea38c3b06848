"""Files, URLs, bytes and open files as local files, under their own names."""

import io
import os
import pathlib

import fsspec
import numpy as np
import pytest

from tests.fixtures import broken_files
from vqa_jax.extras import MissingExtraError
from vqa_jax.media import sources
from vqa_jax.media.container import NotAVideoError, UnreadableFileError
from vqa_jax.media.decode import read_frames
from vqa_jax.media.probe import probe


@pytest.fixture
def bucket():
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/b.mp4", b"/bucket/b.mp4")
    yield store
    store.rm("/bucket", recursive=True)


@pytest.fixture
def video(tmp_path) -> bytes:
    return broken_files.encode(tmp_path / "a.mp4").read_bytes()


def test_a_local_file_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = pathlib.Path("memory:/b.mp4")
    odd.parent.mkdir()
    odd.write_bytes(b"here")
    for name in (str(tmp_path / "gone.mp4"), odd, "memory://b.mp4"):
        with sources.local(name, 0) as path:
            assert path == os.fspath(name)
    assert odd.exists()


def test_a_remote_file_is_fetched_and_removed(bucket, video):
    bucket.pipe("/bucket/deep/video.mp4", video)
    with sources.local("memory://bucket/deep/video.mp4", 0) as path:
        assert path.endswith(".mp4") and pathlib.Path(path).read_bytes() == video
    assert not os.path.exists(path)


def test_fetching_fails_by_a_typed_error(bucket, monkeypatch):
    missing = "memory://bucket/none.mp4"
    with (
        pytest.raises(UnreadableFileError, match="cannot be fetched") as error,
        sources.local(missing, 0),
    ):
        pass
    assert (error.value.path, error.value.stage) == (missing, "fetch")
    with pytest.raises(UnreadableFileError, match="nowhere"), sources.local("nowhere://a", 0):
        pass
    whole = bucket.get_file
    monkeypatch.setattr(
        type(bucket), "get_file", lambda self, a, b, **_: (whole(a, b), os.truncate(b, 3))
    )
    with (
        pytest.raises(UnreadableFileError, match="3 of 13"),
        sources.local("memory://bucket/b.mp4", 0),
    ):
        pass


@pytest.mark.parametrize("known", [True, False])
def test_a_url_of_more_than_is_fetched_is_refused(bucket, monkeypatch, known):
    """Before, by the size that its store tells; else while it comes."""
    if not known:
        monkeypatch.setattr(type(bucket), "size", lambda self, url: None)
    monkeypatch.setattr(sources, "MOST_BYTES", 5)
    with (
        pytest.raises(UnreadableFileError, match="holds more than"),
        sources.local("memory://bucket/b.mp4", 0),
    ):
        pass


def test_fetching_ends_with_its_time(bucket):
    with (
        pytest.raises(UnreadableFileError, match="took longer than 1e-09 s"),
        sources.local("memory://bucket/b.mp4", 1e-9),
    ):
        pass


def test_an_error_inside_the_context_is_not_taken_for_a_failed_fetch(bucket):
    with pytest.raises(KeyError), sources.local("memory://bucket/b.mp4", 0):
        raise KeyError("of the caller")


def test_without_fsspec_a_url_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with (
        pytest.raises(MissingExtraError, match=r"vqa_jax\[urls\]"),
        sources.local("s3://a/b.mp4", 0),
    ):
        pass


def test_bytes_and_open_files_decode_as_their_file(video, tmp_path):
    wanted = read_frames(tmp_path / "a.mp4", [0, 3])
    with open(tmp_path / "a.mp4", "rb") as opened:
        for source in (video, bytearray(video), memoryview(video), io.BytesIO(video), opened):
            with sources.local(source, 0) as path:
                np.testing.assert_array_equal(read_frames(path, [0, 3]), wanted)
            assert not os.path.exists(path)


def test_a_picture_without_a_name_is_known_by_its_contents(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((8, 10, 3), 90, np.uint8)).save(tmp_path / "p.png")
    for name, kept in (("", ".png"), ("p.PNG", ".PNG")):
        file = io.BytesIO((tmp_path / "p.png").read_bytes())
        file.name = name
        with sources.local(file, 0) as path:
            assert probe(path).still and path.endswith(kept)


def test_errors_name_the_source_and_not_its_copy(tmp_path):
    class Named(io.BytesIO):
        name = "upload/../../x.mp4"

    for source, name in ((b"no video at all", ""), (Named(b"no video"), Named.name)):
        with pytest.raises(NotAVideoError) as error, sources.local(source, 0) as path:
            probe(path)
        assert error.value.path == name and str(error.value).startswith(f"{name}: ")
    with pytest.raises(UnreadableFileError, match="is empty"), sources.local(b"", 0) as path:
        probe(path)
    broken = io.BytesIO(b"")
    broken.close()
    with pytest.raises(UnreadableFileError, match="ValueError"), sources.local(broken, 0):
        pass


@pytest.mark.parametrize(
    ("source", "name"),
    [("a/b.mp4", "a/b.mp4"), (pathlib.Path("c.mp4"), "c.mp4"), (b"x", ""), (io.BytesIO(), "")],
)
def test_names(source, name):
    assert sources.is_source(source) and sources.name_of(source) == name
    assert not sources.is_source(np.zeros((1, 8, 8, 3), np.uint8)) and not sources.is_source([])
