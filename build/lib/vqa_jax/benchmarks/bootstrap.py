"""Bootstrap distributions of the agreement metrics: all resamples at once, without sorting again.

A resample is a row of counts, how often each video was drawn. Where videos repeat contents (one
scene in many versions), contents are drawn, each with all its videos: videos of one content err
alike, and drawn one by one they would make intervals too narrow. Ranks, ties and concordant pairs
of a resample then follow from sums over the *original* order, so 1,000 resamples of 28,000 videos
cost seconds; fitting the logistic to each costs most of the time. Rank and linear correlations
equal what `scipy.stats` gives on the repeated videos. The logistic's are those of an iterative
fit, which can stop a little short where the best curve is nearly a step or a straight line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special, stats

from vqa_jax.benchmarks import metrics

DRAWS = 1000
_CHUNK = 16  # resamples at once: their work arrays stay in the processor's cache
_MAX_STEPS = 20  # of the logistic fits; they start at the solution for all videos
_CONVERGED = 1e-5  # relative fall of a fit's error
_LOG_WIDTHS = np.log([1e-3, 1e3])  # of standardized scores, as in `metrics.fit_logistic`


def distributions(
    predicted: Sequence[float] | np.ndarray,
    mos: Sequence[float] | np.ndarray,
    draws: int = DRAWS,
    seed: int | Sequence[int] = 0,
    which: Sequence[str] = metrics.METRICS,
    contents: Sequence[str] | np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Metrics of `draws` resamples of the videos, or of their contents.

    Equal `seed` and contents give equal resamples, so two models that scored the same videos can
    be compared draw by draw.

    Args:
      predicted: [N] scores.
      mos: [N] reference scores.
      draws: number of resamples.
      seed: of the resampling.
      which: the metrics wanted, of `metrics.METRICS`; the logistic ones are fitted anew in every
        resample.
      contents: [N] what each video shows; None: every video something else.

    Returns:
      Metric -> float64 [draws], NaN where a resample has no defined value.

    Raises:
      ValueError: as `metrics.correlate`, or an unknown metric.
    """
    predicted, mos = metrics.checked(predicted, mos)
    unknown = sorted(set(which) - set(metrics.METRICS))
    if unknown:
        raise ValueError(f"metrics are {', '.join(metrics.METRICS)}, not {', '.join(unknown)}")
    found = {name: np.full(draws, np.nan) for name in which}
    if len(mos) < 2 or np.ptp(predicted) == 0 or np.ptp(mos) == 0:
        return found
    ties = [_Groups(values) for values in (predicted, mos)]
    pairs = _Pairs(predicted, mos) if "krcc" in which else None
    fit = None
    if {"plcc_logistic", "rmse"} & set(which) and len(mos) >= metrics.MIN_FIT:
        fit = _Fit(predicted, mos)
    start = 0
    content = np.arange(len(mos)) if contents is None else numbered(contents)
    if len(content) != len(mos):
        raise ValueError(f"{len(content)} contents of {len(mos)} videos")
    for counts in _resamples(content, draws, seed):
        rows = slice(start, start + counts.shape[1])
        start = rows.stop
        if "srcc" in found:
            found["srcc"][rows] = _pearson(counts, *(group.ranks(counts) for group in ties))
        if "plcc" in found:
            found["plcc"][rows] = _pearson(counts, predicted[:, None], mos[:, None])
        if pairs is not None:
            found["krcc"][rows] = pairs.tau_b(counts)
        if fit is not None:
            fitted = fit(counts)
            if "rmse" in found:
                error = (counts * (fitted - mos[:, None]) ** 2).sum(0) / counts.sum(0)
                found["rmse"][rows] = np.sqrt(error)
            if "plcc_logistic" in found:
                found["plcc_logistic"][rows] = _pearson(counts, fitted, mos[:, None])
    return found


