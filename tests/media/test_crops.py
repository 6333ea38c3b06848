"""Crops of tiles: for training anywhere inside, for scoring the centre, in groups."""

import dataclasses

import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from vqa_jax.media import crops
from vqa_jax.media.preprocess import Preprocess


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


FIT = Preprocess(view="fit", image_size=32)


@pytest.mark.parametrize("shape", [(32, 64, 3), (4, 7)], ids=["pictures", "tokens"])
def test_fitted_frames_or_their_tokens_are_drawn_whole_and_in_order(shape):
    first, second = (
        np.arange(count)[(..., *[None] * len(shape))] * np.ones((1, *shape)) for count in (6, 2)
    )
    drawn = set()
    for seed in range(30):
        rngs = tuple(np.random.default_rng([seed, k]) for k in range(2))
        one, other = crops.training_frames(first, second, FIT, 3, 0.0, rngs)
        assert one.shape == (3, *shape) and other.shape == (2, *shape)
        numbers = one.reshape(3, -1)[:, 0].astype(int).tolist()
        assert numbers == sorted(set(numbers))
        np.testing.assert_array_equal(other, second)
        drawn.add(tuple(numbers))
        # The first video's draw does not depend on the second video.
        rngs = tuple(np.random.default_rng([seed, k]) for k in range(2))
        np.testing.assert_array_equal(
            one, crops.training_frames(first, first, FIT, 3, 0.0, rngs)[0]
        )
    assert len(drawn) > 5 and {n for numbers in drawn for n in numbers} == set(range(6))


@pytest.mark.parametrize("shape", [(32, 64, 3), (4, 7)], ids=["pictures", "tokens"])
def test_fitted_frames_or_their_tokens_are_dealt_into_groups(shape):
    frames = np.arange(5)[(..., *[None] * len(shape))] * np.ones((1, *shape))
    one_by_one = crops.scoring_groups(frames, FIT, 1)
    np.testing.assert_array_equal(one_by_one, frames[:, None])
    pairs = crops.scoring_groups(frames, FIT, 2)
    assert pairs.reshape(2, 2, -1)[..., 0].tolist() == [[0, 2], [1, 3]]
    np.testing.assert_array_equal(crops.scoring_groups(frames[:1], FIT, 2), frames[None, :1])


def test_tokens_of_tiles_are_chosen_and_not_cut():
    """A frozen tower has seen the tiles whole."""
    pre = dataclasses.replace(tiny_corpus.PREPROCESS, tile_size=16)
    tokens = np.arange(4 * 2 * 30.0).reshape(4, 2, 30)
    rngs = tuple(np.random.default_rng(k) for k in range(2))
    first, second = crops.training_frames(tokens, tokens, pre, 2, 1.0, rngs)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (2, 2, 30) and all(any((t == f).all() for t in tokens) for f in first)
    groups = crops.scoring_groups(tokens, pre, 2)
    np.testing.assert_array_equal(groups, tokens[[[0, 2], [1, 3]]])
