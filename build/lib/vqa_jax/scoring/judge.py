"""A judge: a student with its anchors, that gives encoded videos their scores: ask, then solve."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from vqa_jax.scoring import calibration, sanity, thurstone
from vqa_jax.scoring.anchors import AnchorError, AnchorSet
from vqa_jax.scoring.comparisons import Comparisons
from vqa_jax.scoring.engine import EncodedVideo, Engine
from vqa_jax.scoring.scale import AnchorScale, Score
from vqa_jax.scoring.w2s import w2s_scores
from vqa_jax.settings import ScoreConfig


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A video's score and how it came about.

    Attributes:
      score: the score; by the authors' rule its other numbers are NaN.
      comparisons: pairs that the student judged.
      contradictions: share 0..1 of the anchors about which both orders disagree; None: one order.
      note: what the number does not mean, or "".
    """

    score: Score
    comparisons: int
    contradictions: float | None = None
    note: str = ""


class Judge:
    """A student with its anchors: whatever needs scores is given one.

    Attributes:
      engine: the student; encodes videos.
      anchors: videos of known quality.
      fingerprint: of the student's weights; every result names it.
      comparisons: asks the engine about videos and anchors.
      scale: solves what it answers.
      remark: what every result should tell of this student, or "".
    """

    def __init__(self, engine: Engine, anchors: AnchorSet, fingerprint: str):
        """Encodes the anchors, compares them with each other in both orders, fits their scale.

        Raises:
          AnchorError: the student orders the anchors against their scores, or does not tell them
            apart.
        """
        self.engine, self.anchors, self.fingerprint = engine, anchors, fingerprint
        self.comparisons = Comparisons(engine, anchors.inputs)
        second_wins = self.comparisons.among_anchors()
        matrix = thurstone.average_orders(second_wins)
        try:
            sanity.check(second_wins, matrix)
            self.scale = AnchorScale(matrix, anchors.scores)
        except ValueError as error:
            raise AnchorError(f"anchors {', '.join(anchors.names)}: {error}") from error
        self.remark = sanity.remark(second_wins)

    def describe(self) -> str:
        """One sentence on what the scores mean, and whether the student deserves trust."""
        return "; ".join(filter(None, (self.anchors.describe(), self.remark)))

    def score(
        self, videos: Sequence[EncodedVideo], config: ScoreConfig = ScoreConfig()
    ) -> list[Verdict]:
        """Scores videos that this engine has encoded, together and in order."""
        if not videos:
            return []
        answers = self.comparisons.ask(videos, config, self.scale)
        if config.protocol == "w2s":
            percents = w2s_scores(answers.preferred, self.scale.matrix, config.seed)
            scores = [Score(float(p), *[math.nan] * 3, extrapolated=False) for p in percents]
        else:
            scores = self.scale.solve(answers.preferred, answers.seen)
            if knots := self.anchors.calibration:
                scores = [
                    dataclasses.replace(found, std=calibration.deviation(knots, found.score))
                    for found in scores
                ]
        shares: list[float | None] = [None] * len(videos)
        if answers.contradicted is not None:
            shares = answers.contradicted.mean(axis=1).tolist()
        counts = answers.comparisons.tolist()
        notes = [""] * len(videos)
        if config.protocol != "w2s":
            notes = [sanity.note(found.score, self.anchors.scores) for found in scores]
        return [Verdict(*row) for row in zip(scores, counts, shares, notes, strict=True)]
