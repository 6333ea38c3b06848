"""Passages of a video: every frame in one, all of one length."""

import itertools

import pytest

from vqa_jax.media import passages

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
