"""What a student says of a corpus whose anchors it need not be able to order: controls are asked
too, whom `evaluate` would refuse.

A score is the mean probability that a video is preferred to some rated photographs of the training
split, in per cent: enough for ranks, and no scale.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence

import numpy as np

from vqa_jax import loading
from vqa_jax.corpus.store import VideoStore
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.loop import evaluate
from vqa_jax.scoring.comparisons import Comparisons
from vqa_jax.scoring.engine import EncodedVideo, VideoInput
from vqa_jax.scoring.judge import Verdict
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.scoring.scale import Score
from vqa_jax.settings import ScoreConfig

NUMBER = 10  # photographs that everything is compared with


class Opinion:
    """Stands where a `Judge` does in `evaluate`."""

    def __init__(self, student: Predictor, anchors: Sequence[VideoInput]):
        """Encodes the photographs."""
        self.engine, self.fingerprint = student.engine, student.fingerprint
        self._comparisons = Comparisons(student.engine, anchors)

    def score(
        self, videos: Sequence[EncodedVideo], config: ScoreConfig = ScoreConfig()
    ) -> list[Verdict]:
        """The verdicts, in order; nothing but their scores is a number."""
        if not videos:
            return []
        means = 100 * self._comparisons.every(videos).mean(axis=1)
        scores = [Score(float(mean), *[math.nan] * 3, extrapolated=False) for mean in means]
        return [Verdict(score, NUMBER) for score in scores]


def ask(student: str, world: str, corpus: str, data: str, out: str) -> None:
    """Writes what `evaluate` writes, of the held-out part of `data`.

    Args:
      student: its folder.
      world: whose rated photographs everything is compared with.
      corpus: that holds them.
      data: corpus of the same view and tower.
      out: folder of the results.
    """
    loaded = loading.load(student)
    spec = loaded.engine.spec
    videos = VideoStore(corpus, spec.extractor, spec.tower)
    inputs = []
    for key in _spread(world, corpus):
        record, features = videos[key]
        inputs.append(VideoInput.of_view(record["frames"], features, spec))
    evaluate.evaluate(Opinion(loaded, inputs), data, out)


def _spread(world: str, corpus: str) -> list[str]:
    """Keys of rated photographs of the training split, spread evenly over people's ranks."""
    with open(os.path.join(world, "rated.csv"), encoding="utf-8", newline="") as text:
        mos = {row["path"]: float(row["mos"]) for row in csv.DictReader(text)}
    rows = read_video_table(corpus, ["video_id", "path", "level", "split"])
    known = [
        (mos[row["path"]], row["video_id"])
        for row in rows.where(split="train", level=0)
        if row["path"] in mos
    ]
    known.sort()
    places = np.linspace(0, len(known) - 1, min(NUMBER, len(known))).round().astype(int)
    return [known[place][1] for place in places]
