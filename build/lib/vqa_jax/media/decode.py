"""Video files -> RGB frames, by frame number, with typed errors.

Decoding is sequential and single-threaded, and each frame is converted by itself: frame k of a
file does not depend on which other frames were asked for, nor on the machine's load. Probing
(`vqa_jax.media.probe`) and the errors (`vqa_jax.media.container`) are available here too.
"""

import itertools
import math
import os
from collections.abc import Collection, Iterator, Sequence

import av
import numpy as np
from absl import logging

from vqa_jax.media import container, isolation
from vqa_jax.media.colour import Converter
from vqa_jax.media.container import (
    STILL_EXTENSIONS,
    VIDEO_EXTENSIONS,
    MediaError,
    NoFrameError,
    NotAVideoError,
    TruncatedVideoError,
    UnreadableFileError,
)
from vqa_jax.media.find import find_videos
from vqa_jax.media.interlace import deinterlaced
from vqa_jax.media.probe import VideoInfo, probe, seconds_between
from vqa_jax.settings import DecodeLimits

__all__ = [
    "STILL_EXTENSIONS",
    "VIDEO_EXTENSIONS",
    "MediaError",
    "NoFrameError",
    "NotAVideoError",
    "TruncatedVideoError",
    "UnreadableFileError",
    "VideoInfo",
    "find_videos",
    "iter_frames",
    "probe",
    "read_frames",
    "read_segment",
]


def isolated_frames(
    info: VideoInfo, indices: Collection[int], limits: DecodeLimits
) -> Iterator[tuple[int, np.ndarray]]:
    """`iter_frames` of a probed file in a child, within limits."""
    return isolation.run(limits, info.path, iter_frames, info.path, indices, info)


def iter_frames(
    path: str | os.PathLike[str],
    indices: Collection[int] | None = None,
    info: VideoInfo | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes a file once, in order of showing, and converts only the frames asked for.

    Frame k is the k-th that decodes. In a file of variable rate (`VideoInfo.variable_rate`) it is
    the one on screen in the middle of the k-th interval of 1/fps since the first, so that frames
    are left out where they are dense and come again where they are sparse.

    Interlaced frames are deinterlaced (`vqa_jax.media.interlace`). Rotation metadata is applied,
    pixels come square; frames of another size than the first, or turned differently, are scaled to
    that one. More than 8 bits are reduced to 8, HDR is tone-mapped, transparency laid over black
    (`vqa_jax.media.colour`). Corrupt packets are skipped and what the decoder conceals is kept, as
    a player does; either is logged.

    Args:
      path: a video file, or a still picture (one frame).
      indices: frame numbers, in any order; None for all. Decoding stops after the last one.
      info: what `probe` said of the file, if it is at hand; probed again otherwise.

    Yields:
      (frame number, uint8 RGB [H, W, 3]), ascending, each once. Numbers that show one picture may
      share an array: copy before writing into it.

    Raises:
      TruncatedVideoError: (after what exists has been yielded) the stream ends too early.
      MediaError: as `probe`, or a read error.
    """
    path = os.fspath(path)
    wanted = indices  # None, or a range, which is no larger for a long film
    if not (wanted is None or isinstance(wanted, range)):
        wanted = {int(i) for i in wanted}
    if wanted is not None and (not wanted or min(wanted) < 0):
        raise ValueError(f"frame numbers must be 0 or more, and at least one: {sorted(wanted)[:3]}")
    end = math.inf if wanted is None else max(wanted) + 1
    info = info or probe(path)
    if info.still:
        end = min(end, 1)
    converter: Converter | None = None
    number = 0  # of the next frame
    with container.opened(path, "decode") as file:
        for frame, stop in _numbered(deinterlaced(_frames(file, path)), info):
            converter = converter or Converter(frame, file.stream, path)
            stop = int(min(stop, end))
            numbers = [n for n in range(number, stop) if wanted is None or n in wanted]
            image = converter(frame) if numbers else None
            for n in numbers:
                yield n, image
            number = max(number, stop)
            if number == end:
                break
    if converter is None:
        raise NoFrameError(path, "decode", "no frame decodes; fetch or encode the file again")
    if wanted is not None and number < max(wanted) + 1:
        reason = f"ends after {number} frames, but frame number {max(wanted)} was asked for"
        raise TruncatedVideoError(path, "decode", reason, number)


def read_frames(path: str | os.PathLike[str], indices: Sequence[int]) -> np.ndarray:
    """Reads frames by number (any order, repeats allowed) -> uint8 RGB [len(indices), H, W, 3].

    Raises:
      MediaError: see `iter_frames`; TruncatedVideoError if a frame is beyond the end.
    """
    order = [int(i) for i in indices]
    places: dict[int, list[int]] = {}
    for place, index in enumerate(order):
        places.setdefault(index, []).append(place)
    out = np.empty(0, np.uint8)
    for index, frame in iter_frames(path, places.keys()):
        if not out.size:
            out = np.empty((len(order), *frame.shape), np.uint8)
        out[places[index]] = frame
    return out


def read_segment(path: str | os.PathLike[str], start: int, count: int) -> np.ndarray:
    """As `read_frames` of `count` frames from number `start` -> uint8 RGB [count, H, W, 3]."""
    return read_frames(path, range(start, start + count))


def _frames(file: container.Media, path: str) -> Iterator[av.VideoFrame]:
    """Every frame that decodes, in order of showing."""
    damaged = 0
    try:
        for packet in container.packets(file, path, "decode"):
            frames, error = container.decoded(file, packet)
            damaged += error
            yield from frames
    finally:
        if damaged:
            logging.warning("%s: %d damaged packets skipped", path, damaged)


def _numbered(
    frames: Iterator[av.VideoFrame], info: VideoInfo
) -> Iterator[tuple[av.VideoFrame, int]]:
    """Each frame with the number at which the next one takes over.

    Even rates: 1, 2, 3 ... Else frame number k shows at (k + 1/2) / fps, counted from the first
    frame, so that frames that are only slightly early or late keep their numbers.
    """
    if not info.variable_rate:
        yield from zip(frames, itertools.count(1))
        return
    before: av.VideoFrame | None = None
    elapsed = 0.0
    for frame in frames:
        if before is not None:
            elapsed += seconds_between(before, frame, info)
            yield before, max(math.ceil(elapsed * info.fps - 0.5), 0)
        before = frame
    if before is not None:
        yield before, math.floor(elapsed * info.fps + 0.5) + 1
