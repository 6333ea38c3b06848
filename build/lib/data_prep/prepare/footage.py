"""Segments of one file: decoded once, and read frame by frame as often as there are versions.

Frames lie in a file without a name in the system's folder for temporary files (TMPDIR), which goes
when its process does. Where they are too many for it, the file is decoded again for each version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np
from absl import logging

from data_prep.inputs.source import Source
from data_prep.simulators import Clip
from vqa_jax.jobs.files import key_hash
from vqa_jax.media import decode

# Of a source's frames in a file: beyond it, a disk is no faster than a decoder.
_MOST_BYTES = 4 * 2**30


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a file, cut to its window.

    Attributes:
      path: the file, on this machine.
      source: what is known of it.
      index: number of the segment.
      start: its first frame.
      clip: its number of frames, their size and rate.
      window: as of `cut_window`.
      kept: the frames one after the other; None: they are decoded for each reader.
    """

    path: str
    source: Source
    index: int
    start: int
    clip: Clip
    window: tuple[int, int]
    kept: IO[bytes] | None

    def frames(self, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Frames uint8 RGB [H, W, 3], several readers may go at once.

        numbers: ascending, from 0 at the segment's start; None for all.
        """
        numbers = range(self.clip.num_frames) if numbers is None else numbers
        if self.kept is None:
            wanted = [self.start + number for number in numbers]
            for _, frame in decode.iter_frames(self.path, wanted, self.source.info):
                yield self.cut(frame)
            return
        shape = (self.clip.height, self.clip.width, 3)
        for number in numbers:
            frame = np.empty(shape, np.uint8)
            if os.preadv(self.kept.fileno(), [frame], number * frame.nbytes) != frame.nbytes:
                raise OSError(f"the temporary file of {self.path} was cut off")
            yield frame

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """The segment's part of a frame of the file."""
        key = f"{self.source.source_id}:{self.index}"
        return np.ascontiguousarray(cut_window(frame, self.window, key))


def cut_window(frame: np.ndarray, window: tuple[int, int], key: str) -> np.ndarray:
    """A view of a frame [H, W, 3]: at most `window` (width, height), placed by the key's hash."""
    height, width = frame.shape[:2]
    w, h = min(window[0] or width, width), min(window[1] or height, height)
    place = key_hash("window:" + key)
    x = place % (width - w + 1)
    y = (place // 65536) % (height - h + 1)
    return frame[y : y + h, x : x + w]


def segments(
    path: str,
    source: Source,
    starts: Sequence[int],
    length: int,
    window: tuple[int, int],
    stack: contextlib.ExitStack,
) -> list[Segment]:
    """The segments of `length` frames from each of `starts`, after one pass through the file.

    They can be read until `stack` is closed.

    Raises:
      container.MediaError: the file cannot be used; TruncatedVideoError: it ends before they do.
    """
    frames = decode.iter_frames(path, {0}, source.info)
    _, first = next(frames)
    frames.close()
    found = []
    for index, start in enumerate(starts):
        shape = cut_window(first, window, "").shape
        clip = Clip(length, shape[0], shape[1], source.info.fps)
        found.append(Segment(path, source, index, start, clip, window, None))
    num_bytes = len(starts) * length * int(np.prod(shape))
    if num_bytes <= _MOST_BYTES:
        try:
            return _kept(found, stack)
        except OSError as error:
            logging.warning("%s: no room for %d bytes of frames (%s)", path, num_bytes, error)
    last = max(starts) + length - 1
    for _ in decode.iter_frames(path, {last}, source.info):
        pass  # the file holds all that was asked for, or the error says so before any version
    return found


def _kept(found: list[Segment], stack: contextlib.ExitStack) -> list[Segment]:
    """The segments with their frames in temporary files."""
    first, length = found[0], found[0].clip.num_frames
    kept = []
    for segment in found:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the stack closes it
        stack.enter_context(file)
        kept.append(dataclasses.replace(segment, kept=file))
    wanted = {segment.start + t for segment in found for t in range(length)}
    for number, frame in decode.iter_frames(first.path, wanted, first.source.info):
        for segment in kept:
            if segment.start <= number < segment.start + length:
                cut = segment.cut(frame)
                if segment.kept.write(cut.data) != cut.nbytes:
                    raise OSError("a write was cut short")
    return kept
