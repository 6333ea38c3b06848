"""Quality over time: scores of a long video's passages, and its worst moments.

timeline.csv   one row a passage, in order
timeline.html  score with its std over time, and pictures of the worst moments
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence

import numpy as np
from absl import logging
from PIL import Image
from tqdm import tqdm

from vqa_jax.jobs.files import written
from vqa_jax.media import passages
from vqa_jax.media.probe import probe
from vqa_jax.report import parts, plots
from vqa_jax.report.document import document
from vqa_jax.scoring.predictor import Predictor

CSV_FILE, PAGE_FILE = "timeline.csv", "timeline.html"
WORST = 6  # moments that are shown
_MAX_POINTS = 600  # of the curve; more cannot be seen
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
    """Scores a video's passages and writes the table and the page to a folder.

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
    judge = student.judge
    moments: list[Moment] = []
    kept: list[tuple[Moment, bytes]] = []
    found = passages.read(info, student.engine.spec.preprocess, length, stride)
    with written(os.path.join(out, CSV_FILE), newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in dataclasses.fields(Moment)])
        writer.writeheader()
        for passage in tqdm(found, total=total, desc="timeline", unit="passage"):
            moment = Moment(passage.start, passage.stop, error=passage.error)
            if passage.error is None:
                video = student.encode_frames(passage.frames, passage.clips)
                score = judge.score([video])[0].score
                moment = dataclasses.replace(moment, **dataclasses.asdict(score))
                kept = _with_worse(kept, moment, passage.picture)
            moments.append(moment)
            writer.writerow(dataclasses.asdict(moment))
    timeline = Timeline(path, tuple(moments), tuple(kept), judge.anchors.describe())
    with written(os.path.join(out, PAGE_FILE)) as file:
        file.write(_page(timeline))
    return timeline


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


def clock(seconds: float) -> str:
    """Seconds as m:ss.s or h:mm:ss.s."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def render(timeline: Timeline, out: str) -> str:
    """What to tell on the terminal."""
    scores = [m.score for m in timeline.moments if m.error is None]
    lines = [f"{timeline.path}: {len(scores)} of {len(timeline.moments)} passages scored"]
    if scores:
        low, middle, high = np.percentile(scores, [5, 50, 95])
        lines.append(f"score: median {middle:.2f}, 5% below {low:.2f}, 5% above {high:.2f}")
    for moment, _ in timeline.worst:
        span = f"{clock(moment.start)} to {clock(moment.stop)}"
        lines.append(f"  {moment.score:8.2f} ± {moment.std:.2f}  {span}")
    failed = [m for m in timeline.moments if m.error is not None]
    if failed:
        lines.append(f"no score from {clock(failed[0].start)}: {failed[0].error}")
    lines.append(f"scale: {timeline.scale}")
    return "\n".join([*lines, f"page: {os.path.join(out, PAGE_FILE)}"])


def _lowest(moments: Sequence[Moment]) -> tuple[list[Moment], int]:
    """At most _MAX_POINTS moments, the lowest of every so many; and of how many each is."""
    size = -(-len(moments) // _MAX_POINTS)
    groups = [moments[i : i + size] for i in range(0, len(moments), size)]
    scored = [[m for m in group if m.score is not None] for group in groups]
    lowest = [
        min(good, key=lambda m: m.score) if good else group[0]
        for good, group in zip(scored, groups, strict=True)
    ]
    return lowest, size


def _page(timeline: Timeline) -> str:
    name = os.path.basename(timeline.path).encode("utf-8", "replace").decode()
    drawn, size = _lowest(timeline.moments)
    minutes = timeline.moments[-1].stop > 180
    unit = 60 if minutes else 1

    def place(moment: Moment) -> float:
        return (moment.start + moment.stop) / 2 / unit

    nan = float("nan")
    curve = plots.passages(
        [place(m) for m in drawn],
        [nan if m.score is None else m.score for m in drawn],
        [nan if m.std is None else m.std for m in drawn],
        [(place(m), m.score) for m, _ in timeline.worst],
        "minutes" if minutes else "seconds",
        "score",
    )
    length = timeline.moments[0].stop - timeline.moments[0].start
    note = f"passages of {length:.3g} s, band: ± 1 std"
    note += f"; each point is the lowest of {size}" if size > 1 else ""
    body = parts.figure(curve, "Score over time", note, f"score of {name} over time")
    body += f'<p class="caption">{parts.text(timeline.scale)}</p>'
    failed = [m for m in timeline.moments if m.error is not None]
    if failed:
        what = f"{len(failed)} passages from {clock(failed[0].start)} on: {failed[0].error}"
        body += f'<p class="absent">Without a score: {parts.text(what)}</p>'
    shown = "".join(
        parts.figure(
            parts.jpeg_uri(jpeg),
            f"{number}. {clock(moment.start)} to {clock(moment.stop)}",
            f"{moment.score:.1f} ± {moment.std:.1f}",
        )
        for number, (moment, jpeg) in enumerate(timeline.worst, 1)
    )
    worst = f'<div class="panels">{shown}</div>' if shown else parts.absent("no passage was scored")
    return document(
        f"Quality over time: {name}",
        f"<h1>{parts.text(name)}</h1>"
        + parts.section("time", "Quality over time", body)
        + parts.section("worst", "Worst moments", worst),
    )
