"""One scale for all teachers: percentile ranks, or a four-parameter logistic (method 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from scipy import stats

from vqa_jax.benchmarks import metrics

METHODS = ("rank", "logistic")
_MAX_FIT = 20_000  # scores that a logistic is fitted to; of more, evenly many by rank
_QUANTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How one teacher's scores became united ones, 0..100, higher is better.

    Attributes:
      method: "rank" or "logistic"; a teacher may fall back to "rank".
      higher_is_better: direction of the raw scores.
      videos: number of scores that it was made from.
      quantiles: ((percent, raw score), ...); for "rank" the map itself, to this accuracy.
      logistic: (top, bottom, centre, width) of united = bottom + (top - bottom) /
        (1 + exp(-(raw - centre) / width)), clipped to 0..100; the width is negative where lower
        raw scores are better. None for "rank".
    """

    method: str
    higher_is_better: bool
    videos: int
    quantiles: tuple[tuple[int, float], ...]
    logistic: tuple[float, float, float, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        fields = dataclasses.asdict(self)
        fields["quantiles"] = {str(percent): score for percent, score in self.quantiles}
        names = ("top", "bottom", "centre", "width")
        fields["logistic"] = dict(zip(names, self.logistic, strict=True)) if self.logistic else None
        return fields


def unite(
    scores: np.ndarray, method: str = "rank", higher_is_better: Sequence[bool] | None = None
) -> tuple[np.ndarray, list[Scale]]:
    """Bring teachers to one scale, 0..100, higher is better.

    Args:
      scores: [videos, teachers], NaN where missing.
      method: "rank": percentile rank inside the corpus (ties share their mean rank). "logistic":
        a monotone 4-parameter logistic from each teacher to the mean percentile rank over
        teachers, which keeps the teacher's own spacing; where that fit is not increasing (a
        teacher that disagrees with the rest) its ranks are used.
      higher_is_better: direction of each teacher [teachers]; None = all higher.

    Returns:
      (float64 [videos, teachers], NaN where missing; how each teacher was mapped).
    """
    raw = np.array(scores, np.float64)
    if raw.ndim != 2:
        raise ValueError(f"scores are [videos, teachers], got {raw.shape}")
    if method not in METHODS:
        raise ValueError(f"method must be rank or logistic, got {method!r}")
    higher = [True] * raw.shape[1] if higher_is_better is None else list(higher_is_better)
    if len(higher) != raw.shape[1]:
        raise ValueError(f"{len(higher)} directions for {raw.shape[1]} teachers")
    signs = np.where(np.asarray(higher, bool), 1.0, -1.0)
    turned = raw * signs
    present = np.isfinite(raw)
    ranks = np.full(raw.shape, np.nan)
    for column in range(raw.shape[1]):
        rows = present[:, column]
        if rows.any():
            ranks[rows, column] = 100 * (stats.rankdata(turned[rows, column]) - 0.5) / rows.sum()
    consensus = np.where(present, ranks, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    united, scales = ranks.copy(), []
    for column in range(raw.shape[1]):
        rows = present[:, column]
        constants = None
        if method == "logistic":
            constants = _fit(turned[rows, column], consensus[rows], f"teacher {column}")
        if constants is not None:
            fitted = metrics.logistic(turned[rows, column], constants)
            united[rows, column] = np.clip(fitted, 0, 100)
            top, bottom, centre, width = map(float, constants)
            constants = (top, bottom, signs[column] * centre, signs[column] * width)
        found = np.percentile(raw[rows, column], _QUANTILES) if rows.any() else []
        quantiles = tuple(zip(_QUANTILES, map(float, found), strict=False))
        name = "rank" if constants is None else "logistic"
        scales.append(Scale(name, bool(higher[column]), int(rows.sum()), quantiles, constants))
    return united, scales


def _fit(x: np.ndarray, consensus: np.ndarray, name: str) -> np.ndarray | None:
    """Constants of a rising logistic, or None where ranks must do."""
    if len(x) < 4 or np.ptp(x) == 0:
        return None
    order = np.lexsort((consensus, x))
    order = order[np.linspace(0, len(x) - 1, min(len(x), _MAX_FIT)).round().astype(int)]
    parameters = metrics.fit_logistic(x[order], consensus[order])
    if parameters[0] > parameters[1]:
        return parameters
    logging.warning("%s disagrees with the others; its ranks are used", name)
    return None
