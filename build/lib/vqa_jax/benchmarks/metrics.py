"""Agreement of predicted scores with human (or other reference) scores (method 9)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import optimize, special, stats

METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")
"""Keys of `correlate`. Higher is better (-1..1), but for rmse (0 and up, units of the MOS)."""

MIN_FIT = 4
"""Videos that the logistic needs: it has four parameters."""
_LEAST_VERSIONS = 3  # of a content: the order of two is right or wrong and nothing between


def logistic(x: np.ndarray, parameters: Sequence[float] | np.ndarray) -> np.ndarray:
    """Monotone 4-parameter logistic b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)).

    Args:
      x: [...] scores.
      parameters: (b1, b2, b3, b4): value at +inf, value at -inf, centre, width.
    """
    b1, b2, b3, b4 = parameters
    return b2 + (b1 - b2) * special.expit((np.asarray(x, np.float64) - b3) / max(abs(b4), 1e-12))


def fit_logistic(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> np.ndarray:
    """Least-squares parameters (b1, b2, b3, b4) of `logistic` from x to y.

    The fit runs on standardized x and y from several starts (both directions, two widths) and
    keeps the best, so it depends neither on the units nor on a lucky start.

    Raises:
      ValueError: fewer than four points, constant x, or values that are not finite.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < MIN_FIT:
        raise ValueError(f"need at least {MIN_FIT} pairs of scores, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0:
        raise ValueError("scores must be finite and not all equal")
    x_mean, x_std = x.mean(), x.std()
    y_mean, y_std = y.mean(), y.std() or 1.0
    u, v = (x - x_mean) / x_std, (y - y_mean) / y_std

    def residual(parameters: np.ndarray) -> np.ndarray:
        return logistic(u, parameters) - v

    best = None
    up = np.sum(u * v) >= 0
    for width in (0.5, 2.0):
        reach = np.ptp(v) * (1.0 if width < 1 else 1.5) / 2
        top, bottom = (reach, -reach) if up else (-reach, reach)
        start = [top, bottom, float(np.median(u)), width]
        # Bounds keep a nearly linear relation from running off to an infinitely wide logistic.
        fit = optimize.least_squares(
            residual, start, bounds=([-1e3, -1e3, -1e2, 1e-3], [1e3, 1e3, 1e2, 1e3])
        )
        if best is None or fit.cost < best.cost:
            best = fit
    b1, b2, b3, b4 = best.x
    return np.array(
        [b1 * y_std + y_mean, b2 * y_std + y_mean, b3 * x_std + x_mean, abs(b4) * x_std]
    )


def checked(
    predicted: Sequence[float] | np.ndarray, mos: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [N].

    Raises:
      ValueError: different lengths, or values that are not finite.
    """
    predicted, mos = np.asarray(predicted, np.float64), np.asarray(mos, np.float64)
    if predicted.ndim != 1 or predicted.shape != mos.shape:
        raise ValueError(f"need two rows of equal length, got {predicted.shape} and {mos.shape}")
    if not (np.isfinite(predicted).all() and np.isfinite(mos).all()):
        raise ValueError("scores must be finite; drop videos without a score and report them")
    return predicted, mos


def correlate(
    predicted: Sequence[float] | np.ndarray,
    mos: Sequence[float] | np.ndarray,
    which: Sequence[str] = METRICS,
) -> dict[str, float]:
    """SRCC, PLCC, PLCC after the logistic fit, KRCC (tau-b), RMSE after the fit.

    Args:
      predicted: [N] scores, any scale.
      mos: [N] reference scores.
      which: the metrics wanted, of METRICS; only what they need is computed.

    Returns:
      Metric -> value, in the order of `which`. A number that is not defined (constant input, too
      few videos) is NaN.

    Raises:
      ValueError: different lengths, or values that are not finite: drop failed videos first, and
        say how many.
    """
    predicted, mos = checked(predicted, mos)
    result = dict.fromkeys(which, float("nan"))
    if len(mos) < 2 or np.ptp(predicted) == 0 or np.ptp(mos) == 0:
        return result
    plain = {"srcc": stats.spearmanr, "plcc": stats.pearsonr, "krcc": stats.kendalltau}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # near-constant input: the answer is NaN
        for name in plain.keys() & set(which):
            result[name] = float(plain[name](predicted, mos).statistic)
    if len(mos) >= MIN_FIT and {"plcc_logistic", "rmse"} & set(which):
        fitted = logistic(predicted, fit_logistic(predicted, mos))
        if "rmse" in result:
            result["rmse"] = float(np.sqrt(np.mean((fitted - mos) ** 2)))
        if "plcc_logistic" in result and np.ptp(fitted) > 0:
            result["plcc_logistic"] = float(stats.pearsonr(fitted, mos).statistic)
    return result


def srcc_within(
    predicted: Sequence[float] | np.ndarray,
    mos: Sequence[float] | np.ndarray,
    contents: Sequence[str] | np.ndarray,
) -> float:
    """Mean SRCC over contents, each weighted by its videos: how versions of one scene are ordered.

    Args:
      predicted: [N] scores.
      mos: [N] reference scores.
      contents: [N] what each video shows.

    Returns:
      NaN where no content has three videos whose SRCC is defined.
    """
    predicted, mos = checked(predicted, mos)
    _, content, counts = np.unique(contents, return_inverse=True, return_counts=True)
    found = []
    for number in np.flatnonzero(counts >= _LEAST_VERSIONS):
        rows = content == number
        srcc = correlate(predicted[rows], mos[rows], ("srcc",))["srcc"]
        if np.isfinite(srcc):
            found.append((srcc, counts[number]))
    return (
        float(np.average([v for v, _ in found], weights=[n for _, n in found]))
        if found
        else float("nan")
    )


def weighted_overall(values: Mapping[str, float], counts: Mapping[str, int]) -> float:
    """Mean over data sets weighted by their numbers of videos.

    Args:
      values: data set -> metric; data sets without a defined value (NaN) make the mean NaN.
      counts: data set -> number of videos.
    """
    if not values or any(counts[name] <= 0 for name in values):
        raise ValueError("need at least one data set, and a positive count for each")
    total = sum(counts[name] for name in values)
    return float(sum(values[name] * counts[name] for name in values) / total)
