"""Read: videos as people have them -> what one student sees, several ahead of the device."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from vqa_jax.devices import hosts
from vqa_jax.media import ahead, isolation, sources, view
from vqa_jax.media.container import MediaError
from vqa_jax.media.isolation import Isolated
from vqa_jax.media.sources import Source
from vqa_jax.motion.extractor import CLIPS_AT_ONCE, MotionExtractor
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.settings import DecodeLimits
from vqa_jax.weights.bundle import StudentSpec

_ROOM = 1 << 26  # bytes of frames that wait to fill a batch
BATCH_AXES = 5  # of a batch of videos' frames
# Encoded (a path, URL, open file or bytes), or frames uint8 RGB [T, H, W, 3] of any array library.
Video = Source | np.ndarray | jax.Array


@dataclasses.dataclass(frozen=True)
class Seen:
    """A decoded video: what `view.video_input` gives, notes, and whether it is a picture."""

    frames: np.ndarray
    clips: np.ndarray
    notes: str = ""
    still: bool = False

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.frames.nbytes + self.clips.nbytes


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads videos for one student.

    Attributes:
      spec: of the student.
      extractor: gives its motion extractor; asked when the first video has been decoded.
      together: other processes read the same videos at the same time: one that any of them cannot
        read is none for all.
    """

    spec: StudentSpec
    extractor: Callable[[], MotionExtractor]
    together: bool = False

    def read(self, video: Video, fps: float | None, limits: DecodeLimits) -> VideoInput:
        """One video; errors as `Predictor.read`."""
        with isolation.borrowed(limits) as child:
            return self.inputs([self.seen(video, fps, limits, child)])[0]

    def read_all(
        self, videos: Iterable[Video], fps: float | None, limits: DecodeLimits, most: int
    ) -> Iterator[tuple[str, VideoInput | MediaError]]:
        """Yields (name, input or why there is none) of each video, in order.

        Files are decoded in children while the caller works; the motion network takes clips of
        several videos at once.

        Args:
          videos: may be endless.
          fps: frames a second of those that are frames.
          limits: of each file.
          most: videos that are decoded and not yet taken; fewer where they are large.

        Raises:
          view.FramesError: frames that are no video, or without fps.
        """

        def decode(video: Video, child: Isolated) -> Seen:
            return self.seen(video, fps, limits, child)

        waiting: list[tuple[str, Seen | MediaError]] = []
        size = operator.attrgetter("nbytes")
        with contextlib.closing(ahead.in_order(videos, decode, limits, most, size)) as decoded:
            for video, future in decoded:
                name = name_of(video)
                waiting.append((name, self._agreed(name, _outcome(future))))
                clips = sum(len(s.clips) for _, s in waiting if isinstance(s, Seen))
                if clips >= CLIPS_AT_ONCE or len(waiting) >= most:
                    yield from self.finished(waiting)
                    waiting = []
            yield from self.finished(waiting)

    def _agreed(self, name: str, found: Seen | MediaError) -> Seen | MediaError:
        """The same; an error where another process has one."""
        failed = isinstance(found, MediaError)
        if not self.together or hosts.anywhere(failed) == failed:
            return found
        return MediaError(name, "limit", "another process of this job cannot read it")

    def finished(
        self, waiting: Sequence[tuple[str, Seen | MediaError]]
    ) -> Iterator[tuple[str, VideoInput | MediaError]]:
        """Yields (name, input) of decoded videos in order, motion of all computed together."""
        inputs = iter(self.inputs([seen for _, seen in waiting if isinstance(seen, Seen)]))
        for name, seen in waiting:
            yield name, seen if isinstance(seen, MediaError) else next(inputs)

    def inputs(self, videos: list[Seen]) -> list[VideoInput]:
        """What the student sees, motion features of all videos computed together."""
        if not videos:
            return []
        motion = self.extractor()(np.concatenate([seen.clips for seen in videos]))
        ends = np.cumsum([len(seen.clips) for seen in videos])[:-1]
        found = []
        for seen, features in zip(videos, np.split(motion, ends), strict=True):
            if seen.still:  # as in training (method 4)
                features = np.zeros_like(features[:1])
            found.append(VideoInput.of_view(seen.frames, features, self.spec, seen.notes))
        return found

    def of_views(self, views: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[VideoInput]:
        """What the student sees of (frames, motion clips) as `view.video_input` gives them."""
        return self.inputs([Seen(*one) for one in views])

    def seen(self, video: Video, fps: float | None, limits: DecodeLimits, child: Isolated) -> Seen:
        """One video decoded, by a child; nothing is asked of the devices."""
        pre = self.spec.preprocess
        if not sources.is_source(video):
            return Seen(*view.frames_input(np.asarray(video), fps, pre))
        with sources.local(video, limits.seconds) as path:
            frames, clips, info = child.call(path, view.video_input, path, pre, limits.pixels)
            return Seen(frames, clips, info.notes, view.is_image(path, info.num_frames))


def slimmed(
    videos: list[tuple[str, VideoInput | MediaError]],
    tower_tokens: Callable[[Sequence[VideoInput]], list[VideoInput]],
) -> list[tuple[str, VideoInput | MediaError]]:
    """The same, with a frozen tower's tokens in place of frames where these take much memory."""
    seen = [video for _, video in videos if isinstance(video, VideoInput)]
    if sum(v.frames.nbytes for v in seen if v.frames.dtype == np.uint8) < _ROOM:
        return videos
    found = iter(tower_tokens(seen))
    return [(name, v if isinstance(v, MediaError) else next(found)) for name, v in videos]


def _outcome(future: Future[Seen]) -> Seen | MediaError:
    try:
        return future.result()
    except MediaError as error:
        return error


def is_one(videos: Any) -> bool:
    """Whether a value is one video rather than several."""
    return sources.is_source(videos) or (_is_array(videos) and np.ndim(videos) != BATCH_AXES)


def name_of(video: Video) -> str:
    """What a result calls a video; empty for frames and bytes.

    Raises:
      view.FramesError: it is none.
    """
    if sources.is_source(video):
        return sources.name_of(video)
    if _is_array(video):
        return ""
    raise view.FramesError(
        f"a video is a path, encoded bytes, a file or an array of frames, not {type(video)}"
    )


def _is_array(video: Any) -> bool:
    return hasattr(video, "__array__")
