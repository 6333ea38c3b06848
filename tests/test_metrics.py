"""Correlations against published numbers, by-hand versions and odd inputs."""

import csv

import numpy as np
import pytest

from vqa_jax import metrics


def test_published_scores_give_their_published_correlations(shared):
    with open(shared / "benchmarks/dover/KoNViD-1k.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {k: np.array([float(r[k]) for r in rows]) for k in ("mos", "technical", "aesthetic")}
    z = {k: (v - v.mean()) / v.std() for k, v in columns.items()}
    found = metrics.correlate(z["technical"] + z["aesthetic"], columns["mos"])
    assert round(found["srcc"], 4) == 0.8825
    assert round(found["plcc"], 4) == 0.8836
    assert found["plcc"] <= found["plcc_logistic"] < 0.9
    low, high = metrics.bootstrap_interval(
        z["technical"], columns["mos"], "plcc", num_resamples=100
    )
    assert low < metrics.correlate(z["technical"], columns["mos"])["plcc"] < high


def test_ranks_by_hand():
    predicted, mos = [1.0, 2, 2, 5, 4], [10.0, 30, 20, 50, 60]
    # ranks 1 2.5 2.5 5 4 and 1 3 2 4 5; of ten pairs one is tied and one is the wrong way round
    assert metrics.correlate(predicted, mos)["srcc"] == pytest.approx(8.5 / np.sqrt(9.5 * 10))
    assert metrics.correlate(predicted, mos)["krcc"] == pytest.approx(7 / np.sqrt(9 * 10))


@pytest.mark.parametrize("truth", [(80, 20, 0.3, 0.1), (20, 80, 1e4, 3e3), (5, 1, -2e-4, 1e-5)])
def test_logistic_fit_recovers_its_parameters_in_any_units(truth):
    x = truth[2] + truth[3] * np.linspace(-4, 4, 60)
    y = metrics.logistic(x, truth)
    np.testing.assert_allclose(metrics.fit_logistic(x, y), truth, rtol=1e-4)
    found = metrics.correlate(x, y)
    assert found["plcc_logistic"] == pytest.approx(1)
    assert found["rmse"] == pytest.approx(0, abs=1e-4 * np.ptp(y))
    assert found["srcc"] == pytest.approx(np.sign(truth[0] - truth[1]))


def test_logistic_fit_is_at_least_as_good_as_a_line():
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1, 1e5):
        x = rng.normal(size=50) * scale
        y = 3 * x / scale + rng.normal(size=50)
        line = np.polyval(np.polyfit(x, y, 1), x)
        assert metrics.correlate(x, y)["rmse"] <= np.sqrt(np.mean((line - y) ** 2)) * 1.01


@pytest.mark.parametrize(
    ("predicted", "mos"), [([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]), ([1, 2, 3], [2, 2, 2]), ([], [])]
)
def test_constant_or_empty_input_is_nan(predicted, mos):
    found = metrics.correlate(predicted, mos)
    assert set(found) == set(metrics.METRICS)
    assert all(np.isnan(v) for v in found.values())
    assert all(np.isnan(metrics.bootstrap_interval(predicted, mos, num_resamples=3)))


def test_three_videos_have_ranks_but_no_fit():
    found = metrics.correlate([1, 2, 3], [1, 2, 4])
    assert found["srcc"] == pytest.approx(1)
    assert np.isnan(found["plcc_logistic"])


def test_overall_is_weighted_by_videos():
    overall = metrics.weighted_overall({"a": 0.9, "b": 0.6}, {"a": 100, "b": 200, "c": 5})
    assert overall == pytest.approx(0.7)


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.correlate([1, 2], [1, 2, 3]),
        lambda: metrics.correlate([1, np.nan, 2], [1, 2, 3]),
        lambda: metrics.weighted_overall({}, {}),
        lambda: metrics.bootstrap_interval([1, 2], [1, 2], "rmse"),
        lambda: metrics.fit_logistic([1, 1, 1, 1], [1, 2, 3, 4]),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()
