"""Short passages of a long video, each as the student's input, in one pass and bounded memory."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from vqa_jax.media.container import MediaError, TruncatedVideoError
from vqa_jax.media.decode import iter_frames
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.media.probe import VideoInfo
from vqa_jax.media.view import InputCollector, motion_picture


@dataclasses.dataclass(frozen=True)
class Passage:
    """Some consecutive frames of a video.

    Attributes:
      start, stop: seconds from the video's first frame.
      frames, clips: as of `view.video_input` of these frames alone; None with `error`.
      error: why it cannot be read.
    """

    start: float
    stop: float
    frames: np.ndarray | None = None
    clips: np.ndarray | None = None
    error: str | None = None


class _Open:
    """A passage whose frames are still coming."""

    def __init__(self, first: int, end: int, fps: float, pre: Preprocess):
        self.first, self.end, self._fps = first, end, fps
        self.collector = InputCollector(end - first, fps, pre)

    def add(self, number: int, frame: np.ndarray, small: np.ndarray | None) -> None:
        self.collector.add(number - self.first, frame, small)

    def finished(self) -> Passage:
        frames, clips = self.collector.collected()
        times = self.first / self._fps, self.end / self._fps
        return Passage(*times, frames, clips)


def bounds(num_frames: int, fps: float, length: float, stride: float) -> Iterator[tuple[int, int]]:
    """First frame and the one after the last of every passage, in order.

    The last one ends with the video and is shifted back to be as long as the others; a video
    shorter than a passage is one passage.

    Raises:
      ValueError: stride or length not positive, or a stride that leaves gaps.
    """
    if not 0 < stride <= length < math.inf:
        raise ValueError(f"need 0 < stride <= window, got {stride:g} and {length:g} seconds")
    count = min(num_frames, max(1, round(length * fps)))
    step = max(1, round(stride * fps))
    first = 0
    while first + count < num_frames:
        yield first, first + count
        first += step
    yield num_frames - count, num_frames


def planned(
    info: VideoInfo, length: float, stride: float, start: float = 0.0, seconds: float = 0.0
) -> Iterator[tuple[int, int]]:
    """`bounds` of a part of a video, in frames of the whole of it.

    Args:
      info: of `probe.probe`.
      length, stride: as of `bounds`.
      start: of the part, seconds from the first frame.
      seconds: of the part; 0 is to the end.

    Raises:
      MediaError: the video has ended by then.
      ValueError: as `bounds`, or a negative start or part.
    """
    first, stop = part_of(info, start, seconds)
    spans = bounds(stop - first, info.fps, length, stride)
    return ((first + a, first + b) for a, b in spans)


def part_of(info: VideoInfo, start: float, seconds: float) -> tuple[int, int]:
    """First frame of a part of a video and the one after its last; errors as of `planned`.

    Args:
      info: of `probe.probe`.
      start: seconds from the first frame.
      seconds: of the part; 0 is to the end.
    """
    if not (0 <= start < math.inf and 0 <= seconds < math.inf):
        raise ValueError(f"a part starts at 0 or later, got {start:g} s and {seconds:g} s of it")
    first = round(start * info.fps)
    if first >= info.num_frames:
        raise MediaError(info.path, "probe", f"ends before {start:g} s, where it was to start")
    most = info.num_frames - first
    count = min(most, max(1, round(seconds * info.fps))) if seconds else most
    return first, first + count


def read(
    info: VideoInfo,
    pre: Preprocess,
    length: float,
    stride: float,
    start: float = 0.0,
    seconds: float = 0.0,
) -> Iterator[Passage]:
    """Yields a video's passages in order while it is decoded once, up to the last of them.

    What is held is one passage's resized frames, whatever the video's length.

    Args:
      info: of `probe.probe`.
      pre: how the student sees a video.
      length: of a passage, seconds.
      stride: from one passage's start to the next one's, seconds.
      start, seconds: of the part that is read, see `planned`.

    Yields:
      one Passage for each of `planned`; those from where the file cannot be read on say why.
    """
    bounded = list(planned(info, length, stride, start, seconds))
    plan, wanted_frames = iter(bounded), range(bounded[0][0], bounded[-1][1])
    coming = next(plan, None)
    current: list[_Open] = []
    reason = ""
    try:
        for number, frame in iter_frames(info.path, wanted_frames, info):
            while coming is not None and coming[0] <= number:
                current.append(_Open(*coming, info.fps, pre))
                coming = next(plan, None)
            wanted = any(number - p.first in p.collector.moving for p in current)
            small = motion_picture(frame, pre) if wanted else None
            for passage in current:
                passage.add(number, frame, small)
            while current and current[0].end <= number + 1:
                yield current.pop(0).finished()
            if coming is None and not current:
                return
    except TruncatedVideoError as error:
        reason = f"the video ends after {error.num_frames} of {info.num_frames} frames"
    except MediaError as error:
        reason = f"{error.reason} [{error.stage}]"
    for passage in current:
        yield Passage(passage.first / info.fps, passage.end / info.fps, error=reason)
    while coming is not None:
        yield Passage(coming[0] / info.fps, coming[1] / info.fps, error=reason)
        coming = next(plan, None)
