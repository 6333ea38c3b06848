"""Matching of histograms: against enumeration and against HiGHS."""

import itertools

import numpy as np
import pytest

from data_prep.selection import histogram_matching


def problem(seed, num_rows, num_bins=4, num_sources=2, metrics=9):
    rng = np.random.default_rng(seed)
    bins = rng.integers(0, num_bins, (metrics, num_rows))
    targets = rng.dirichlet(np.full(num_bins, 3.0), metrics)
    return bins, targets, rng.integers(0, num_sources, num_rows)


def mean_distance(bins, targets, chosen):
    shares = [np.bincount(b[chosen], minlength=targets.shape[1]) / chosen.sum() for b in bins]
    return np.abs(np.stack(shares) - targets).sum(axis=1).mean() / 2


def test_small_problems_are_solved_exactly():
    bins, targets, sources = problem(0, 12, num_bins=3, metrics=3)
    rows = [np.flatnonzero(sources == s) for s in (0, 1)]
    assert min(map(len, rows)) >= 3
    best = np.inf
    for first in itertools.combinations(rows[0], 3):
        for second in itertools.combinations(rows[1], 2):
            chosen = np.isin(np.arange(12), first + second)
            best = min(best, mean_distance(bins, targets, chosen))
    found = histogram_matching.match_histograms(bins, targets, sources, [3, 2], 0)
    assert found.exact
    np.testing.assert_allclose(found.distances.mean(), best, atol=1e-9)
    np.testing.assert_allclose(found.bound, best, atol=1e-6)
    assert mean_distance(bins, targets, found.chosen) == pytest.approx(best)


def test_relaxation_comes_close_to_what_highs_proves(monkeypatch):
    bins, targets, sources = problem(1, 120)
    exact = histogram_matching.match_histograms(bins, targets, sources, [20, 10], 0)
    monkeypatch.setattr(histogram_matching, "_EXACT_ROWS", 0)
    relaxed = histogram_matching.match_histograms(bins, targets, sources, [20, 10], 0)
    assert exact.exact and not relaxed.exact
    assert relaxed.bound <= exact.distances.mean() + 1e-9
    # Two rows in the wrong bin of every metric.
    assert exact.distances.mean() <= relaxed.distances.mean() <= exact.distances.mean() + 2 / 30
