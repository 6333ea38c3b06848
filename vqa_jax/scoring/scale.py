"""The anchors' scale: from preference probabilities to Thurstone scores to numbers for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vqa_jax.pairs.levels import LEVELS, preference
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.anchors import AnchorError, AnchorSet
from vqa_jax.scoring.engine import EncodedVideo, Engine


@dataclasses.dataclass(frozen=True)
class Score:
    """Quality of one video.

    Attributes:
      score: on the anchors' scale, higher is better.
      std: posterior standard deviation, in the same units.
      q: Thurstone score (unit-normal prior), higher is better.
      q_std: its posterior standard deviation.
      extrapolated: q lies beyond the anchors, so the score continues linearly.
    """

    score: float
    std: float
    q: float
    q_std: float
    extrapolated: bool


class Scale:
    """Scores videos against an anchor set with one engine."""

    def __init__(self, engine: Engine, anchors: AnchorSet, tau: float = 1.0):
        """Encodes the anchors, compares them with each other in both orders, fits the scale.

        Args:
          engine: the student.
          anchors: the set.
          tau: temperature of the level softmax (method 8: 1).

        Raises:
          AnchorError: the student orders the anchors against their scores.
        """
        self.anchors, self._engine, self._tau = anchors, engine, tau
        self._encoded = encoded = list(engine.encode(anchors.inputs))
        engine.set_anchors(encoded)
        count = len(encoded)
        ordered = [(i, j) for i in range(count) for j in range(count) if i != j]
        logits = engine.compare([(encoded[i], encoded[j]) for i, j in ordered])
        second_wins = np.full((count, count), 0.5)
        for (i, j), p in zip(ordered, preference(logits, tau), strict=True):
            second_wins[i, j] = p
        self.matrix = thurstone.average_orders(second_wins)
        self.anchor_q, _ = thurstone.map_scores(self.matrix)
        try:
            self._map = thurstone.anchor_scale(self.anchor_q, anchors.scores)
        except ValueError as error:
            raise AnchorError(f"anchors {', '.join(anchors.names)}: {error}") from error

    def probabilities(self, video: EncodedVideo) -> np.ndarray:
        """Probability [A] that the video is preferred to each anchor."""
        return preference(self._engine.against_anchors(video), self._tau)

    def logits(self, videos: Sequence[EncodedVideo]) -> np.ndarray:
        """Level logits [n, A, 5] of videos (shown second) against every anchor."""
        count = len(self.anchors.names)
        pairs = [(a, video) for video in videos for a in range(count)]
        return self._engine.against(pairs).reshape(len(videos), count, len(LEVELS))

    def preferences(self, logits: np.ndarray) -> np.ndarray:
        """Probability [...] that the second video is preferred, from level logits [..., 5]."""
        return preference(logits, self._tau)

    def against(self, pairs: Sequence[tuple[int, EncodedVideo]]) -> np.ndarray:
        """Probability [n] that each video is preferred to its anchor, given by index."""
        return self.preferences(self._engine.against(pairs))

    def both_orders(self, videos: Sequence[EncodedVideo]) -> tuple[np.ndarray, np.ndarray]:
        """(probability that the video is preferred, averaged over both orders; do they disagree).

        Both are [n, A]. The second order shares no prefix, so it costs whole pairs.
        """
        forward = self.preferences(self.logits(videos))
        pairs = [(video, anchor) for video in videos for anchor in self._encoded]
        anchor_wins = self.preferences(self._engine.compare(pairs)).reshape(forward.shape)
        disagree = (forward > 0.5) == (anchor_wins > 0.5)
        return 0.5 * (forward + 1 - anchor_wins), disagree

    def score(self, video: EncodedVideo) -> Score:
        """Score of one video."""
        return self.solve(self.probabilities(video)[None])[0]

    def solve_q(
        self, probabilities: np.ndarray, seen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Thurstone scores and their std, each [n]; arguments as `solve`."""
        matrix = thurstone.preference_matrix(probabilities, self.matrix)
        if seen is not None:  # what was not compared says nothing, neither way
            matrix[:, -1, :-1] *= seen
            matrix[:, :-1, -1] *= seen
        q, std = thurstone.map_scores(matrix)
        return q[:, -1], std[:, -1]

    def solve(self, probabilities: np.ndarray, seen: np.ndarray | None = None) -> list[Score]:
        """Scores of videos with preference probabilities [n, A].

        seen: bool [n, A], the comparisons that were made; default: all.
        """
        q, std = self.solve_q(probabilities, seen)
        results = []
        for value, deviation in zip(q, std, strict=True):
            score, outside = self._map.apply(value)
            results.append(
                Score(
                    score=float(score),
                    std=float(deviation * self._map.slope(value)),
                    q=float(value),
                    q_std=float(deviation),
                    extrapolated=bool(outside),
                )
            )
        return results
