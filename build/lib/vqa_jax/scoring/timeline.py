"""Quality over time: scores of a long video's passages, and its worst moments."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from vqa_jax.jobs import csv_cells
from vqa_jax.jobs.files import written
from vqa_jax.media import isolation, passages, sources
from vqa_jax.media.decode import isolated_frames
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.media.sources import Source
from vqa_jax.media.view import tile_frames, tile_positions
from vqa_jax.scoring import pictures
from vqa_jax.scoring.engine import EncodedVideo
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.settings import DEFAULT_LIMITS, DecodeLimits

CSV_FILE = "timeline.csv"
WORST = 6  # moments that are shown


@dataclasses.dataclass(frozen=True)
class Moment:
    """One passage's score, or why there is none.

    Attributes:
      start, stop: seconds from the first frame.
      score, std: on the anchors' scale, higher is better.
      q, q_std: Thurstone score and its std.
      extrapolated: the passage lies beyond the anchors.
      error: why there is no score.
      notes: what there is to know of the video ("102 of 524 frames"), or "".
    """

    start: float
    stop: float
    score: float | None = None
    std: float | None = None
    q: float | None = None
    q_std: float | None = None
    extrapolated: bool | None = None
    error: str | None = None
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Look:
    """Pictures of one of the worst moments.

    Attributes:
      moment: the passage.
      time: seconds from the first frame to the one shown.
      frame: JPEG, the longer side pictures.FRAME_SIDE pixels at most, the crop's place marked.
      crop: JPEG of a square of the frame around its worst tile, pixel for pixel.
    """

    moment: Moment
    time: float
    frame: bytes
    crop: bytes


@dataclasses.dataclass(frozen=True)
class Timeline:
    """A video's moments.

    Attributes:
      path: of the video.
      moments: in order.
      worst: the worst of them, worst first; no two overlap.
      scale: what the scores mean.
      tiles: of how many tiles the student chose the worst in each; 0 if it sees whole frames, so
        that the middle of the middle frame is shown.
    """

    path: str
    moments: tuple[Moment, ...]
    worst: tuple[Look, ...]
    scale: str
    tiles: int


def score_passages(
    student: Predictor,
    video: Source,
    length: float,
    stride: float,
    limits: DecodeLimits = DEFAULT_LIMITS,
    start: float = 0.0,
    seconds: float = 0.0,
) -> Timeline:
    """Scores a video's passages.

    Args:
      student: with anchors.
      video: a path, URL, open binary file or bytes.
      length, stride: of the passages, seconds.
      limits: of the file; its seconds are each passage's, as films are long.
      start, seconds: of the part that is looked at; 0 seconds are the rest.

    Raises:
      container.MediaError: the file is no video that can be opened, or ends before `start`.
      AnchorError: the student has no anchors.
      ValueError: passages of no length, or with gaps between them.
    """
    with sources.local(video, limits.seconds) as path:
        found = _timeline(student, path, (length, stride, start, seconds), limits)
        return dataclasses.replace(found, path=sources.name_of(video))


def _timeline(
    student: Predictor, path: str, parts: tuple[float, float, float, float], limits: DecodeLimits
) -> Timeline:
    info = isolation.call(limits, path, probe, path, limits.pixels)
    total = sum(1 for _ in passages.planned(info, *parts))
    if parts[0] < 2:
        logging.warning("passages below 2 s hold a single key frame: expect noisy scores")
    judge = student.judge
    moments: list[Moment] = []
    kept: list[tuple[Moment, EncodedVideo]] = []
    limits = dataclasses.replace(limits, seconds=limits.seconds * total)
    pre = student.engine.spec.preprocess
    found = isolation.run(limits, path, passages.read, info, pre, *parts)
    for passage in tqdm(found, total=total, desc="timeline", unit="passage"):
        moment = Moment(passage.start, passage.stop, error=passage.error, notes=info.notes)
        if passage.error is None:
            (video,) = student.encode_views([(passage.frames, passage.clips)])
            verdict = judge.score([video])[0]
            notes = "; ".join(filter(None, (info.notes, verdict.note)))
            moment = dataclasses.replace(moment, **dataclasses.asdict(verdict.score), notes=notes)
            kept = _with_worse(kept, moment, video)
        moments.append(moment)
    tiles = pre.num_tiles if pre.view == "crops" else 0
    worst = _looks(student, info, kept, limits) if kept else []
    return Timeline(path, tuple(moments), tuple(worst), judge.describe(), tiles)


def summary(timeline: Timeline) -> dict[str, float | int | None]:
    """Numbers of the whole: mean, median, what 5% of the passages are below, their mean.

    The worst 5% are one passage at least; all numbers are None where no passage has a score.
    """
    scores = np.sort([m.score for m in timeline.moments if m.error is None])
    counts = {"passages": len(timeline.moments), "scored": len(scores)}
    if not len(scores):
        return {**counts, **dict.fromkeys(("mean", "median", "percentile_5", "worst_5_percent"))}
    return {
        **counts,
        "mean": float(scores.mean()),
        "median": float(np.median(scores)),
        "percentile_5": float(np.percentile(scores, 5)),
        "worst_5_percent": float(scores[: math.ceil(0.05 * len(scores))].mean()),
    }


def numbers(timeline: Timeline) -> dict[str, Any]:
    """All that is told of a timeline but its pictures, as plain values."""
    return {
        "path": timeline.path,
        "summary": summary(timeline),
        "moments": [dataclasses.asdict(moment) for moment in timeline.moments],
        "worst": [dataclasses.asdict(look.moment) for look in timeline.worst],
        "scale": timeline.scale,
        "error": None,
    }


def write_table(timeline: Timeline, out: str) -> None:
    """Writes timeline.csv to the folder `out`: one row a passage, in order."""
    os.makedirs(out, exist_ok=True)
    with written(os.path.join(out, CSV_FILE), newline="") as file:
        writer = csv_cells.dict_writer(file, [f.name for f in dataclasses.fields(Moment)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, timeline.moments))


def _with_worse(
    kept: list[tuple[Moment, EncodedVideo]], moment: Moment, video: EncodedVideo
) -> list[tuple[Moment, EncodedVideo]]:
    """The worst moments so far, worst first; of those that overlap the worse one stays."""
    # Passages come in order and are equally long: a new one overlaps at most one that was kept.
    rival = next((k for k in kept if k[0].stop > moment.start), None)
    if rival is not None and rival[0].score <= moment.score:
        return kept
    others = [k for k in kept if k is not rival]
    return sorted([*others, (moment, video)], key=lambda k: k[0].score)[:WORST]


def _looks(
    student: Predictor,
    info: VideoInfo,
    kept: Sequence[tuple[Moment, EncodedVideo]],
    limits: DecodeLimits,
) -> list[Look]:
    """Pictures of the kept moments: the file is decoded once more, up to the last of them."""
    pre = student.engine.spec.preprocess
    shown: dict[int, list[tuple[int, int | None]]] = {}  # frame -> places in `kept` and their tiles
    for place, (moment, video) in enumerate(kept):
        first, end = (round(t * info.fps) for t in (moment.start, moment.stop))
        number, tile = (end - first) // 2, None
        if pre.view == "crops":
            tile = _worst_tile(student, video)
            number = tile_frames(end - first, info.fps, pre)[tile]
        shown.setdefault(first + number, []).append((place, tile))
    looks: dict[int, Look] = {}
    for number, frame in isolated_frames(info, [*shown], limits):
        for place, tile in shown[number]:
            looks[place] = Look(kept[place][0], number / info.fps, *_pictures(frame, tile, pre))
    return [looks[place] for place in sorted(looks)]


def _worst_tile(student: Predictor, video: EncodedVideo) -> int:
    """The tile that the student, shown each one alone, prefers least to the anchors."""
    size = student.engine.spec.student.tokens_per_frame
    groups = len(video.visual)
    alone = []
    for tile in range(groups * video.num_frames):
        place, group = divmod(tile, groups)  # as `crops.scoring_groups` deals them
        visual = video.visual[group].copy()
        visual[:size] = visual[place * size : (place + 1) * size]
        alone.append(dataclasses.replace(video, visual=visual[None], num_frames=1))
    return int(student.judge.comparisons.every(alone).mean(axis=1).argmin())


def _pictures(frame: np.ndarray, tile: int | None, pre: Preprocess) -> tuple[bytes, bytes]:
    """JPEGs (frame, crop) of a frame uint8 [H, W, 3] and a tile of it; without one, its middle."""
    height, width = frame.shape[:2]
    centre_y, centre_x = height / 2, width / 2
    if tile is not None:
        enlarged = max(1.0, pre.tile_size / min(height, width))  # as the view does
        size = (round(side * enlarged) for side in (height, width))
        y, x = tile_positions(*size, pre)[tile]
        centre_y, centre_x = ((k + pre.tile_size / 2) / enlarged for k in (y, x))
    return pictures.framed(frame, (centre_y, centre_x))
