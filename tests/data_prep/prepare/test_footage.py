"""Frames of segments: the same from a file and decoded again, as often as asked, few at a time."""

import contextlib
import tempfile

import numpy as np
import pytest

from data_prep.prepare import footage
from tests.fixtures import broken_files, prep_corpus
from vqa_jax.media import container, decode


@pytest.fixture
def source(tmp_path):
    broken_files.encode(tmp_path / "a.mp4")
    (found,) = prep_corpus.sources(tmp_path, "a.mp4")
    return found


def _segments(source, stack, length=8):
    return footage.segments(source.location, source, [0, 5, 16], length, (40, 32), stack)


def test_frames_are_the_files_cut_to_their_windows(source, monkeypatch):
    passes = []
    real = decode.iter_frames
    monkeypatch.setattr(
        decode,
        "iter_frames",
        lambda path, wanted, info: passes.append(1) or real(path, wanted, info),
    )
    everything = [frame for _, frame in real(source.location)]
    with contextlib.ExitStack() as stack:
        found = _segments(source, stack)
        once = len(passes)
        for k, (segment, start) in enumerate(zip(found, [0, 5, 16], strict=True)):
            key = f"{source.source_id}:{k}"
            wanted = [footage.cut_window(f, (40, 32), key) for f in everything[start : start + 8]]
            first, second = segment.frames(), segment.frames()
            for frame in wanted:  # two readers at once
                np.testing.assert_array_equal(next(first), frame)
                np.testing.assert_array_equal(next(second), frame)
            assert next(first, None) is None
            assert (segment.clip.num_frames, segment.clip.height, segment.clip.width) == (8, 32, 40)
        assert len(passes) == once == 2  # one for the size of a frame
    with pytest.raises(ValueError, match="closed"):
        next(found[0].frames())


@pytest.mark.parametrize("why", ["many", "full"])
def test_what_has_no_room_is_decoded_again(source, monkeypatch, why):
    with contextlib.ExitStack() as stack:
        wanted = [list(segment.frames()) for segment in _segments(source, stack)]

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

    if why == "many":
        monkeypatch.setattr(footage, "_MOST_BYTES", 3 * 8 * 32 * 40 * 3 - 1)
    else:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: Full())
    with contextlib.ExitStack() as stack:
        found = _segments(source, stack)
        assert all(segment.kept is None for segment in found)
        for segment, frames in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(list(segment.frames()), frames)
        with pytest.raises(container.TruncatedVideoError, match="ends after 24 frames"):
            _segments(source, stack, length=9)
