"""The sampler against its definition: epochs whole, batches of one bucket, groups sound."""

import collections
import concurrent.futures
import itertools
import sys

import numpy as np
import pytest

from vqa_jax.training import sampling
from vqa_jax.training.sampling import PairIndex, Sampler, Source

LEVELS = 6


def _cliques(count, drop=0):
    """All pairs of the levels of `count` clips, in a random order and orientation."""
    rng = np.random.default_rng(5)
    pairs = [
        (LEVELS * clip + a, LEVELS * clip + b)
        for clip in range(count)
        for a, b in itertools.combinations(range(LEVELS), 2)
    ]
    pairs = rng.permuted(np.array(pairs), axis=1)[rng.permutation(len(pairs))]
    return pairs[: len(pairs) - drop].T


def _index(pairs, buckets=1):
    clip = pairs[0] // LEVELS
    return PairIndex(pairs[0], pairs[1], clip % buckets)


def _drawn(sampler, steps):
    return np.concatenate([sampler.draw(t).pairs.ravel() for t in steps])


@pytest.mark.parametrize("buckets", [1, 3])
@pytest.mark.parametrize("group_size", [1, 4])
def test_every_pair_is_drawn_once_an_epoch(buckets, group_size):
    pairs = _cliques(8)
    whole = [Source(np.arange(pairs.shape[1]), 1.0)]
    sampler = Sampler(_index(pairs, buckets), whole, 4, group_size, True, 7)
    if group_size == 1:  # 120 pairs are 30 batches: windows are epochs
        assert sampler.steps_per_window == 30
        for epoch in range(3):
            drawn = _drawn(sampler, range(30 * epoch, 30 * epoch + 30))
            np.testing.assert_array_equal(np.sort(drawn), np.arange(120))
        return
    # Whatever the groups are, no pair is ever more than one pass ahead of another.
    for window in range(4):
        drawn = _drawn(sampler, range((window + 1) * sampler.steps_per_window))
        counts = np.bincount(drawn[drawn >= 0], minlength=120)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("group_size", [1, 3])
def test_mixed_sources_are_passed_over_evenly_and_by_weight(group_size):
    pairs = _cliques(7, drop=4)
    n = pairs.shape[1]
    members = [np.arange(0, 60), np.arange(60, 71), np.arange(71, n)]
    weights = np.array([0.6, 0.1, 0.3])
    sources = [Source(m, 2 * w) for m, w in zip(members, weights, strict=True)]
    sampler = Sampler(_index(pairs, 2), sources, 5, group_size, True, 0)
    shares = np.zeros(3)
    for window in range(1, 8):
        drawn = _drawn(sampler, range(window * sampler.steps_per_window))
        counts = np.bincount(drawn[drawn >= 0], minlength=n)
        for m in members:
            assert counts[m].max() - counts[m].min() <= 1
        shares = np.array([counts[m].sum() for m in members]) / counts.sum()
    np.testing.assert_allclose(shares, weights, atol=0.01 if group_size == 1 else 0.03)


def test_stream_is_mixed_alike_however_it_is_cut():
    weights = np.array([0.07, 0.5, 0.03, 0.4])
    whole = sampling.mixed(weights, 0, 5000)
    for begin, end in ((0, 1), (17, 18), (123, 129), (2000, 4000), (4999, 5000)):
        for got, wanted in zip(sampling.mixed(weights, begin, end), whole, strict=True):
            np.testing.assert_array_equal(got, wanted[begin:end])
    for k, weight in enumerate(weights):  # in order, none left out, evenly spread
        np.testing.assert_array_equal(whole[1][whole[0] == k], np.arange((whole[0] == k).sum()))
        ahead = np.cumsum(whole[0] == k) - weight * np.arange(1, 5001)
        assert np.abs(ahead).max() < 2


