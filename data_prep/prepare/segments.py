"""One source file -> the records of its segments: undistorted, and at every simulator level."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from data_prep.inputs.source import Source
from data_prep.prepare.config import PrepConfig
from data_prep.prepare.pools import ALL
from data_prep.simulators import SIMULATORS, effective_levels, simulate
from vqa_jax.jobs.files import key_hash, printable
from vqa_jax.media import container, decode, view
from vqa_jax.teachers import measures, vmaf

SOURCE = "source"  # simulator name of the undistorted segment, level 0
# What VMAF was made for: compression and scaling, by kind of simulator and by name.
_VMAF_KINDS, _VMAF_NAMES = ("streaming", "coding"), ("resize", "nearest", "bilinear")
_MAX_DECODED_BYTES = 4 * 2**30  # of a source's segments; its versions take several times as much


@dataclasses.dataclass(frozen=True)
class PreparedVideo:
    """Records of one video and its row in the score table."""

    video: dict[str, Any]
    clips: np.ndarray  # uint8 [M, K, s, s, 3]
    row: dict[str, Any]


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


def cut_window(frame: np.ndarray, window: tuple[int, int], key: str) -> np.ndarray:
    """A view of a frame [H, W, 3]: at most `window` (width, height), placed by the key's hash."""
    height, width = frame.shape[:2]
    w, h = min(window[0] or width, width), min(window[1] or height, height)
    place = key_hash("window:" + key)
    x = place % (width - w + 1)
    y = (place // 65536) % (height - h + 1)
    return frame[y : y + h, x : x + w]


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


def prepare_source(path: str, source: Source, config: PrepConfig) -> Iterator[PreparedVideo]:
    """Yields every video of one source, segment by segment, the undistorted one first.

    The file is decoded once, before anything is yielded. If fewer frames decode than it promises,
    segments are laid into those that do, provided that one fits.

    Args:
      path: the file, on this machine.
      source: what is known of it.
      config: see PrepConfig.

    Raises:
      container.MediaError: (before the first video) the file cannot be used.
      encode.EncodeError: an encoder refuses it.
    """
    count = config.heldout_segments if source.split == "heldout" else config.segments_per_source
    num_frames = source.info.num_frames
    length = segment_length(source.info.fps, num_frames, config)
    starts = segment_starts(num_frames, length, count)
    try:
        segments = _decode(path, source, starts, length, config)
    except container.TruncatedVideoError as error:
        if config.segment_seconds <= 0:
            length = min(length, max(error.num_frames, config.preprocess.clip_len))
        if error.num_frames < length or config.truncated == "refuse":
            raise
        logging.warning("%s: using the %d frames that decode", error.path, error.num_frames)
        source = dataclasses.replace(source, info=source.info.with_frames(error.num_frames))
        starts = segment_starts(error.num_frames, length, count)
        segments = _decode(path, source, starts, length, config)
    for segment, start in enumerate(starts):
        yield from _prepare_segment(segments[segment], source, segment, start, config)


def _decode(
    path: str, source: Source, starts: list[int], length: int, config: PrepConfig
) -> np.ndarray:
    """All segments, cut to their windows, in one pass: uint8 [segments, length, h, w, 3]."""
    wanted = {start + t for start in starts for t in range(length)}
    segments = np.empty(0, np.uint8)
    for number, frame in decode.iter_frames(path, wanted, source.info):
        for k, start in enumerate(starts):
            if not start <= number < start + length:
                continue
            cut = cut_window(frame, config.window, f"{source.source_id}:{k}")
            if not segments.size:
                size = len(starts) * length * cut.size
                if size > _MAX_DECODED_BYTES:
                    reason = f"its segments take {size / 2**30:.1f} GiB in memory: set a smaller"
                    reason += " segment_seconds or window, or fewer segments"
                    raise container.MediaError(path, "decode", reason)
                segments = np.empty((len(starts), length, *cut.shape), np.uint8)
            segments[k, number - start] = cut
    return segments


def _prepare_segment(
    frames: np.ndarray, source: Source, segment: int, start: int, config: PrepConfig
) -> Iterator[PreparedVideo]:
    base = _prepare_video(frames, source, segment, start, SOURCE, 0, {}, config)
    yield base
    for name in segment_simulators(source, segment, config):
        versions = []
        for level in range(1, len(SIMULATORS[name].parameters) + 1):
            seed = key_hash(f"{config.seed}:{source.source_id}:{segment}:{name}") % 2**32
            distorted, parameter = simulate(
                frames, source.info.fps, name, level, seed, h265_preset=config.h265_preset
            )
            version = _prepare_video(
                distorted, source, segment, start, name, level, parameter, config
            )
            if config.vmaf and has_vmaf(name):
                version.row["vmaf"] = vmaf.vmaf(frames, distorted, source.info.fps)
            versions.append(version)
        kept = effective_levels([(v.video["frames"], v.clips) for v in (base, *versions)])
        for level, version in enumerate(versions, start=1):
            if level not in kept:
                version.video["effective"] = version.row["effective"] = False
            yield version


def has_vmaf(simulator: str) -> bool:
    """Whether VMAF was made for what a simulator does."""
    return simulator in _VMAF_NAMES or SIMULATORS[simulator].kind in _VMAF_KINDS


def _prepare_video(
    frames: np.ndarray,
    source: Source,
    segment: int,
    start: int,
    simulator: str,
    level: int,
    parameter: dict[str, Any],
    config: PrepConfig,
) -> PreparedVideo:
    fps = source.info.fps
    video_id = f"{source.source_id}-{segment:03d}-{simulator}-{level}"
    keys = view.key_frame_indices(len(frames), fps)
    common = {
        "video_id": video_id,
        "source_id": source.source_id,
        "path": printable(source.path),
        "segment": segment,
        "simulator": simulator,
        "level": level,
        "effective": True,
        "parameter": json.dumps(parameter, sort_keys=True),
        "num_frames": len(frames),
        "fps": fps,
    }
    video = {
        **common,
        "start_frame": start,
        "width": frames.shape[2],
        "height": frames.shape[1],
        "preprocess": config.preprocess.to_json(),
        "frames": view.view_frames(frames[keys], config.preprocess),
    }
    scores = {name: measures.get(name).score(frames) for name in config.teachers}
    clips = view.motion_clips(frames, fps, config.preprocess)
    row = {**common, "split": source.split, "scores": scores, "notes": source.info.notes}
    return PreparedVideo(video, clips, row)
