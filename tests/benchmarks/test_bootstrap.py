"""Bootstrap distributions against scipy on the repeated videos, and their coverage."""

import numpy as np
import pytest

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.benchmarks import bootstrap, metrics


def scores(num: int, ties: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=num)
    y = 50 + 10 * (np.tanh(x) + 0.5 * rng.normal(size=num))
    return (x.round(1), y.round()) if ties else (x, y)


@pytest.mark.parametrize(("num", "ties"), [(5, True), (64, True), (65, False), (300, True)])
def test_every_resample_equals_scipy_on_the_repeated_videos(num, ties):
    x, y = scores(num, ties)
    draws = 18
    found = bootstrap.distributions(x, y, draws, seed=3)
    counts = np.concatenate(list(bootstrap._resamples(num, draws, 3)), axis=1).T
    assert (counts.sum(1) == num).all()
    again = [np.repeat(np.arange(num), row.astype(int)) for row in counts]
    expected = [metrics.correlate(x[rows], y[rows]) for rows in again]
    for metric in ("srcc", "plcc", "krcc"):
        np.testing.assert_allclose(
            found[metric], [e[metric] for e in expected], **TOLERANCES["exact_metric"]
        )
    if num < 60:
        return
    rmse = np.array([e["rmse"] for e in expected])
    off = np.abs(found["rmse"] - rmse) / rmse
    assert np.median(off) < TOLERANCES["resampled_fit"]["rtol"] / 10
    assert np.quantile(off, 0.75) < TOLERANCES["resampled_fit"]["rtol"]
    off = np.abs(found["plcc_logistic"] - [e["plcc_logistic"] for e in expected])
    assert np.quantile(off, 0.75) < TOLERANCES["resampled_fit"]["rtol"]


def test_intervals_hold_the_truth_as_often_as_they_say():
    truth, hits = 0.7, 0
    rng = np.random.default_rng(1)
    for _ in range(150):
        x = rng.normal(size=200)
        y = truth * x + np.sqrt(1 - truth**2) * rng.normal(size=200)
        draws = bootstrap.distributions(x, y, 200, 0, ("plcc",))["plcc"]
        low, high = bootstrap.interval(draws)
        hits += low < truth < high
    assert 0.89 < hits / 150 < 0.99


def test_equal_seeds_draw_equal_videos():
    x, y = scores(40, False)
    one, other, different = (
        bootstrap.distributions(x, y, 30, seed, ("srcc",))["srcc"] for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, other)
    assert (one != different).any()
    part = bootstrap.distributions(x, -y, 30, 5, ("srcc", "krcc"))
    np.testing.assert_allclose(part["srcc"], -one, **TOLERANCES["exact_metric"])


def test_undefined_resamples_are_nan_and_left_out():
    found = bootstrap.distributions([1, 1, 2], [1, 2, 3], 200)
    assert np.isnan(found["plcc"]).any() and np.isfinite(found["plcc"]).any()
    assert np.isnan(found["rmse"]).all()
    assert bootstrap.interval(found["plcc"])[1] <= 1 + 1e-12
    constant = bootstrap.distributions([2, 2, 2], [1, 2, 3], 10)
    assert all(np.isnan(v).all() for v in constant.values())
    assert all(map(np.isnan, bootstrap.interval(constant["srcc"])))


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap.distributions([1, 2], [1, 2], which=("r2",)),
        lambda: bootstrap.distributions([1, 2, 3], [1, 2]),
        lambda: bootstrap.interval(np.zeros(3), 95),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()
