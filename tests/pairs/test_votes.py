"""Pairs that teachers label: labels, numbers, balance; against brute force over all pairs."""

import collections
import itertools
import math

import numpy as np
import pytest

from vqa_jax.pairs import levels, votes
from vqa_jax.pairs.votes import sample_teacher_pairs


def _scores(n=80, teachers=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) * 2 + rng.normal(size=(n, teachers)), [f"v{i}" for i in range(n)]


def _unordered(found):
    return [tuple(sorted((p.first_id, p.second_id))) for p in found]


def _draw_at_random(monkeypatch):
    monkeypatch.setattr(votes, "_ENUMERATE_BELOW", 0)


@pytest.mark.parametrize("at_random", [False, True])
def test_quota_is_filled_with_right_labels(monkeypatch, at_random):
    if at_random:
        _draw_at_random(monkeypatch)
    scores, ids = _scores()
    quota = {"inferior": 30, "worse": 20, "similar": 40, "better": 25, "superior": 35}
    found = sample_teacher_pairs(scores, ids, quota, seed=3, std_floor=0.1)
    assert collections.Counter(p.label for p in found) == quota
    assert len(set(_unordered(found))) == len(found)
    row = dict(zip(ids, scores, strict=True))
    for pair in found:
        first, second = row[pair.first_id], row[pair.second_id]
        assert pair.first_id != pair.second_id
        assert pair.label == levels.label_from_teachers(first, second, 0.1)
        margin, deviation = levels.teacher_margin(first, second, 0.1)
        np.testing.assert_allclose(pair.margin, margin, atol=1e-12)
        np.testing.assert_allclose(pair.normalized_margin, margin / deviation, atol=1e-12)
        np.testing.assert_allclose(
            (pair.first_mean, pair.second_mean, pair.first_std, pair.second_std),
            (first.mean(), second.mean(), first.std(), second.std()),
        )
    order = np.random.default_rng(0).permutation(len(ids))
    again = sample_teacher_pairs(
        scores[order], [ids[k] for k in order], quota, seed=3, std_floor=0.1
    )
    assert again == found
    assert sample_teacher_pairs(scores, ids, quota, seed=4, std_floor=0.1) != found


@pytest.mark.parametrize("at_random", [False, True])
@pytest.mark.parametrize("case", ["normal", "ties", "one teacher", "wide"])
def test_all_pairs_of_every_label_are_reached(monkeypatch, at_random, case):
    """Asked for more than there is, the sampler gives every pair that brute force finds."""
    if at_random:
        _draw_at_random(monkeypatch)
        monkeypatch.setattr(votes, "_MAX_CANDIDATES", 200_000)
    rng = np.random.default_rng(5)
    scores, ids = _scores(n=45, teachers=3, seed=1)
    floor = 0.3
    if case == "ties":
        scores = np.round(scores)
    elif case == "one teacher":
        scores = scores[:, :1]
    elif case == "wide":  # one video in three has an enormous deviation: strong labels are rare
        scores += 40 * rng.normal(size=scores.shape) * (rng.random((45, 1)) < 0.3)
    families = [f"f{k // 3}" for k in range(45)]
    expected = collections.Counter()
    for a, b in itertools.combinations(range(45), 2):
        margin, deviation = levels.teacher_margin(scores[a], scores[b], floor)
        on_bound = margin and any(
            math.isclose(abs(margin), k * deviation, rel_tol=1e-9) for k in (1, 2)
        )
        if a // 3 != b // 3 and not on_bound:
            label = levels.label_from_margin(margin, deviation)
            expected[min(label, levels.mirror(label))] += 1
    found = sample_teacher_pairs(scores, ids, 2000, 0, floor, families=families)
    assert collections.Counter(min(p.label, levels.mirror(p.label)) for p in found) == expected
    assert len(set(_unordered(found))) == len(found)
    counts = collections.Counter(p.label for p in found)
    for label in ("better", "superior"):
        assert abs(counts[label] - counts[levels.mirror(label)]) <= 1


