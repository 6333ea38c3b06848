"""A ladder: encodes of one source at several bitrates, judged by comparing all of them.

Passage by passage every pair of the encodes and the source is shown in both orders, as `versions`
does with whole videos; one Thurstone ranking of the mean answers gives each encode's quality, one
a passage how low it falls. The source's quality is 0: an encode's is below it, or noise.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import stats
from tqdm import tqdm

from vqa_jax.benchmarks import bd_rate
from vqa_jax.media import isolation, passages
from vqa_jax.media.container import MediaError
from vqa_jax.media.passages import Passage
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.scoring import thurstone, versions
from vqa_jax.scoring.differences import ALIKE, LENGTH, STRIDE
from vqa_jax.scoring.engine import EncodedVideo
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.settings import DecodeLimits

QUALITY = "quality"
_SOURCE = ""  # called so, no encode has its name
_LEAST = 3  # rungs of which a rank correlation says anything
_TOGETHER = 16  # passages that are encoded at once
TIE = 0.01  # of a probability around 0.5 that is no order
Measured = Mapping[str, Mapping[str, float]]  # {"psnr": {"mean": 38.2, "percentile_5": 36.1}, ...}


@dataclasses.dataclass(frozen=True)
class Encode:
    """One file.

    Attributes:
      name: how it is called.
      path: of a local file.
      codec: with which others of one are a curve.
      crf: its quality setting, if known.
      kbps: kilobits of its pictures a second; None with `error`.
      error: why it cannot be used.
    """

    name: str
    path: str
    codec: str
    crf: float | None = None
    kbps: float | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Rung:
    """An encode with what was found of it.

    Attributes:
      encode: the file.
      quality, std: Thurstone score minus the source's, and the score's own deviation; None with
        `error`.
      percentile_5: of the qualities of its passages, 5% are below; None with `error`.
      measured: by measures with a reference: {"mean", "percentile_5"} of each.
      error: why there is no quality.
    """

    encode: Encode
    quality: float | None = None
    std: float | None = None
    percentile_5: float | None = None
    measured: Measured = dataclasses.field(default_factory=dict)
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Step:
    """Two neighbours of one codec by bitrate.

    Attributes:
      cheaper, dearer: their names.
      dearer_better: probability that the dearer one is better.
      order: "right", "tie" (within TIE of 0.5), or "wrong".
    """

    cheaper: str
    dearer: str
    dearer_better: float
    order: str


@dataclasses.dataclass(frozen=True)
class Ladder:
    """All rungs.

    Attributes:
      source: path.
      rungs: in the given order.
      steps: of every codec, from the cheapest on.
      knees: codec -> name of the rung after which more bits bring little; None if there is none.
      bd_rates: measure -> codec -> other codec -> share of bits that the other one needs more at
        equal quality (-0.3: 30% fewer), or None.
      agreement: measure -> Spearman's rank correlation with the quality, over all rungs that have
        both; None for fewer than three, or where one does not vary.
      passages: how many were compared.
      contradictions: share 0..1 of all comparisons whose two orders disagree.
      model: fingerprint of the student.
    """

    source: str
    rungs: tuple[Rung, ...]
    steps: tuple[Step, ...]
    knees: Mapping[str, str | None]
    bd_rates: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    agreement: Mapping[str, float | None]
    passages: int
    contradictions: float
    model: str

    @property
    def codecs(self) -> dict[str, list[Rung]]:
        """Rungs with a quality, by codec, from the cheapest on."""
        return curves(self.rungs)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some seconds of a file; 0 are the rest."""

    info: VideoInfo
    start: float = 0.0
    seconds: float = 0.0


