"""Whether two models that scored the same videos differ by more than chance.

Two tests: a paired bootstrap over contents (videos, where each shows something else), for any
metric, and Williams's t for Pearson's
correlation, which needs no resampling but normal scores. Both respect that the models saw the same
videos: intervals of single models that overlap say little about their difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from vqa_jax.benchmarks import bootstrap, metrics


@dataclasses.dataclass(frozen=True)
class Difference:
    """First model minus second, on the same videos.

    Attributes:
      value: difference of the metric.
      low, high: 95% percentile interval of the paired bootstrap.
      p: two-sided; chance of a difference this far from 0 if there were none.
    """

    value: float
    low: float
    high: float
    p: float


def from_draws(
    value: float, first: np.ndarray, second: np.ndarray, units: int | None = None
) -> Difference:
    """Paired bootstrap from the distributions of two models over equal resamples.

    p is twice the smaller share of differences on either side of 0 (ties count for both), with
    one added to counts and draws: it is never 0, and 1,000 draws resolve 0.002.

    Args:
      value: difference on all videos.
      first, second: [draws] of `bootstrap.distributions` with equal seed.
      units: how many contents were drawn, see `bootstrap.interval`.
    """
    draws = first - second
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Difference(value, float("nan"), float("nan"), float("nan"))
    low, high = bootstrap.interval(draws, units=units)
    tail = min((draws <= 0).sum(), (draws >= 0).sum()) + 1
    return Difference(value, low, high, float(min(1.0, 2 * tail / (len(draws) + 1))))


def paired_bootstrap(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    mos: Sequence[float] | np.ndarray,
    metric: str = "srcc",
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
    contents: Sequence[str] | np.ndarray | None = None,
) -> Difference:
    """Difference of a metric between two models, contents drawn with replacement for both at once.

    Args:
      first, second: [N] scores of the two models.
      mos: [N] reference scores.
      metric: of `metrics.METRICS`.
      draws: number of resamples.
      seed: of the resampling.
      contents: [N] what each video shows; None: every video something else.
    """
    values = [metrics.correlate(scores, mos, (metric,))[metric] for scores in (first, second)]
    found = [
        bootstrap.distributions(scores, mos, draws, seed, (metric,), contents)[metric]
        for scores in (first, second)
    ]
    units = len(mos) if contents is None else len(set(map(str, contents)))
    return from_draws(values[0] - values[1], *found, units)


def williams(r_first: float, r_second: float, r_between: float, num: int) -> tuple[float, float]:
    """Williams's t for two correlations that share one variable (Steiger 1980, equation 7).

    For Pearson's correlation of normal scores. Used on ranks (Spearman's) it is approximate.

    Args:
      r_first, r_second: correlation of each model with the reference.
      r_between: correlation between the models.
      num: number of videos.

    Returns:
      (t, two-sided p with num - 3 degrees of freedom); (0, 1) for equal models, NaN where it is
      not defined (below four videos, an undefined correlation).
    """
    if num < 4 or not all(map(math.isfinite, (r_first, r_second, r_between))):
        return float("nan"), float("nan")
    if r_first == r_second:
        return 0.0, 1.0
    determinant = 1 - r_first**2 - r_second**2 - r_between**2 + 2 * r_first * r_second * r_between
    mean = (r_first + r_second) / 2
    below = 2 * (num - 1) / (num - 3) * max(determinant, 0.0) + mean**2 * (1 - r_between) ** 3
    if below <= 0:
        return float("nan"), float("nan")
    t = (r_first - r_second) * math.sqrt((num - 1) * (1 + r_between) / below)
    return t, float(2 * stats.t.sf(abs(t), num - 3))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number by Holm's step-down rule; NaN stay and do not count."""
    p = np.asarray(p_values, np.float64)
    corrected = np.full(len(p), np.nan)
    rows = np.flatnonzero(np.isfinite(p))
    order = rows[np.argsort(p[rows], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return corrected.tolist()
