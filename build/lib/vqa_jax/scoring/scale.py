"""Solve: preference probabilities -> Thurstone scores -> scores on the anchors' scale.

Numbers in, numbers out: nothing here knows a student.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vqa_jax.scoring import thurstone


@dataclasses.dataclass(frozen=True)
class Score:
    """Quality of one video.

    Attributes:
      score: on the anchors' scale, higher is better.
      std: in the same units: the posterior's, or what a calibration says (`calibration`).
      q: Thurstone score (unit-normal prior), higher is better.
      q_std: its posterior standard deviation.
      extrapolated: q lies beyond the anchors, so the score continues linearly.
    """

    score: float
    std: float
    q: float
    q_std: float
    extrapolated: bool


class AnchorScale:
    """The scale that anchors span.

    Attributes:
      matrix: float64 [A, A], probability that anchor i is preferred to anchor j.
      anchor_q: float64 [A], Thurstone scores of the anchors among themselves.
      score_map: from q to the anchors' scores.
    """

    def __init__(self, matrix: np.ndarray, scores: Sequence[float] | np.ndarray):
        """Solves the anchors among themselves and fits the map to their scores.

        Args:
          matrix: [A, A] probability that anchor i is preferred to anchor j.
          scores: [A] of the anchors, higher is better.

        Raises:
          ValueError: fewer than two anchors, or preferences that go against the scores.
        """
        self.matrix = matrix
        self.anchor_q, _ = thurstone.map_scores(matrix)
        self.score_map = thurstone.fit_score_map(self.anchor_q, scores)

    def solve_q(
        self, preferred: np.ndarray, seen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Thurstone scores of videos and their std, each [n]; arguments as `solve`."""
        matrix = thurstone.preference_matrix(preferred, self.matrix)
        if seen is not None:  # what was not compared says nothing, neither way
            matrix[:, -1, :-1] *= seen
            matrix[:, :-1, -1] *= seen
        q, std = thurstone.map_scores(matrix)
        return q[:, -1], std[:, -1]

    def solve(self, preferred: np.ndarray, seen: np.ndarray | None = None) -> list[Score]:
        """Scores of videos, each by itself.

        Args:
          preferred: [n, A] probability that a video is preferred to each anchor.
          seen: bool [n, A], the comparisons that were made; default: all.
        """
        q, std = self.solve_q(preferred, seen)
        results = []
        for value, deviation in zip(q, std, strict=True):
            score, outside = self.score_map.apply(value)
            results.append(
                Score(
                    score=float(score),
                    std=float(deviation * self.score_map.slope(value)),
                    q=float(value),
                    q_std=float(deviation),
                    extrapolated=bool(outside),
                )
            )
        return results
