"""Quality over time: scores of a long video's passages, and its worst moments.

Writes timeline.csv, one row a passage, in order.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os

import numpy as np
from absl import logging
from PIL import Image
from tqdm import tqdm

from vqa_jax import passages
from vqa_jax.files import written
from vqa_jax.frames import probe
from vqa_jax.predictor import Predictor, describe

CSV_FILE = "timeline.csv"
WORST = 6  # moments that are shown
_JPEG_QUALITY = 85


@dataclasses.dataclass(frozen=True)
class Moment:
    """One passage's score, or why there is none.

    Attributes:
      start, stop: seconds from the first frame.
      score, std: on the anchors' scale, higher is better.
      q, q_std: Thurstone score and its std.
      extrapolated: the passage lies beyond the anchors.
      error: why there is no score.
    """

    start: float
    stop: float
    score: float | None = None
    std: float | None = None
    q: float | None = None
    q_std: float | None = None
    extrapolated: bool | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Timeline:
    """A video's moments in order, the worst of them with JPEGs (worst first), the scale."""

    path: str
    moments: tuple[Moment, ...]
    worst: tuple[tuple[Moment, bytes], ...]
    scale: str


def run(student: Predictor, path: str, out: str, length: float, stride: float) -> Timeline:
    """Scores a video's passages and writes the table to a folder.

    Args:
      student: with anchors.
      path: of the video.
      out: folder.
      length, stride: of the passages, seconds.

    Raises:
      frames.MediaError: the file is no video that can be opened.
      AnchorError: the student has no anchors.
      ValueError: passages of no length, or with gaps between them.
    """
    info = probe(path)
    total = sum(1 for _ in passages.bounds(info.num_frames, info.fps, length, stride))
    os.makedirs(out, exist_ok=True)
    if length < 2:
        logging.warning("passages below 2 s hold a single key frame: expect noisy scores")
    scale = student.scale
    moments: list[Moment] = []
    kept: list[tuple[Moment, bytes]] = []
    found = passages.read(info, student.engine.spec.preprocess, length, stride)
    with written(os.path.join(out, CSV_FILE), newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in dataclasses.fields(Moment)])
        writer.writeheader()
        for passage in tqdm(found, total=total, desc="timeline", unit="passage"):
            moment = Moment(passage.start, passage.stop, error=passage.error)
            if passage.error is None:
                score = scale.score(student.encode_frames(passage.frames, passage.clips))
                moment = dataclasses.replace(moment, **dataclasses.asdict(score))
                kept = _with_worse(kept, moment, passage.picture)
            moments.append(moment)
            writer.writerow(dataclasses.asdict(moment))
    return Timeline(path, tuple(moments), tuple(kept), describe(scale.anchors))


def _with_worse(
    kept: list[tuple[Moment, bytes]], moment: Moment, picture: np.ndarray
) -> list[tuple[Moment, bytes]]:
    """The worst moments so far, worst first; of those that overlap the worse one stays."""
    # Passages come in order and are equally long: a new one overlaps at most one that was kept.
    rival = next((k for k in kept if k[0].stop > moment.start), None)
    if rival is not None and rival[0].score <= moment.score:
        return kept
    if rival is None and len(kept) == WORST and kept[-1][0].score <= moment.score:
        return kept
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    others = [k for k in kept if k is not rival]
    ranked = sorted([*others, (moment, buffer.getvalue())], key=lambda k: k[0].score)
    return ranked[:WORST]