def climb(
    student: Predictor,
    source: VideoInfo,
    part: tuple[float, float],
    encodes: Sequence[Encode],
    measured: Mapping[str, Measured],
    limits: DecodeLimits,
) -> Ladder:
    """Compares encodes of a part of a source with each other and with it.

    What is held are the encoded passages of all of them. An encode that cannot be read, or is not
    as long as the part, is a rung with the reason.

    Args:
      student: asked in both orders.
      source: of `probe.probe`.
      part: its start and seconds; 0 seconds are the rest.
      encodes: of that part.
      measured: what measures with a reference found, by the encodes' names.
      limits: of a file; its seconds are each passage's.

    Raises:
      MediaError: the source cannot be read.
    """
    first, stop = passages.part_of(source, *part)
    seconds = (stop - first) / source.fps
    videos = {_SOURCE: _Part(source, *part)}
    rungs = []
    for encode in encodes:
        rung = Rung(encode, measured=measured.get(encode.name, {}), error=encode.error)
        if rung.error is None:
            try:
                videos[encode.name] = _Part(_alike(encode, seconds, limits))
            except MediaError as error:
                rung = dataclasses.replace(rung, error=f"{error.reason} [{error.stage}]")
        rungs.append(rung)
    encoded, failed = _encoded(student, videos, limits)
    if _SOURCE in failed:
        raise failed[_SOURCE]
    base = encoded[_SOURCE]
    for k, rung in enumerate(rungs):
        if error := failed.get(rung.encode.name):
            rungs[k] = dataclasses.replace(rung, error=f"{error.reason} [{error.stage}]")
    good = [k for k, rung in enumerate(rungs) if rung.error is None]
    names = [rungs[k].encode.name for k in good]
    mean, qualities, contradictions = _compared(
        student, names, [*(encoded[name] for name in names), base]
    )
    q, std = thurstone.map_scores(mean)
    for n, k in enumerate(good):
        low = float(np.percentile(qualities[:, n], 5))
        rungs[k] = dataclasses.replace(
            rungs[k], quality=float(q[n] - q[-1]), std=float(std[n]), percentile_5=low
        )
    by_codec = curves(rungs)
    return Ladder(
        source.path,
        tuple(rungs),
        _steps(by_codec, names, mean),
        {codec: _knee(curve) for codec, curve in by_codec.items()},
        _bd_rates(by_codec),
        _agreement(rungs),
        len(base),
        contradictions,
        student.fingerprint,
    )


def curves(rungs: Sequence[Rung]) -> dict[str, list[Rung]]:
    """Rungs with a quality, by codec, from the cheapest on."""
    found: dict[str, list[Rung]] = {}
    for rung in sorted((r for r in rungs if r.error is None), key=lambda r: r.encode.kbps):
        found.setdefault(rung.encode.codec, []).append(rung)
    return {
        codec: found[codec]
        for codec in dict.fromkeys(r.encode.codec for r in rungs)
        if codec in found
    }


def _alike(encode: Encode, seconds: float, limits: DecodeLimits) -> VideoInfo:
    """What an encode's file holds.

    Raises:
      MediaError: it cannot be read, or is not as long as it should be.
    """
    info = isolation.call(limits, encode.path, probe, encode.path, limits.pixels)
    if abs(info.duration - seconds) > max(ALIKE[0], ALIKE[1] * seconds):
        reason = f"is {info.duration:.1f} s long, the part of the source {seconds:.1f} s"
        raise MediaError(encode.path, "probe", reason)
    return info


def _encoded(
    student: Predictor, videos: Mapping[str, _Part], limits: DecodeLimits
) -> tuple[dict[str, list[EncodedVideo]], dict[str, MediaError]]:
    """All passages of all videos, several in a call of the devices; and why some have none."""
    found: dict[str, list[EncodedVideo]] = {name: [] for name in videos}
    failed: dict[str, MediaError] = {}
    waiting: list[tuple[str, Passage]] = []

    def flush() -> None:
        views = student.encode_views((p.frames, p.clips) for _, p in waiting)
        for (name, _), one in zip(waiting, views, strict=True):
            found[name].append(one)
        waiting.clear()

    for name, video in tqdm(videos.items(), desc="ladder", unit="video"):
        try:
            for passage in _passages(student, video, limits):
                waiting.append((name, passage))
                if len(waiting) >= _TOGETHER:
                    flush()
        except MediaError as error:
            failed[name] = error
    flush()
    return found, failed


