"""What goes back: plain values of results, with pictures as data URIs and without any path."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from vqa_jax.report import explanation as page
from vqa_jax.report import html
from vqa_jax.scoring import timeline
from vqa_jax.scoring.differences import Difference, Differences
from vqa_jax.scoring.explanation import NOT, Explanation, Flaw, Place
from vqa_jax.scoring.results import Result
from vqa_jax.scoring.timeline import Moment, Timeline
from vqa_jax.scoring.versions import Pair, Ranking, Version


@dataclasses.dataclass(frozen=True)
class Picture:
    """A frame, its crop's place marked, and the crop pixel for pixel: JPEGs as data URIs."""

    frame: str
    crop: str


@dataclasses.dataclass(frozen=True)
class Worst:
    """One of the worst moments; `time`: of the frame shown, seconds from the first."""

    moment: Moment
    time: float
    picture: Picture | None


@dataclasses.dataclass(frozen=True)
class Curve:
    """Scores of a video's passages.

    Attributes:
      summary: passages, scored, mean, median, percentile_5, worst_5_percent.
      moments: in order.
      worst: worst first; no two overlap.
      note: which part of a long video they cover, or "".
    """

    summary: dict[str, float | int | None]
    moments: list[Moment]
    worst: list[Worst]
    note: str


@dataclasses.dataclass(frozen=True)
class Explained:
    """What the student sees, see `scoring.explanation.Explanation`.

    Attributes:
      text: the likeliest kind of flaw in words.
      heat: the middle key frame coloured by the places' scores, a JPEG's data URI; "" without them.
      what_not: what all this is not.
    """

    text: str
    flaws: list[Flaw]
    undistorted: float
    pictures: float
    motion: float | None
    places: list[Place]
    heat: str
    time: float
    what_not: str


@dataclasses.dataclass(frozen=True)
class ScoreAnswer:
    """A video's score; its curve over time and explanation where they were asked for."""

    result: Result
    curve: Curve | None
    explanation: Explained | None


@dataclasses.dataclass(frozen=True)
class Most:
    """One of the moments in which two videos differ most, and both of them in it."""

    moment: Difference
    time: float
    first: Picture | None
    second: Picture | None


@dataclasses.dataclass(frozen=True)
class OverTime:
    """Two videos passage by passage; `note`: why there is nothing, or less than the whole."""

    moments: list[Difference]
    most: list[Most]
    note: str


@dataclasses.dataclass(frozen=True)
class CompareAnswer:
    """Which of two videos is better.

    Attributes:
      versions: A, the first, and B, the second.
      pair: level probabilities of B in comparison with A, both orders asked.
      scale: what their scores mean.
      model: fingerprint of the student.
      over_time: where it was asked for.
    """

    versions: list[Version]
    pair: Pair
    scale: str
    model: str
    over_time: OverTime | None


@dataclasses.dataclass(frozen=True)
class ErrorAnswer:
    """Why there is no answer, and of a video at which stage and which."""

    error: str
    stage: str = ""
    file: str = ""


def curve_of(found: Timeline, pictures: bool, most_seconds: float) -> Curve:
    """A curve of a timeline of at most so many seconds."""
    worst = [
        Worst(look.moment, look.time, _picture(look.frame, look.crop) if pictures else None)
        for look in found.worst
    ]
    is_cut = found.moments[-1].stop >= most_seconds
    note = f"the first {most_seconds:g} s" if is_cut else ""
    return Curve(timeline.summary(found), list(found.moments), worst, note)


def explained(found: Explanation) -> Explained:
    """An explanation as it goes back."""
    return Explained(
        page.level_of(found),
        list(found.flaws),
        found.undistorted,
        found.pictures,
        found.motion,
        list(found.places),
        html.jpeg_uri(found.heat) if found.heat else "",
        found.time,
        NOT,
    )


def comparison_of(
    found: Ranking, over_time: Differences | None, pictures: bool, names: Mapping[str, str]
) -> CompareAnswer:
    """A comparison of two; `names`: of the videos by their local paths."""
    versions = [dataclasses.replace(v, path=names[v.path]) for v in found.versions]
    told = None
    if over_time is not None:
        most = [
            Most(
                shown.moment,
                shown.time,
                *(_picture(*pair) if pictures else None for pair in (shown.first, shown.second)),
            )
            for shown in over_time.most
        ]
        told = OverTime(list(over_time.moments), most, without_paths(over_time.note, names))
    return CompareAnswer(versions, found.pairs[0], found.scale, found.model, told)


def without_paths(text: str, names: Mapping[str, str]) -> str:
    """Text with videos' names in place of their local paths, which are nobody's business."""
    for path, name in names.items():
        text = text.replace(path, name)
    return text


def _picture(frame: bytes, crop: bytes) -> Picture:
    return Picture(html.jpeg_uri(frame), html.jpeg_uri(crop))
