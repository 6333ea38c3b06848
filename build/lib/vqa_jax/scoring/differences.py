"""When two versions of one source differ most: their passages compared one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from vqa_jax.media import isolation, passages, sources
from vqa_jax.media.container import MediaError
from vqa_jax.media.decode import isolated_frames
from vqa_jax.media.passages import Passage
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.media.sources import Source
from vqa_jax.scoring import pictures
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.settings import DEFAULT_LIMITS, DecodeLimits

LENGTH, STRIDE = 2.0, 1.0  # seconds of a passage, and between two starts
SHOWN = 4  # moments with pictures
ALIKE = 0.5, 0.02  # seconds, or share, by which versions of one source may differ in length
_TOGETHER = 8  # passages of each that are compared at once


@dataclasses.dataclass(frozen=True)
class Difference:
    """One passage of both versions.

    Attributes:
      start, stop: seconds from the first frame.
      second_better: probability 0..1 that the second version is better there.
      contradictory: the two orders disagree on which is better.
    """

    start: float
    stop: float
    second_better: float
    contradictory: bool


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """Pictures of a moment: JPEGs (frame, crop) of both versions, of `time` seconds."""

    moment: Difference
    time: float
    first: tuple[bytes, bytes]
    second: tuple[bytes, bytes]


@dataclasses.dataclass(frozen=True)
class Differences:
    """Two versions over time.

    Attributes:
      first, second: their names.
      moments: in order; those that both could be read for.
      most: where they differ most, the most first; no two overlap.
      note: why there is nothing, or less than the whole; "" for all of it.
    """

    first: str
    second: str
    moments: tuple[Difference, ...] = ()
    most: tuple[SideBySide, ...] = ()
    note: str = ""


def between(
    student: Predictor,
    first: tuple[str, Source],
    second: tuple[str, Source],
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> Differences:
    """Compares two versions of one source passage by passage.

    What is held does not grow with their length. Files that cannot be read, or of another length,
    are told by `note`.

    Args:
      student: asked in both orders.
      first, second: (name, video).
      limits: of a file; its seconds are each passage's.
    """
    names = first[0], second[0]
    with contextlib.ExitStack() as stack:
        try:
            opened = [sources.local(video, limits.seconds) for _, video in (first, second)]
            paths = [stack.enter_context(one) for one in opened]
            infos = [isolation.call(limits, path, probe, path, limits.pixels) for path in paths]
            lengths = [info.duration for info in infos]
            if abs(lengths[0] - lengths[1]) > max(ALIKE[0], ALIKE[1] * max(lengths)):
                note = f"{lengths[0]:.1f} and {lengths[1]:.1f} seconds long: no versions of one"
                return Differences(*names, note=f"{note} source, not compared over time")
            moments, note = _moments(student, infos, limits)
            return Differences(*names, tuple(moments), _looks(infos, moments, limits), note)
        except MediaError as error:
            return Differences(*names, note=str(error))


def _moments(
    student: Predictor, infos: Sequence[VideoInfo], limits: DecodeLimits
) -> tuple[list[Difference], str]:
    bounds = [len([*passages.bounds(i.num_frames, i.fps, LENGTH, STRIDE)]) for i in infos]
    limits = dataclasses.replace(limits, seconds=limits.seconds * max(bounds))
    view = student.engine.spec.preprocess, LENGTH, STRIDE
    moments: list[Difference] = []
    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(
                contextlib.closing(isolation.run(limits, info.path, passages.read, info, *view))
            )
            for info in infos
        ]
        both = tqdm(zip(*runs, strict=False), total=min(bounds), desc="compare", unit="passage")
        for batch in _batches(both):
            good = [pair for pair in batch if not any(passage.error for passage in pair)]
            moments += _compared(student, good)
            if len(good) < len(batch):  # what breaks off does not come again
                failed = next(p for pair in batch for p in pair if p.error)
                return moments, f"from {failed.start:.1f} s on: {failed.error}"
    return moments, ""


def _batches(pairs: Iterator[tuple[Passage, Passage]]) -> Iterator[list[tuple[Passage, Passage]]]:
    pairs = iter(pairs)
    while batch := list(itertools.islice(pairs, _TOGETHER)):
        yield batch


def _compared(student: Predictor, pairs: Sequence[tuple[Passage, Passage]]) -> list[Difference]:
    encoded = iter(student.encode_views((p.frames, p.clips) for pair in pairs for p in pair))
    results = student.compare_encoded(list(zip(encoded, encoded, strict=True)))
    return [
        Difference(one.start, one.stop, found.second_better, found.contradictory)
        for (one, _), found in zip(pairs, results, strict=True)
    ]


def most_different(moments: Sequence[Difference]) -> list[Difference]:
    """The SHOWN moments about which the student is surest, the surest first; no two overlap."""
    kept: list[Difference] = []
    for moment in sorted(moments, key=lambda m: -abs(m.second_better - 0.5)):
        if all(moment.start >= k.stop or moment.stop <= k.start for k in kept):
            kept.append(moment)
    return kept[:SHOWN]


def _looks(
    infos: Sequence[VideoInfo], moments: Sequence[Difference], limits: DecodeLimits
) -> tuple[SideBySide, ...]:
    """Both versions' frames in the middle of the most different moments, from one more pass."""
    most = most_different(moments)
    if not most:
        return ()
    times = [(moment.start + moment.stop) / 2 for moment in most]
    numbers = [[min(round(t * info.fps), info.num_frames - 1) for t in times] for info in infos]
    frames: list[dict[int, np.ndarray]] = []
    for info, wanted in zip(infos, numbers, strict=True):
        frames.append(dict(isolated_frames(info, sorted({*wanted}), limits)))
    found = []
    for moment, time, *places in zip(most, times, *numbers, strict=True):
        first, second = (seen[number] for seen, number in zip(frames, places, strict=True))
        centre = pictures.most_different(first, second)
        scaled = tuple(
            c * b / a for c, a, b in zip(centre, first.shape, second.shape, strict=False)
        )
        shown = pictures.framed(first, centre), pictures.framed(second, scaled)
        found.append(SideBySide(moment, time, *shown))
    return tuple(found)
