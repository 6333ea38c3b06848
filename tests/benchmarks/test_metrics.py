"""Correlations against published numbers, by-hand versions and odd inputs."""

import csv

import numpy as np
import pytest
from scipy import optimize, stats

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.benchmarks import metrics


def test_published_scores_give_their_published_correlations(shared):
    with open(shared / "benchmarks/dover/KoNViD-1k.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {k: np.array([float(r[k]) for r in rows]) for k in ("mos", "technical", "aesthetic")}
    z = {k: (v - v.mean()) / v.std() for k, v in columns.items()}
    found = metrics.correlate(z["technical"] + z["aesthetic"], columns["mos"])
    assert round(found["srcc"], 4) == 0.8825
    assert round(found["plcc"], 4) == 0.8836
    assert found["plcc"] <= found["plcc_logistic"] < 0.9


def field_logistic(x, b1, b2, b3, b4):
    return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4)))


@pytest.mark.parametrize(
    "name", ["CVD2014", "KoNViD-1k", "LIVE-VQC", "LSVQ_1080p", "LSVQ_test", "YouTube-UGC"]
)
@pytest.mark.parametrize("column", ["technical", "aesthetic"])
def test_real_predictions_agree_with_scipy_to_four_digits(shared, name, column):
    with open(shared / f"benchmarks/dover/{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    x, y = (np.array([float(r[k]) for r in rows]) for k in (column, "mos"))
    start = [y.max(), y.min(), x.mean(), x.std()]  # as the field's scripts start
    fitted = field_logistic(x, *optimize.curve_fit(field_logistic, x, y, start, maxfev=100_000)[0])
    expected = {
        "srcc": stats.spearmanr(x, y)[0],
        "plcc": stats.pearsonr(x, y)[0],
        "krcc": stats.kendalltau(x, y)[0],
        "plcc_logistic": stats.pearsonr(fitted, y)[0],
        "rmse": np.sqrt(np.mean((fitted - y) ** 2)),
    }
    found = metrics.correlate(x, y)
    assert found == pytest.approx(expected, **TOLERANCES["four_digits"])


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
        lambda: metrics.fit_logistic([1, 1, 1, 1], [1, 2, 3, 4]),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()