def test_every_pair_of_a_label_is_equally_likely(monkeypatch):
    _draw_at_random(monkeypatch)
    scores, ids = _scores(n=16)
    drawn = collections.Counter()
    draws = 100
    for seed in range(draws):
        drawn.update(_unordered(sample_teacher_pairs(scores, ids, {"similar": 10}, seed)))
    monkeypatch.undo()
    every = sample_teacher_pairs(scores, ids, {"similar": 1000}, 0)
    assert drawn.keys() == set(_unordered(every))
    expected = draws * 10 / len(drawn)
    statistic = sum((count - expected) ** 2 / expected for count in drawn.values())
    # Chi-squared with len - 1 degrees of freedom: mean len - 1, deviation sqrt(2 (len - 1)).
    assert statistic < len(drawn) + 4 * math.sqrt(2 * len(drawn))


def test_order_is_balanced():
    scores, ids = _scores(n=200)
    found = sample_teacher_pairs(scores, ids, 400, seed=0)
    mean = dict(zip(ids, scores.mean(axis=1), strict=True))
    rising = [mean[p.second_id] > mean[p.first_id] for p in found]
    assert sum(rising) == len(found) // 2
    assert sum(x for x, p in zip(rising, found, strict=True) if p.label == "similar") == 200
    firsts = collections.Counter(p.first_id for p in found)
    seconds = collections.Counter(p.second_id for p in found)
    # A video is first or second as a coin falls: the difference over its deviation is normal.
    z = [
        (firsts[x] - seconds[x]) / math.sqrt(firsts[x] + seconds[x])
        for x in ids
        if firsts[x] + seconds[x]
    ]
    assert max(map(abs, z)) < 4.5 and abs(np.corrcoef(z, [mean[x] for x in ids])[0, 1]) < 0.2


def test_videos_with_missing_scores_are_left_out():
    scores, ids = _scores(n=60)
    scores[:5, 1] = np.nan
    found = sample_teacher_pairs(scores, ids, 60, seed=0)
    assert not {x for p in found for x in (p.first_id, p.second_id)} & set(ids[:5])
    some = sample_teacher_pairs(scores, ids, 300, seed=0, min_teachers=3)
    means = {
        x: m for p in some for x, m in ((p.first_id, p.first_mean), (p.second_id, p.second_mean))
    }
    assert ids[0] in means
    assert means[ids[0]] == pytest.approx(np.nanmean(scores[0]))


def test_pairs_on_a_bound_are_left_out():
    scores = np.array([[0.0], [1.0], [2.0], [5.0]])
    found = sample_teacher_pairs(scores, list("abcd"), 10, seed=0, std_floor=1.0)
    assert set(_unordered(found)) == {("a", "d"), ("b", "d"), ("c", "d")}


def test_a_rare_label_is_found_in_a_large_pool():
    """Two videos that all teachers agree on, among 20,000 of which they know nothing."""
    spread = 10 * np.random.default_rng(0).uniform(1, 1.2, (20_000, 1))
    scores = 50 + spread * [-1, 0, 1]
    scores[7], scores[11_000] = 99.0, 1.0
    ids = [f"v{k}" for k in range(20_000)]
    found = sample_teacher_pairs(scores, ids, {"total": 50_000, "superior": 1}, 0)
    # Each of the two against all others, and against each other: one pair in 5,000.
    assert len(found) == len(set(_unordered(found))) == 2 * 19_998 + 1
    assert all({p.first_id, p.second_id} & {"v7", "v11000"} for p in found)


def test_empty_and_impossible_input():
    assert len(sample_teacher_pairs(np.zeros((1, 2)), ["a"], 5, seed=0)) == 0
    assert len(sample_teacher_pairs(np.full((3, 2), np.nan), list("abc"), 5, seed=0)) == 0
    with pytest.raises(ValueError, match="unique keys"):
        sample_teacher_pairs(np.zeros((2, 2)), ["a", "a"], 5, seed=0)
    with pytest.raises(ValueError, match="no teacher"):
        sample_teacher_pairs(np.zeros((2, 0)), ["a", "b"], 5, seed=0)
    equal = sample_teacher_pairs(np.ones((3, 1)), list("abc"), 5, seed=0)
    assert {(p.label, p.normalized_margin) for p in equal} == {("similar", 0.0)}
