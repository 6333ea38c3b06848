"""Passages of a video: every frame in one, all of one length."""

import itertools

import pytest

from vqa_jax.media import passages
from vqa_jax.media.container import MediaError
from vqa_jax.media.probe import VideoInfo

FPS = 10


def test_bounds_cover_every_frame_with_passages_of_one_length():
    for count in (1, 7, 20, 21, 35, 100):
        found = list(passages.bounds(count, FPS, 2.0, 1.0))
        assert {stop - start for start, stop in found} == {min(count, 20)}
        assert found[0][0] == 0 and found[-1][1] == count and len(set(found)) == len(found)
        assert all(b[0] <= a[1] for a, b in itertools.pairwise(found))
    for length, stride in ((0, 1), (2, 0), (1, 2), (float("nan"), 1)):
        with pytest.raises(ValueError, match="stride"):
            next(passages.bounds(10, FPS, length, stride))


def _info(frames):
    return VideoInfo("a.mp4", "mp4", "h264", 8, 8, float(FPS), frames, frames / FPS)


def test_a_part_is_planned_in_frames_of_the_whole():
    whole = list(passages.bounds(100, FPS, 2.0, 1.0))
    assert list(passages.planned(_info(100), 2.0, 1.0)) == whole
    assert list(passages.planned(_info(100), 2.0, 1.0, 3.0, 4.0)) == [(30, 50), (40, 60), (50, 70)]
    assert list(passages.planned(_info(100), 2.0, 1.0, 9.0, 50.0)) == [(90, 100)]  # what is left
    with pytest.raises(MediaError, match="ends before 10 s"):
        passages.planned(_info(100), 2.0, 1.0, 10.0)
    for start, seconds in ((-1.0, 0.0), (0.0, -1.0), (float("nan"), 0.0)):
        with pytest.raises(ValueError, match="starts at 0"):
            passages.planned(_info(100), 2.0, 1.0, start, seconds)
