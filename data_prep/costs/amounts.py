"""How many files, segments, versions and pairs a step has to do with.

Reckoned from the settings and a sample of files before there is a corpus, counted once there is.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_prep.inputs import listing
from data_prep.prepare.config import PrepConfig
from data_prep.prepare.segments import SOURCE, segment_length, segment_starts
from data_prep.simulators import SIMULATORS, Clip
from vqa_jax.corpus.shards import MANIFEST
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs.files import CorpusError, key_hash, read_json
from vqa_jax.media import isolation, sources
from vqa_jax.media.container import MediaError
from vqa_jax.media.probe import probe
from vqa_jax.settings import DEFAULT_LIMITS

TRAIN, HELDOUT = listing.SPLITS
TYPICAL = Clip(300, 720, 1280, 30.0)  # what the paper's amounts are reckoned with: ten seconds
PAPER_LISTED, _PAPER_TRAINING = 3_000_000, 280_000  # method 2 and 3.3
_SAMPLED = 32  # files of a listing that are looked into


@dataclasses.dataclass(frozen=True)
class Amounts:
    """A corpus by numbers; means where it is not there yet, hence not whole.

    Attributes:
      inputs: files that are prepared.
      versions: (split, simulator) -> number; the undistorted ones are those of SOURCE.
    """

    inputs: float
    versions: Mapping[tuple[str, str], float]

    def videos(self, *splits: str) -> float:
        """Records of videos, of all splits if none is named."""
        return sum(n for (split, _), n in self.versions.items() if not splits or split in splits)

    def segments(self, *splits: str) -> float:
        """Undistorted ones among them."""
        splits = splits or listing.SPLITS
        return sum(self.versions.get((split, SOURCE), 0.0) for split in splits)

    def simulator_pairs(self, split: str) -> float:
        """Pairs of versions of one segment and simulator, the undistorted one among them."""
        found = 0.0
        for (of, name), count in self.versions.items():
            if of == split and name != SOURCE:
                levels = len(SIMULATORS[name].parameters)
                found += count / levels * math.comb(levels + 1, 2)
        return found


def planned(config: PrepConfig, inputs: float, sample: Sequence[Clip] = (TYPICAL,)) -> Amounts:
    """What the settings make of `inputs` files of the sample's kind, all usable, none a copy."""
    heldout = inputs * config.heldout_fraction
    left = train = inputs - heldout
    dealt: list[tuple[Sequence[str], float]] = []
    for pool in config.pools:
        sources = min(pool.count(round(train)), left)
        dealt.append((pool.simulators, sources))
        left -= sources
    dealt.append((() if config.pools else config.simulators, left))
    versions: collections.Counter[tuple[str, str]] = collections.Counter()
    for names, sources in dealt:
        count = config.simulators_per_segment or len(names)
        share = min(1.0, count / len(names)) if names else 0.0
        _add(versions, TRAIN, names, share, sources, config.segments_per_source, sample, config)
    every = config.simulators, 1.0
    _add(versions, HELDOUT, *every, heldout, config.heldout_segments, sample, config)
    return Amounts(inputs, versions)


def paper_inputs(config: PrepConfig) -> float:
    """Files of the paper's first stage, with those that the settings hold out."""
    return _PAPER_TRAINING / (1 - config.heldout_fraction)


def _add(
    versions: collections.Counter[tuple[str, str]],
    split: str,
    names: Sequence[str],
    share: float,
    sources: float,
    wanted: int,
    sample: Sequence[Clip],
    config: PrepConfig,
) -> None:
    def segments(clip: Clip) -> float:
        length = segment_length(clip.fps, clip.num_frames, config)
        return len(segment_starts(clip.num_frames, length, wanted))

    number = sources * mean(segments, sample)
    versions[split, SOURCE] += number
    for name in names:
        versions[split, name] += number * share * len(SIMULATORS[name].parameters)


def counted(data: str) -> Amounts | None:
    """What a finished corpus holds; None where there is none yet."""
    path = os.path.join(data, MANIFEST)
    if not os.path.exists(path):
        return None
    manifest = read_json(path, {"counts": {"inputs": int}})
    table = read_video_table(data, ("split", "simulator"))
    rows = zip(table.column("split"), table.column("simulator"), strict=True)
    return Amounts(manifest["counts"]["inputs"], collections.Counter(rows))


def mean(of: Callable[[Clip], float], sample: Sequence[Clip]) -> float:
    """Mean of a function over a sample of files."""
    return sum(map(of, sample)) / len(sample)


def megapixels(clip: Clip) -> float:
    """Millions of pixels in all frames of a file."""
    return clip.num_frames * clip.width * clip.height / 1e6


def segment(clip: Clip, config: PrepConfig) -> Clip:
    """What is cut from a file of this kind."""
    width, height = (
        min(side or whole, whole)
        for side, whole in zip(config.window, (clip.width, clip.height), strict=True)
    )
    length = segment_length(clip.fps, clip.num_frames, config)
    return Clip(length, height, width, clip.fps)


def sampled(entries: Sequence[listing.Input]) -> list[Clip]:
    """Sizes and lengths of some of the files of a listing, by key hash.

    Raises:
      CorpusError: not one of them is a video.
    """
    chosen = sorted(entries, key=lambda entry: key_hash("cost:" + entry.key))[:_SAMPLED]
    found, reasons = [], []
    for entry in chosen:
        try:
            found.append(_probed(entry))
        except MediaError as error:
            reasons.append(f"{entry.key}: {error.reason}")
    if not found:
        raise CorpusError(f"none of {len(chosen)} files looked into can be used, as {reasons[0]}")
    return found


def _probed(entry: listing.Input) -> Clip:
    with sources.local(entry.path, DEFAULT_LIMITS.seconds) as path:
        info: Any = isolation.call(DEFAULT_LIMITS, path, probe, path, DEFAULT_LIMITS.pixels)
    return Clip(info.num_frames, info.height, info.width, info.fps)
