"""Tests of differences: a worked example, and how often they reject when there is nothing."""

import numpy as np
import pytest

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.benchmarks import significance


def three(rng: np.random.Generator, num: int, gain: float) -> tuple[np.ndarray, ...]:
    """Scores of two models and a reference; `gain` makes the first the better one."""
    mos = rng.normal(size=num)
    shared_error = rng.normal(size=num)
    first, second = (
        mos + 0.5 * shared_error + noise * rng.normal(size=num) for noise in (0.5 - gain, 0.5)
    )
    return first, second, mos


def test_williams_against_a_worked_example():
    # paired.r(.5, .3, .4, 100) of R's package psych has the same formula: t = 2.06, p = 0.04.
    t, p = significance.williams(0.5, 0.3, 0.4, 100)
    assert round(t, 2) == 2.06
    assert round(p, 2) == 0.04
    assert significance.williams(0.3, 0.5, 0.4, 100) == pytest.approx((-t, p))
    assert significance.williams(0.5, 0.5, 0.4, 100) == (0.0, 1.0)
    assert all(map(np.isnan, significance.williams(0.5, float("nan"), 0.4, 100)))
    assert all(map(np.isnan, significance.williams(0.5, 0.3, 0.4, 3)))


def test_both_tests_reject_as_often_as_they_should():
    rng = np.random.default_rng(0)
    rounds = 100
    by_draws = by_t = found = 0
    for _ in range(rounds):
        first, second, mos = three(rng, 150, 0.0)
        by_draws += significance.paired_bootstrap(first, second, mos, "srcc", 200).p < 0.05
        r = np.corrcoef([first, second, mos])
        by_t += significance.williams(r[0, 2], r[1, 2], r[0, 1], 150)[1] < 0.05
        first, second, mos = three(rng, 150, 0.3)
        found += significance.paired_bootstrap(first, second, mos, "srcc", 200).p < 0.05
    assert 0 < by_draws / rounds < 0.12
    assert 0 < by_t / rounds < 0.12
    assert found / rounds > 0.7


def test_difference_has_the_sign_of_the_better_model():
    first, second, mos = three(np.random.default_rng(2), 400, 0.4)
    for metric, sign in (("srcc", 1), ("krcc", 1), ("rmse", -1)):
        found = significance.paired_bootstrap(first, second, mos, metric, 100)
        assert sign * found.value > 0
        assert found.low < found.value < found.high
        assert 0 < found.p < 0.05
        swapped = significance.paired_bootstrap(second, first, mos, metric, 100)
        assert swapped.value == pytest.approx(-found.value)
        assert swapped.p == found.p


def test_differences_that_one_content_makes_are_no_differences():
    rng = np.random.default_rng(4)
    mos = rng.normal(size=(5, 60))
    second = mos + 0.5 * rng.normal(size=mos.shape)
    first = second.copy()
    first[0] = mos[0]  # better on one of five scenes
    scenes = np.repeat(np.arange(5), 60)
    arguments = (first.ravel(), second.ravel(), mos.ravel(), "srcc", 300)
    assert significance.paired_bootstrap(*arguments).p < 0.05
    found = significance.paired_bootstrap(*arguments, contents=scenes)
    assert found.p > 0.05 and found.low <= 0 < found.value


def test_equal_models_do_not_differ():
    first, _, mos = three(np.random.default_rng(3), 50, 0.0)
    found = significance.paired_bootstrap(first, first, mos, draws=50)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_holm_by_hand():
    found = significance.holm([0.01, 0.04, float("nan"), 0.03])
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06], **TOLERANCES["exact_metric"])
