"""One source file -> the records of its segments: undistorted, and at every simulator level."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

from absl import logging

from data_prep.inputs.source import Source
from data_prep.prepare import footage
from data_prep.prepare.config import PrepConfig
from data_prep.prepare.footage import Segment
from data_prep.prepare.pools import ALL
from data_prep.prepare.versions import Part, looked_at, prepare_version
from data_prep.simulators import SIMULATORS, simulate
from vqa_jax.jobs.files import key_hash, printable
from vqa_jax.media import container

SOURCE = "source"  # simulator name of the undistorted segment, level 0
# What VMAF was made for: compression and scaling, by kind of simulator and by name.
_VMAF_KINDS, _VMAF_NAMES = ("streaming", "coding"), ("resize", "nearest", "bilinear")

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def segment_starts(num_frames: int, length: int, count: int) -> list[int]:
    """First frames of up to `count` segments of `length` frames, spread evenly, without repeats."""
    last = max(0, num_frames - length)
    if count == 1:
        return [last // 2]
    return sorted({round(k * last / (count - 1)) for k in range(count)})


def segment_length(fps: float, num_frames: int, config: PrepConfig) -> int:
    """Frames in a segment: `segment_seconds`, at least one motion clip, at most the video."""
    if config.segment_seconds <= 0:
        return num_frames
    wanted = max(config.preprocess.clip_len, round(config.segment_seconds * fps))
    return min(wanted, num_frames)


def segment_simulators(source: Source, segment: int, config: PrepConfig) -> list[str]:
    """Simulators applied to a segment: all when held out, else a rotating share of its pool's."""
    names = list(config.simulators)
    if source.split != "heldout" and source.pool != ALL:
        names = [n for pool in config.pools if pool.name == source.pool for n in pool.simulators]
    count = config.simulators_per_segment
    if source.split == "heldout" or count == 0 or count >= len(names):
        return names
    first = key_hash("simulators:" + source.source_id) + segment * count
    return [names[(first + k) % len(names)] for k in range(count)]


def prepare_source(path: str, source: Source, config: PrepConfig) -> Iterator[Part]:
    """Yields every video of one source, segment by segment, the undistorted one first.

    The file is decoded once, before anything is yielded, and few frames are in memory at a time. If
    fewer frames decode than it promises, segments are laid into those that do, provided that one
    fits.

    Args:
      path: the file, on this machine.
      source: what is known of it.
      config: see PrepConfig.

    Yields:
      Pieces of each video's clips and views, and then the video: see `buckets.gathered`.

    Raises:
      container.MediaError: (before the first video) the file cannot be used.
      encode.EncodeError: an encoder refuses it.
    """
    with contextlib.ExitStack() as stack:
        for segment in _segments(path, source, config, stack):
            yield from _prepare_segment(segment, config)


def _segments(
    path: str, source: Source, config: PrepConfig, stack: contextlib.ExitStack
) -> list[Segment]:
    count = config.heldout_segments if source.split == "heldout" else config.segments_per_source
    num_frames = source.info.num_frames
    length = segment_length(source.info.fps, num_frames, config)
    starts = segment_starts(num_frames, length, count)
    try:
        return footage.segments(path, source, starts, length, config.window, stack)
    except container.TruncatedVideoError as error:
        if config.segment_seconds <= 0:
            length = min(length, max(error.num_frames, config.preprocess.clip_len))
        if error.num_frames < length or config.truncated == "refuse":
            raise
        logging.warning("%s: using the %d frames that decode", error.path, error.num_frames)
        source = dataclasses.replace(source, info=source.info.with_frames(error.num_frames))
        starts = segment_starts(error.num_frames, length, count)
    return footage.segments(path, source, starts, length, config.window, stack)


def _prepare_segment(segment: Segment, config: PrepConfig) -> Iterator[Part]:
    source, clip = segment.source, segment.clip
    every, some = range(clip.num_frames), looked_at(segment, config)
    described = _described(segment, SOURCE, 0, {})
    base = yield from prepare_version(segment.frames(some), some, segment, described, config, ())
    for name in segment_simulators(source, segment.index, config):
        seed = key_hash(f"{config.seed}:{source.source_id}:{segment.index}:{name}") % 2**32
        with_vmaf = config.vmaf and has_vmaf(name)
        numbers = some if SIMULATORS[name].by_frame and not with_vmaf else every
        given = dataclasses.replace(clip, num_frames=len(numbers))
        kept = base  # what the last level looks like that can be told from those before
        for level in range(1, len(SIMULATORS[name].parameters) + 1):
            frames, parameter = simulate(
                segment.frames(numbers), given, name, level, seed, config.h265_preset
            )
            described = _described(segment, name, level, parameter)
            look = yield from prepare_version(
                *(frames, numbers, segment, described, config, (base, kept), with_vmaf),
                of_motion=SIMULATORS[name].of_motion,
            )
            del frames
            give_back()
            kept = kept if look == base else look


def give_back() -> None:
    """Returns free memory to the system, where the C library can.

    An encoder holds a hundred megabytes in pieces between which others stay: kept, what one left
    and what the next one takes add up.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def has_vmaf(simulator: str) -> bool:
    """Whether VMAF was made for what a simulator does."""
    return simulator in _VMAF_NAMES or SIMULATORS[simulator].kind in _VMAF_KINDS


def _described(
    segment: Segment, simulator: str, level: int, parameter: dict[str, Any]
) -> dict[str, Any]:
    """Fields that a version's record and its row have in common."""
    source_id = segment.source.source_id
    return {
        "video_id": f"{source_id}-{segment.index:03d}-{simulator}-{level}",
        "source_id": source_id,
        "path": printable(segment.source.path),
        "segment": segment.index,
        "simulator": simulator,
        "level": level,
        "parameter": json.dumps(parameter, sort_keys=True),
    }
