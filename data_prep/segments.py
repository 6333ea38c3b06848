"""One source file -> the records of its segments: undistorted, and at every simulator level."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep.config import PrepConfig
from data_prep.ingest import Source
from data_prep.simulators import SIMULATORS, effective_levels, simulate
from vqa_jax import frames as frames_lib
from vqa_jax import teachers as teachers_lib
from vqa_jax.records import key_hash

SOURCE = "source"  # simulator name of the undistorted segment, level 0


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


def cut_window(frames: np.ndarray, window: tuple[int, int], key: str) -> np.ndarray:
    """Cuts frames [T, H, W, 3] to at most `window` (width, height), placed by the key's hash."""
    _, height, width, _ = frames.shape
    w, h = min(window[0] or width, width), min(window[1] or height, height)
    place = key_hash("window:" + key)
    x = place % (width - w + 1)
    y = (place // 65536) % (height - h + 1)
    return frames[:, y : y + h, x : x + w]


def segment_simulators(source: Source, segment: int, config: PrepConfig) -> list[str]:
    """Simulators applied to a segment: all when held out, else a rotating share of them."""
    names = list(config.simulators)
    count = config.simulators_per_segment
    if source.split == "heldout" or count == 0 or count >= len(names):
        return names
    first = key_hash("simulators:" + source.source_id) + segment * count
    return [names[(first + k) % len(names)] for k in range(count)]


def prepare_source(root: str, source: Source, config: PrepConfig) -> Iterator[PreparedVideo]:
    """Yields every video of one source.

    Raises:
      frames.MediaError: the file cannot be decoded where a segment lies.
    """
    length = segment_length(source.info.fps, source.info.num_frames, config)
    heldout = source.split == "heldout"
    count = config.heldout_segments if heldout else config.segments_per_source
    starts = segment_starts(source.info.num_frames, length, count)
    for segment, start in enumerate(starts):
        frames = frames_lib.read_segment(os.path.join(root, source.path), start, length)
        frames = cut_window(frames, config.window, f"{source.source_id}:{segment}")
        yield from _prepare_segment(frames, source, segment, start, config)


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
            versions.append(
                _prepare_video(distorted, source, segment, start, name, level, parameter, config)
            )
        kept = effective_levels([_as_seen(v) for v in (base, *versions)])
        for level, version in enumerate(versions, start=1):
            if level not in kept:
                version.video["effective"] = version.row["effective"] = False
            yield version


def _as_seen(prepared: PreparedVideo) -> np.ndarray:
    return np.concatenate([prepared.video["frames"].ravel(), prepared.clips.ravel()])


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
    keys = frames_lib.key_frame_indices(len(frames), fps)
    common = {
        "video_id": video_id,
        "source_id": source.source_id,
        "path": source.path,
        "segment": segment,
        "simulator": simulator,
        "level": level,
        "effective": True,
        "parameter": json.dumps(parameter, sort_keys=True),
    }
    video = {
        **common,
        "start_frame": start,
        "num_frames": len(frames),
        "fps": fps,
        "width": frames.shape[2],
        "height": frames.shape[1],
        "preprocess": config.preprocess.to_json(),
        "frames": frames_lib.view_frames(frames[keys], config.preprocess),
    }
    scores = {name: teachers_lib.get(name).score(frames) for name in config.teachers}
    clips = frames_lib.motion_clips(frames, fps, config.preprocess)
    return PreparedVideo(video, clips, {**common, "split": source.split, "scores": scores})