def test_batches_hold_one_bucket_and_few_shorter_pairs():
    pairs = _cliques(30)
    index = _index(pairs, 3)
    sampler = Sampler(index, [Source(np.arange(pairs.shape[1]), 1.0)], 16, 1, True, 3)
    promoted, order = 0, []
    for step in range(3 * sampler.steps_per_window):
        draw = sampler.draw(step)
        assert index.bucket[draw.pairs].max() <= draw.bucket
        promoted += int((index.bucket[draw.pairs] < draw.bucket).sum())
        order.append(draw.bucket)
    assert promoted <= 3 * 2 * 15  # what does not fill a batch, window by window
    per_window = np.array(order).reshape(3, -1)
    assert all(len(set(row[:12])) == 3 for row in per_window)  # not one bucket after another


@pytest.mark.parametrize("group_size", [1, 4])
def test_draw_follows_from_the_step_alone(group_size):
    pairs = _cliques(9)
    sources = [Source(np.arange(0, 50), 1.0), Source(np.arange(50, pairs.shape[1]), 1.0)]

    def make(seed=4):
        return Sampler(_index(pairs, 2), sources, 6, group_size, True, seed)

    used = make()
    steps = [0, 1, 60, 7, 200, 3]
    for step in steps:
        got, fresh = used.draw(step), make().draw(step)
        assert got.bucket == fresh.bucket
        np.testing.assert_array_equal(got.pairs, fresh.pairs)
        np.testing.assert_array_equal(got.swapped, fresh.swapped)
    other = make(seed=5)
    assert any(not np.array_equal(used.draw(t).pairs, other.draw(t).pairs) for t in range(3))


@pytest.mark.parametrize("group_size", [1, 4])
def test_threads_that_draw_at_once_find_the_same_batches(group_size, monkeypatch):
    pairs = _cliques(100)
    planned = []
    real = Sampler._plan
    monkeypatch.setattr(Sampler, "_plan", lambda self, w: (planned.append(w), real(self, w))[1])

    def make():
        source = [Source(np.arange(pairs.shape[1]), 1.0)]
        return Sampler(_index(pairs, 2), source, 4, group_size, True, 7)

    alone = make()
    steps = range(4 * alone.steps_per_window)
    wanted = [alone.draw(t) for t in steps]
    planned.clear()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads change places in the midst of everything
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            found = list(threads.map(make().draw, steps))
    finally:
        sys.setswitchinterval(interval)
    for got, expected in zip(found, wanted, strict=True):
        assert got.bucket == expected.bucket
        np.testing.assert_array_equal(got.pairs, expected.pairs)
        np.testing.assert_array_equal(got.swapped, expected.swapped)
    assert sorted(planned) == [0, 1, 2, 3]  # a window is planned once, whoever asks


@pytest.mark.parametrize("swap", [True, False])
def test_groups_share_the_video_that_comes_first(swap):
    pairs = _cliques(10)
    sampler = Sampler(_index(pairs), [Source(np.arange(pairs.shape[1]), 1.0)], 4, 4, swap, 1)
    sizes = []
    for step in range(sampler.steps_per_window):
        draw = sampler.draw(step)
        for group, turned in zip(draw.pairs, draw.swapped, strict=True):
            kept = group >= 0
            first = np.where(turned, pairs[1][group], pairs[0][group])[kept]
            assert len(set(first)) == 1
            assert swap or not turned.any()
            sizes.append(kept.sum())
    # 15 pairs of a clip make three full groups, and one or two of the rest.
    assert not swap or np.mean(sizes) > 3


def test_both_orders_of_a_pair_are_as_likely_in_groups():
    pairs = _cliques(1)
    turned = np.zeros(15)
    for seed in range(400):
        for video, group in sampling.star_groups(*pairs, 4, True, np.random.default_rng(seed)):
            turned[group] += pairs[0][group] != video
    assert np.all(np.abs(turned / 400 - 0.5) < 4 * 0.5 / np.sqrt(400))


def test_orders_without_groups_are_balanced_too():
    pairs = _cliques(4)
    sampler = Sampler(_index(pairs), [Source(np.arange(60), 1.0)], 6, 1, True, 2)
    turned = collections.Counter()
    for step in range(200 * 10):
        draw = sampler.draw(step)
        turned.update(draw.pairs[draw.swapped].tolist())
    assert all(abs(turned[k] - 100) < 4 * np.sqrt(200 / 4) for k in range(60))
