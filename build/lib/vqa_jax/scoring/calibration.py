"""How far a student's scores are from people's: a deviation that means something.

The posterior's deviation tells how surely a video stands among the anchors, not how far the student
errs. Where its scores of pictures or videos that people rated are known, the usual error at each
score is measured, and told in place of the posterior's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

SHARE = 0.68  # of the human scores that lie within one deviation
_BINS = 12
_LEAST = 20  # rated videos a bin


@dataclasses.dataclass(frozen=True)
class Knot:
    """The deviation of human scores from a student's score, in the same units."""

    score: float
    std: float

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std {self.std} is not above 0")


def fit(
    scores: Sequence[float] | np.ndarray, mos: Sequence[float] | np.ndarray
) -> tuple[Knot, ...]:
    """Measures the error at each score.

    Args:
      scores: [N] of a student, on the scale of `mos`.
      mos: [N] of people, who were not asked for the student's training.

    Returns:
      Knots in the order of their scores; between them the deviation is interpolated.

    Raises:
      ValueError: fewer than 20 rated videos, or numbers that are not finite.
    """
    scores, mos = np.asarray(scores, np.float64), np.asarray(mos, np.float64)
    if scores.shape != mos.shape or scores.ndim != 1 or len(scores) < _LEAST:
        raise ValueError(f"{scores.shape} scores and {mos.shape} of people: {_LEAST} are the least")
    if not (np.isfinite(scores).all() and np.isfinite(mos).all()):
        raise ValueError("scores must be finite")
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, max(1, min(_BINS, len(order) // _LEAST)))
    error = np.abs(scores - mos)
    return tuple(
        Knot(float(np.median(scores[part])), float(max(np.quantile(error[part], SHARE), 1e-6)))
        for part in parts
    )


def deviation(knots: Sequence[Knot], score: float) -> float:
    """The deviation at a score; beyond the knots that of the nearest."""
    return float(np.interp(score, [k.score for k in knots], [k.std for k in knots]))