def numbered(contents: Sequence[str] | np.ndarray) -> np.ndarray:
    """Contents as int [N] from 0, in the order in which they first occur."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(str(name), len(known)) for name in contents], int)


def interval(
    values: np.ndarray, confidence: float = 0.95, units: int | None = None
) -> tuple[float, float]:
    """Percentile interval of a bootstrap distribution; undefined resamples are left out.

    With few units drawn, percentiles are too narrow, as a normal interval is beside Student's by
    the sample deviation: they are moved outwards as far (Hesterberg 2015, section 5.3, "expanded
    percentile interval").

    Args:
      values: [draws].
      confidence: share of intervals that hold the truth.
      units: how many videos or contents were drawn; None: very many.

    Returns:
      (low, high); NaN twice when no resample has a defined value.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    defined = values[np.isfinite(values)]
    if not len(defined) or (units is not None and units < 2):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    if units is not None:
        tail = stats.norm.cdf(np.sqrt(units / (units - 1)) * stats.t.ppf(tail, units - 1))
    low, high = np.percentile(defined, [100 * tail, 100 - 100 * tail])
    return float(low), float(high)


def _resamples(content: np.ndarray, draws: int, seed: int | Sequence[int]) -> Iterator[np.ndarray]:
    """How often each video [N] is drawn with its content: float64 [N, at most _CHUNK] a time."""
    rng = np.random.default_rng(seed)
    num = content.max() + 1
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        drawn = rng.integers(0, num, (size, num)) + num * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num).reshape(size, num)
        yield np.ascontiguousarray(counts.T[content], np.float64)


