"""Bootstrap distributions against scipy on the repeated videos, and their coverage."""

import numpy as np
import pytest
from scipy import stats

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
    counts = np.concatenate(list(bootstrap._resamples(np.arange(num), draws, 3)), axis=1).T
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


def test_contents_are_drawn_with_all_their_videos():
    x, y = scores(60, True)
    contents = [f"scene {k % 7}" for k in range(60)]
    found = bootstrap.distributions(x, y, 20, 3, ("srcc", "plcc", "krcc"), contents)
    drawn = np.random.default_rng(3).integers(0, 7, (16, 7))  # as many as are made at once
    for k, scenes in enumerate(drawn):
        rows = np.concatenate([np.arange(scene, 60, 7) for scene in scenes])
        expected = metrics.correlate(x[rows], y[rows], ("srcc", "plcc", "krcc"))
        for metric, value in expected.items():
            np.testing.assert_allclose(found[metric][k], value, **TOLERANCES["exact_metric"])
    alone = bootstrap.distributions(x, y, 20, 3, ("srcc",), [f"{k}" for k in range(60)])
    plain = bootstrap.distributions(x, y, 20, 3, ("srcc",))
    np.testing.assert_array_equal(alone["srcc"], plain["srcc"])


def test_few_units_widen_an_interval_as_students_does():
    # The mean's bootstrap is nearly normal with the deviation of n, where Student's has n - 1.
    rng = np.random.default_rng(0)
    sample = rng.normal(size=12)
    means = rng.choice(sample, (200_000, 12)).mean(1)
    normal = sample.mean() + sample.std() / np.sqrt(12) * rng.normal(size=200_000)
    low, high = bootstrap.interval(normal, units=12)
    expected = stats.t.interval(0.95, 11, sample.mean(), stats.sem(sample))
    np.testing.assert_allclose((low, high), expected, atol=0.01)
    narrow = bootstrap.interval(means)
    assert bootstrap.interval(means, units=12)[0] < narrow[0]
    assert bootstrap.interval(means, units=100_000) == pytest.approx(narrow, abs=1e-3)
    assert np.isnan(bootstrap.interval(means, units=1)).all()


def _repeated_contents(rng, contents, versions, error):
    """Scores and MOS of contents in versions; a content's own error is shared by its versions."""
    of_content, of_version = (
        rng.normal(size=(2, contents)),
        rng.normal(size=(2, contents, versions)),
    )
    mos = of_content[0][:, None] + of_version[0]
    predicted = mos + error * of_content[1][:, None] + 0.6 * of_version[1]
    return predicted.ravel(), mos.ravel(), np.repeat(np.arange(contents), versions)


def _coverage(sets, contents, versions, error, draws):
    """Share of intervals of SRCC, by contents and by videos, that hold the truth."""
    rng = np.random.default_rng(0)
    many = _repeated_contents(rng, 40_000, 5, error)
    truth = stats.spearmanr(*many[:2])[0]
    hits = np.zeros(2)
    for k in range(sets):
        predicted, mos, content = _repeated_contents(rng, contents, versions, error)
        by_content = bootstrap.distributions(predicted, mos, draws, k, ("srcc",), content)["srcc"]
        by_video = bootstrap.distributions(predicted, mos, draws, k, ("srcc",))["srcc"]
        for j, interval in enumerate(
            (bootstrap.interval(by_content, units=contents), bootstrap.interval(by_video))
        ):
            hits[j] += interval[0] < truth < interval[1]
    return hits / sets


def test_intervals_of_repeated_contents_hold_the_truth_and_those_of_videos_do_not():
    by_content, by_video = _coverage(100, 15, 24, 0.8, 100)
    assert 0.87 < by_content <= 0.99 and by_video < 0.7


@pytest.mark.slow
@pytest.mark.parametrize(("contents", "versions", "error"), [(15, 24, 0.5), (20, 60, 0.8)])
def test_coverage_over_a_thousand_sets(contents, versions, error):
    by_content, by_video = _coverage(1000, contents, versions, error, 1000)
    assert 0.92 <= by_content <= 0.98 and by_video < 0.7


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
        lambda: bootstrap.distributions([1, 2, 3], [1, 2, 3], contents=["a", "b"]),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()