def _passages(student: Predictor, video: _Part, limits: DecodeLimits) -> Iterator[Passage]:
    """Passages of a video.

    Raises:
      MediaError: one of them cannot be read.
    """
    info, args = video.info, (LENGTH, STRIDE, video.start, video.seconds)
    count = sum(1 for _ in passages.planned(info, *args))
    limits = dataclasses.replace(limits, seconds=limits.seconds * count)
    view = student.engine.spec.preprocess
    for passage in isolation.run(limits, info.path, passages.read, info, view, *args):
        if passage.error is not None:
            raise MediaError(info.path, "decode", f"from {passage.start:.1f} s: {passage.error}")
        yield passage


def _compared(
    student: Predictor, names: Sequence[str], videos: Sequence[Sequence[EncodedVideo]]
) -> tuple[np.ndarray, np.ndarray, float]:
    """All pairs of all passages; the last video is the source.

    Returns:
      (mean probability [n, n] that i is better than j, quality [passages, n] minus the source's,
      share of contradictions)
    """
    if not names:  # nothing but the source
        return np.full((1, 1), 0.5), np.zeros((len(videos[-1]), 1)), 0.0
    matrices, contradictory = [], []
    called = [*names, versions.REFERENCE]
    for passage in tqdm(list(zip(*videos, strict=False)), desc="compare", unit="passage"):
        pairs, matrix = versions.ask(student, called, passage)
        matrices.append(matrix)
        contradictory += [pair.contradictory for pair in pairs]
    found, _ = thurstone.map_scores(np.stack(matrices))
    return np.mean(matrices, axis=0), found - found[:, -1:], float(np.mean(contradictory))


def _steps(
    by_codec: Mapping[str, Sequence[Rung]], names: Sequence[str], mean: np.ndarray
) -> tuple[Step, ...]:
    places = {name: k for k, name in enumerate(names)}
    found = []
    for curve in by_codec.values():
        for one, other in itertools.pairwise(curve):
            cheaper, dearer = one.encode.name, other.encode.name
            better = float(mean[places[dearer], places[cheaper]])
            order = "right" if better > 0.5 else "wrong"
            order = "tie" if abs(better - 0.5) <= TIE else order
            found.append(Step(cheaper, dearer, better, order))
    return tuple(found)


def _knee(curve: Sequence[Rung]) -> str | None:
    place = bd_rate.knee([r.encode.kbps for r in curve], [r.quality for r in curve])
    return None if place is None else curve[place].encode.name


def values(curve: Sequence[Rung], measure: str) -> list[float | None]:
    """QUALITY, or a measure's means, of rungs."""
    if measure == QUALITY:
        return [rung.quality for rung in curve]
    return [rung.measured.get(measure, {}).get("mean") for rung in curve]


def measures(rungs: Sequence[Rung]) -> list[str]:
    """Names of the measures with a reference that any rung has."""
    return list(dict.fromkeys(name for rung in rungs for name in rung.measured))


def _agreement(rungs: Sequence[Rung]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for measure in measures(rungs):
        told = zip(values(rungs, QUALITY), values(rungs, measure), strict=True)
        kept = np.array([pair for pair in told if None not in pair])
        varies = len(kept) >= _LEAST and (np.ptp(kept, axis=0) > 0).all()
        found[measure] = float(stats.spearmanr(*kept.T).statistic) if varies else None
    return found


def _bd_rates(
    by_codec: Mapping[str, Sequence[Rung]],
) -> dict[str, dict[str, dict[str, float | None]]]:
    told = measures([rung for curve in by_codec.values() for rung in curve])

    def between(measure: str, one: Sequence[Rung], other: Sequence[Rung]) -> float | None:
        points = []
        for curve in (one, other):
            rated = zip(curve, values(curve, measure), strict=True)
            kept = [(r.encode.kbps, value) for r, value in rated if value is not None]
            if not kept:
                return None
            points += zip(*kept, strict=True)
        return bd_rate.bd_rate(*points)

    return {
        measure: {
            name: {other: between(measure, curve, by_codec[other]) for other in by_codec}
            for name, curve in by_codec.items()
        }
        for measure in (QUALITY, *told)
    }
