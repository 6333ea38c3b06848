"""What each anchor does to the scores: every one is left out once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vqa_jax.benchmarks import metrics
from vqa_jax.scoring.scale import AnchorScale


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """One anchor left out.

    Attributes:
      name: the anchor.
      known: its score in the set.
      predicted: its score by the other anchors, None if those are in no usable order.
      srcc: of the videos' scores with those by all anchors.
      mean_shift, largest_shift: of the videos' scores, absolute, on the anchors' scale.
    """

    name: str
    known: float
    predicted: float | None = None
    srcc: float | None = None
    mean_shift: float | None = None
    largest_shift: float | None = None


def without_each_anchor(
    names: Sequence[str], scores: Sequence[float], matrix: np.ndarray, probabilities: np.ndarray
) -> list[LeftOut]:
    """Scores the videos, and the anchor left out, by the other anchors.

    Args:
      names: [A] of the anchors.
      scores: [A] their known scores.
      matrix: [A, A] probability that anchor i is preferred to anchor j.
      probabilities: [n, A] that each video is preferred to each anchor, n >= 2.

    Raises:
      ValueError: fewer than three anchors or two videos.
    """
    if len(names) < 3 or len(probabilities) < 2:
        raise ValueError(
            f"{len(names)} anchors and {len(probabilities)} videos: three and two are the least"
        )
    full = _scores(matrix, scores, probabilities)
    found = []
    for i, name in enumerate(names):
        kept = np.delete(np.arange(len(names)), i)
        known = np.asarray(scores, float)[kept]
        rows = np.concatenate([matrix[i, kept][None], probabilities[:, kept]])
        try:
            predicted, *rest = _scores(matrix[np.ix_(kept, kept)], known, rows)
        except ValueError:  # the others are in no order that a scale could follow
            found.append(LeftOut(name, float(scores[i])))
            continue
        shift = np.abs(np.array(rest) - full)
        srcc = metrics.correlate(np.array(rest), full, ("srcc",))["srcc"]
        found.append(
            LeftOut(
                name,
                float(scores[i]),
                float(predicted),
                float(srcc),
                float(shift.mean()),
                float(shift.max()),
            )
        )
    return found


def _scores(
    matrix: np.ndarray, scores: Sequence[float] | np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    return np.array([found.score for found in AnchorScale(matrix, scores).solve(probabilities)])
