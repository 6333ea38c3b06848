"""A ladder: encodes of one source at several bitrates, judged by comparing all of them.

Passage by passage every pair of the encodes and the source is shown in both orders, as `versions`
does with whole videos; one Thurstone ranking of the mean answers gives each encode's quality, one
a passage how low it falls. The source's quality is 0: an encode's is below it, or noise.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from vqa_jax.benchmarks import bd_rate
from vqa_jax.media import isolation, passages
from vqa_jax.media.container import MediaError
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.scoring import thurstone, versions
from vqa_jax.scoring.differences import ALIKE, LENGTH, STRIDE
from vqa_jax.scoring.engine import EncodedVideo
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.settings import DecodeLimits

QUALITY = "quality"
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
      passages: how many were compared.
      contradictions: share 0..1 of all comparisons whose two orders disagree.
      model: fingerprint of the student.
    """

    source: str
    rungs: tuple[Rung, ...]
    steps: tuple[Step, ...]
    knees: Mapping[str, str | None]
    bd_rates: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    passages: int
    contradictions: float
    model: str

    @property
    def codecs(self) -> dict[str, list[Rung]]:
        """Rungs with a quality, by codec, from the cheapest on."""
        return curves(self.rungs)


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
    base = _encoded(student, source, part, limits)
    found: list[list[EncodedVideo]] = []
    rungs = []
    for encode in tqdm(encodes, desc="ladder", unit="encode"):
        rung = Rung(encode, measured=measured.get(encode.name, {}), error=encode.error)
        if rung.error is None:
            try:
                found.append(_alike(student, encode, len(base), limits))
            except MediaError as error:
                rung = dataclasses.replace(rung, error=f"{error.reason} [{error.stage}]")
        rungs.append(rung)
    good = [k for k, rung in enumerate(rungs) if rung.error is None]
    names = [rungs[k].encode.name for k in good]
    mean, qualities, contradictions = _compared(student, names, [*found, base])
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


def _encoded(
    student: Predictor, info: VideoInfo, part: tuple[float, float], limits: DecodeLimits
) -> list[EncodedVideo]:
    """Passages of a video as the student sees them.

    Raises:
      MediaError: one of them cannot be read.
    """
    args = LENGTH, STRIDE, *part
    count = sum(1 for _ in passages.planned(info, *args))
    limits = dataclasses.replace(limits, seconds=limits.seconds * count)
    run = isolation.run(
        limits, info.path, passages.read, info, student.engine.spec.preprocess, *args
    )
    encoded: list[EncodedVideo] = []
    for passage in run:
        if passage.error is not None:
            raise MediaError(info.path, "decode", f"from {passage.start:.1f} s: {passage.error}")
        encoded += student.encode_views([(passage.frames, passage.clips)])
    return encoded


def _alike(
    student: Predictor, encode: Encode, wanted: int, limits: DecodeLimits
) -> list[EncodedVideo]:
    """Passages of an encode, as many as the source has.

    Raises:
      MediaError: it cannot be read, or has another number of them.
    """
    info = isolation.call(limits, encode.path, probe, encode.path, limits.pixels)
    found = _encoded(student, info, (0.0, 0.0), limits)
    if abs(len(found) - wanted) > ALIKE[1] * wanted + ALIKE[0] / STRIDE:
        reason = f"is {info.duration:.1f} s long: no encode of this part of the source"
        raise MediaError(encode.path, "probe", reason)
    return found


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


def _bd_rates(
    by_codec: Mapping[str, Sequence[Rung]],
) -> dict[str, dict[str, dict[str, float | None]]]:
    measures = dict.fromkeys(m for c in by_codec.values() for r in c for m in r.measured)

    def between(measure: str, one: Sequence[Rung], other: Sequence[Rung]) -> float | None:
        points = []
        for curve in (one, other):
            told = zip(curve, values(curve, measure), strict=True)
            kept = [(r.encode.kbps, value) for r, value in told if value is not None]
            if not kept:
                return None
            points += zip(*kept, strict=True)
        return bd_rate.bd_rate(*points)

    return {
        measure: {
            name: {other: between(measure, curve, by_codec[other]) for other in by_codec}
            for name, curve in by_codec.items()
        }
        for measure in (QUALITY, *measures)
    }
