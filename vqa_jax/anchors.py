"""Anchors: the few videos of known quality that turn comparisons into a score (METHOD 8).

Anchors are data. A set is a folder with `anchors.safetensors` (what the student sees of each) and
`anchors.json` (names, scores, where the scores come from, preferences among the anchors).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from vqa_jax import thurstone
from vqa_jax.files import read_json, write_json
from vqa_jax.levels import preference
from vqa_jax.scoring import EncodedVideo, Engine, VideoInput

ANCHOR_FILE = "anchors.json"
FRAMES_FILE = "anchors.safetensors"


class AnchorError(Exception):
    """An anchor set cannot be used; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class AnchorSet:
    """Anchor videos and their standing.

    Attributes:
      names: of the anchors, worst to best by score.
      inputs: what the student sees of them.
      scores: [A] on the anchors' scale, higher is better.
      scale: what the scores are, for people ("simulated severity, arbitrary" or a MOS).
      arbitrary: True when no human scored them.
    """

    names: tuple[str, ...]
    inputs: tuple[VideoInput, ...]
    scores: tuple[float, ...]
    scale: str
    arbitrary: bool

    def save(self, folder: str) -> None:
        """Writes the set into a folder (a student's, usually)."""
        arrays: dict[str, np.ndarray] = {}
        for i, video in enumerate(self.inputs):
            arrays[f"{i}/frames"], arrays[f"{i}/motion"] = video.frames, video.motion
        path = os.path.join(folder, FRAMES_FILE)
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path + ".tmp")
        os.replace(path + ".tmp", path)
        facts: dict[str, Any] = {
            "names": list(self.names),
            "scores": list(self.scores),
            "scale": self.scale,
            "arbitrary": self.arbitrary,
        }
        write_json(os.path.join(folder, ANCHOR_FILE), facts)

    @classmethod
    def load(cls, folder: str) -> AnchorSet:
        """Reads a set.

        Raises:
          AnchorError: the folder has none.
        """
        path = os.path.join(folder, ANCHOR_FILE)
        if not os.path.exists(path):
            raise AnchorError(
                f"{path} is missing: run `python -m vqa_jax anchors` for this student"
            )
        facts = read_json(path)
        arrays = load_file(os.path.join(folder, FRAMES_FILE))
        inputs = tuple(
            VideoInput(arrays[f"{i}/frames"], arrays[f"{i}/motion"])
            for i in range(len(facts["names"]))
        )
        return cls(
            tuple(facts["names"]),
            inputs,
            tuple(facts["scores"]),
            facts["scale"],
            bool(facts["arbitrary"]),
        )


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
          tau: temperature of the level softmax (METHOD 8: 1).

        Raises:
          AnchorError: the student orders the anchors against their scores.
        """
        self.anchors, self._engine, self._tau = anchors, engine, tau
        encoded = list(engine.encode(anchors.inputs))
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

    def score(self, video: EncodedVideo) -> Score:
        """Score of one video."""
        return self.solve(self.probabilities(video)[None])[0]

    def solve(self, probabilities: np.ndarray) -> list[Score]:
        """Scores of videos with preference probabilities [n, A]."""
        q, std = thurstone.map_scores(thurstone.preference_matrix(probabilities, self.matrix))
        results = []
        for value, deviation in zip(q[:, -1], std[:, -1], strict=True):
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


def choose(
    engine: Engine, candidates: Sequence[Sequence[EncodedVideo]], tau: float = 1.0
) -> list[int]:
    """Picks one candidate of each quality step, so that the student sees them evenly spread.

    All candidates are compared with each other and solved together; of step k the one is taken
    whose q is nearest to the k-th of evenly spaced targets between the 10th and 90th percentile.

    Args:
      engine: the student.
      candidates: per quality step, worst first, the videos of that step.
      tau: temperature of the level softmax.

    Returns:
      Index of the chosen candidate within each step.
    """
    videos = [v for step in candidates for v in step]
    count = len(videos)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    logits = engine.compare([(videos[i], videos[j]) for i, j in pairs])
    matrix = np.full((count, count), 0.5)
    for (i, j), p in zip(pairs, preference(logits, tau), strict=True):
        matrix[j, i], matrix[i, j] = p, 1 - p
    q, _ = thurstone.map_scores(matrix)
    targets = np.linspace(*np.percentile(q, [10, 90]), len(candidates))
    chosen, start = [], 0
    for step, target in zip(candidates, targets, strict=True):
        chosen.append(int(np.argmin(np.abs(q[start : start + len(step)] - target))))
        start += len(step)
    return chosen
