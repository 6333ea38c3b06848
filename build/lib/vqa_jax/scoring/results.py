"""What people get: a video's score, and which of two videos is better."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Result:
    """One video's score, or the reason why there is none (never both).

    Attributes:
      path: as given; empty for frames.
      score: on the anchors' scale, higher is better.
      std: standard deviation in the score's units, calibrated or the posterior's, as `scale` says
        (None by the authors' rule, as are q, q_std and extrapolated).
      q, q_std: Thurstone score and its std.
      extrapolated: the video lies beyond the anchors, the score continues linearly.
      comparisons: pairs that the student judged for it.
      contradictions: share 0..1 of the anchors about which both orders disagree, if both were
        asked for.
      scale: what the scale is, its direction, and whether it is arbitrary.
      model: fingerprint of the student.
      error: why the file cannot be scored.
      notes: what there is to know of a file that was scored ("102 of 524 frames") and of its score,
        or "".
    """

    path: str
    score: float | None = None
    std: float | None = None
    q: float | None = None
    q_std: float | None = None
    extrapolated: bool | None = None
    comparisons: int | None = None
    contradictions: float | None = None
    scale: str = ""
    model: str = ""
    error: str | None = None
    notes: str = ""


DIRECTION = "higher is better"
COLUMNS = (*(field.name for field in dataclasses.fields(Result)), "direction")
"""Names of a row's cells, in order."""


def row_of(result: Result) -> dict[str, Any]:
    """A row of the CSV, of the JSON and of a part."""
    return {**dataclasses.asdict(result), "direction": DIRECTION}


@dataclasses.dataclass(frozen=True)
class PairResult:
    """Which of two videos is better, both orders asked.

    Attributes:
      level_probs: {"inferior", "worse", "similar", "better", "superior": probability}, of the
        second video in comparison with the first; of both orders, the swapped one mirrored, the
        mean.
      second_better: probability 0..1 that the second video is better: the levels weighted 0, 0.25,
        0.5, 0.75 and 1.
      contradictory: the answers of the two orders, each by itself, disagree on which is better.
      model: fingerprint of the student.
    """

    level_probs: dict[str, float]
    second_better: float
    contradictory: bool
    model: str