def _pearson(counts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlations [D] of x and y [N, D] (or [N, 1]) with counts [N, D]."""
    total = counts.sum(0)
    x = x - (counts * x).sum(0) / total
    y = y - (counts * y).sum(0) / total
    weighted = counts * x
    xy, xx, yy = (weighted * y).sum(0), (weighted * x).sum(0), (counts * y * y).sum(0)
    # A constant resample leaves rounding errors, not zeros.
    tiny = 1e-24 * total * (1 + np.abs(x).max(0) ** 2) * (1 + np.abs(y).max(0) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(xx * yy > tiny, xy / np.sqrt(xx * yy), np.nan)


class _Groups:
    """Videos in the order of one score, equal scores together."""

    def __init__(self, values: np.ndarray):
        _, group = np.unique(values, return_inverse=True)
        self.group = group
        self.order = np.argsort(group, kind="stable")
        self.starts = np.flatnonzero(np.diff(group[self.order], prepend=-1))

    def sums(self, counts: np.ndarray) -> np.ndarray:
        """Draws of each group, [groups, D], lowest score first."""
        return np.add.reduceat(counts[self.order], self.starts, axis=0)

    def ranks(self, counts: np.ndarray) -> np.ndarray:
        """Mean ranks [N, D] that the videos have among the drawn ones."""
        sums = self.sums(counts)
        return (np.cumsum(sums, axis=0) - (sums - 1) / 2)[self.group]


class _Pairs:
    """Kendall's tau-b of resamples: discordant pairs by a merge sort laid out once."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        by_x, by_y = _Groups(x), _Groups(y)
        # By x, ties by y: a pair with y falling is then one with x truly rising.
        order = np.lexsort((by_y.group, by_x.group))
        self._ties = [by_x, by_y, _Groups(by_x.group * (by_y.group.max() + 1) + by_y.group)]
        position = np.arange(len(x))
        rank = by_y.group[order]
        self._levels = []
        size = 2
        while size < 2 * len(x):
            right = (position % size) >= size // 2
            # Within a block the highest y first, and of equal ones the right half first: what
            # precedes a right element are the left elements that it is discordant with.
            place = np.lexsort((~right, -rank, position // size))
            starts = np.arange(0, len(x), size)
            self._levels.append((order[place], right[place][:, None], starts))
            size *= 2

    def tau_b(self, counts: np.ndarray) -> np.ndarray:
        """tau-b [D] of resamples [N, D]."""
        discordant = np.zeros(counts.shape[1])
        for order, right, starts in self._levels:
            drawn = counts[order]
            left = np.where(right, 0.0, drawn)
            drawn -= left
            before = np.cumsum(left, axis=0)
            discordant += np.einsum("nd,nd->d", drawn, before)
            # The running sum starts at the first video, not at the block's.
            blocks = np.add.reduceat(drawn, starts, axis=0)
            offset = before[starts] - left[starts]
            discordant -= np.einsum("nd,nd->d", blocks, offset)
        total = counts.sum(0)
        everything = total * (total - 1) / 2
        tied_x, tied_y, tied_both = (
            (s * (s - 1) / 2).sum(0) for s in (group.sums(counts) for group in self._ties)
        )
        agree = everything - tied_x - tied_y + tied_both - 2 * discordant
        with np.errstate(invalid="ignore", divide="ignore"):
            return agree / np.sqrt((everything - tied_x) * (everything - tied_y))


class _Fit:
    """Fits `metrics.logistic` to resamples by Levenberg and Marquardt's method, all at once."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._x_mean, self._x_std = x.mean(), x.std()
        self._y_mean, self._y_std = y.mean(), y.std()
        self._u = ((x - self._x_mean) / self._x_std)[:, None]
        self._v = ((y - self._y_mean) / self._y_std)[:, None]
        b1, b2, b3, b4 = metrics.fit_logistic(x, y)
        self._start = np.array(
            [
                (b1 - self._y_mean) / self._y_std,
                (b2 - self._y_mean) / self._y_std,
                (b3 - self._x_mean) / self._x_std,
                np.log(b4 / self._x_std),  # keeps the width positive
            ]
        )

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Fitted scores [N, D] of all videos, for resamples [N, D]."""
        num = counts.shape[1]
        parameters = np.repeat(self._start[:, None], num, axis=1)
        damping = np.full(num, 1e-4)
        curve = self._curve(parameters)
        error = self._error(counts, parameters, curve)
        active = np.ones(num, bool)
        for _ in range(_MAX_STEPS):
            rows = np.flatnonzero(active)
            now = parameters[:, rows]
            step = self._step(counts[:, rows], now, curve[:, rows], damping[rows])
            tried = now + step
            tried[3] = np.clip(tried[3], *_LOG_WIDTHS)
            tried_curve = self._curve(tried)
            tried_error = self._error(counts[:, rows], tried, tried_curve)
            better = tried_error < error[rows]
            gain = error[rows] - tried_error
            kept = rows[better]
            parameters[:, kept] = tried[:, better]
            curve[:, kept] = tried_curve[:, better]
            damping[rows] *= np.where(better, 0.1, 10.0)
            done = (better & (gain <= _CONVERGED * error[rows])) | (damping[rows] > 1e6)
            error[kept] = tried_error[better]
            active[rows[done]] = False
            if not active.any():
                break
        top, bottom = parameters[0], parameters[1]
        return (bottom + (top - bottom) * curve) * self._y_std + self._y_mean

    def _curve(self, parameters: np.ndarray) -> np.ndarray:
        return special.expit((self._u - parameters[2]) * np.exp(-parameters[3]))

    def _error(self, counts: np.ndarray, parameters: np.ndarray, curve: np.ndarray) -> np.ndarray:
        top, bottom = parameters[0], parameters[1]
        return (counts * (bottom + (top - bottom) * curve - self._v) ** 2).sum(0)

    def _step(
        self, counts: np.ndarray, parameters: np.ndarray, curve: np.ndarray, damping: np.ndarray
    ) -> np.ndarray:
        top, bottom, centre, log_width = parameters
        residual = bottom + (top - bottom) * curve - self._v
        slope = (top - bottom) * curve * (1 - curve) * np.exp(-log_width)
        jacobian = [curve, 1 - curve, -slope, -slope * (self._u - centre)]
        weighted = [counts * j for j in jacobian]
        normal = np.empty((len(damping), 4, 4))
        right = np.empty((len(damping), 4))
        for i in range(4):
            right[:, i] = -(weighted[i] * residual).sum(0)
            for k in range(i + 1):
                normal[:, i, k] = normal[:, k, i] = (weighted[i] * jacobian[k]).sum(0)
        diagonal = np.einsum("dii->di", normal)
        diagonal += damping[:, None] * (diagonal + 1e-9 * len(self._u))
        return np.linalg.solve(normal, right[:, :, None])[:, :, 0].T
