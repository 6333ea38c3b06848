"""Crops of tiles: for training anywhere inside, for scoring the centre, in groups."""

import dataclasses

import numpy as np

from tests.fixtures import tiny_corpus
from vqa_jax.media import crops


def test_training_crops_lie_inside_their_tiles_and_may_be_shared():
    pre = tiny_corpus.PREPROCESS
    tiles = np.arange(4 * 20 * 20 * 3, dtype=np.int64).reshape(4, 20, 20, 3)

    def windows(share, seed):
        rngs = tuple(np.random.default_rng([seed, k]) for k in range(2))
        return crops.training_frames(tiles, tiles, pre, 2, share, rngs)

    corners = set()
    for seed in range(20):
        first, second = windows(1.0, seed)
        np.testing.assert_array_equal(first, second)
        for frame in first:
            tile, rest = divmod(int(frame[0, 0, 0]), 20 * 20 * 3)
            y, x = divmod(rest // 3, 20)
            np.testing.assert_array_equal(frame, tiles[tile, y : y + 16, x : x + 16])
            corners.add((tile, y, x))
    assert {c[0] for c in corners} == {0, 1, 2, 3}
    assert {max(c[1] for c in corners), max(c[2] for c in corners)} == {4}
    assert any(not np.array_equal(*windows(0.0, seed)) for seed in range(3))


def test_scoring_deals_centre_crops_into_groups_that_span_the_video():
    pre = tiny_corpus.PREPROCESS
    tiles = np.arange(5 * 20 * 20 * 3).reshape(5, 20, 20, 3)
    groups = crops.scoring_groups(tiles, pre, 2)
    assert groups.shape == (2, 2, 16, 16, 3)
    np.testing.assert_array_equal(groups[0], tiles[[0, 2], 2:18, 2:18])
    np.testing.assert_array_equal(groups[1], tiles[[1, 3], 2:18, 2:18])
    squash = dataclasses.replace(pre, view="squash")
    frames = np.arange(5)[:, None, None, None] * np.ones((1, 16, 16, 3), int)
    np.testing.assert_array_equal(crops.scoring_groups(frames, squash, 3)[0, :, 0, 0, 0], [0, 2, 4])
