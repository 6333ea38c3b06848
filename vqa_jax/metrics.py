"""Agreement of predicted scores with human (or other reference) scores (METHOD section 9)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import optimize, special, stats

METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")
"""Keys of `correlate`. Higher is better (-1..1), but for rmse (0 and up, units of the MOS)."""

_MIN_FIT = 4  # parameters of the logistic


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
    if x.ndim != 1 or x.shape != y.shape or len(x) < _MIN_FIT:
        raise ValueError(f"need at least {_MIN_FIT} pairs of scores, got {x.shape} and {y.shape}")
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


def correlate(
    predicted: Sequence[float] | np.ndarray, mos: Sequence[float] | np.ndarray
) -> dict[str, float]:
    """SRCC, PLCC, PLCC after the logistic fit, KRCC (tau-b), RMSE after the fit.

    Args:
      predicted: [N] scores, any scale.
      mos: [N] reference scores.

    Returns:
      dict(srcc, plcc, plcc_logistic, krcc, rmse). A number that is not defined (constant input,
      too few videos) is NaN.

    Raises:
      ValueError: different lengths, or values that are not finite: drop failed videos first, and
        say how many.
    """
    predicted, mos = np.asarray(predicted, np.float64), np.asarray(mos, np.float64)
    if predicted.ndim != 1 or predicted.shape != mos.shape:
        raise ValueError(f"need two rows of equal length, got {predicted.shape} and {mos.shape}")
    if not (np.isfinite(predicted).all() and np.isfinite(mos).all()):
        raise ValueError("scores must be finite; drop videos without a score and report them")
    result = dict.fromkeys(METRICS, float("nan"))
    if len(mos) < 2 or np.ptp(predicted) == 0 or np.ptp(mos) == 0:
        return result
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # near-constant input: the answer is NaN
        result["srcc"] = float(stats.spearmanr(predicted, mos).statistic)
        result["plcc"] = float(stats.pearsonr(predicted, mos).statistic)
        result["krcc"] = float(stats.kendalltau(predicted, mos).statistic)
    if len(mos) >= _MIN_FIT:
        fitted = logistic(predicted, fit_logistic(predicted, mos))
        result["rmse"] = float(np.sqrt(np.mean((fitted - mos) ** 2)))
        if np.ptp(fitted) > 0:
            result["plcc_logistic"] = float(stats.pearsonr(fitted, mos).statistic)
    return result


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


def bootstrap_interval(
    predicted: Sequence[float] | np.ndarray,
    mos: Sequence[float] | np.ndarray,
    metric: str = "srcc",
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval over videos.

    Args:
      predicted: [N] scores.
      mos: [N] reference scores.
      metric: "srcc", "plcc" or "krcc".
      confidence: share of the distribution inside.
      num_resamples: number of resamples; those without a defined value are left out.
      seed: of the resampling.

    Returns:
      (low, high); NaN twice when no resample has a defined value.
    """
    statistic = {"srcc": stats.spearmanr, "plcc": stats.pearsonr, "krcc": stats.kendalltau}
    if metric not in statistic:
        raise ValueError(f"metric must be one of {', '.join(statistic)}, got {metric!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    predicted, mos = np.asarray(predicted, np.float64), np.asarray(mos, np.float64)
    if predicted.ndim != 1 or predicted.shape != mos.shape:
        raise ValueError(f"need two rows of equal length, got {predicted.shape} and {mos.shape}")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num_resamples if len(mos) else 0):
        rows = rng.integers(0, len(mos), len(mos))
        x, y = predicted[rows], mos[rows]
        if len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0:
            found.append(float(statistic[metric](x, y).statistic))
    if not found:
        return float("nan"), float("nan")
    tail = 50 * (1 - confidence)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)
