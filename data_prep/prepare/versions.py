"""One version of a segment, from its frames as they come: what is stored of it, and its row."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from data_prep.prepare.config import PrepConfig
from data_prep.prepare.footage import Segment
from data_prep.prepare.teacher_views import TeacherViews
from vqa_jax.corpus import clip_coding
from vqa_jax.media import view
from vqa_jax.teachers import measures, vmaf

CLIPS = "vqa_clips"
_PIECE_BYTES = 1 << 20  # of coded clips and views, handed on as they come
# Grey levels in the mean over a small picture. Between frames of a camera on a tripod it is 0.1,
# which is the encoder's noise, of a slow pan, zoom or shaking hand 0.3 and more.
_MOVEMENT = 0.2
_STATIC = 0.6  # share of the time without movement of which a pause can no more be told


@dataclasses.dataclass(frozen=True)
class PreparedVideo:
    """Records of one video and its row in the score table.

    Attributes:
      video: its record `vqa_videos`.
      row: of the video table.
      clip_order: int32 [M, K], see `clip_coding`.
      clip_shape: of the residuals of its clips [U, 3, s, s].
      views: dataset -> its record `vqa_views`, but for its coded pictures.
    """

    video: dict[str, Any]
    row: dict[str, Any]
    clip_order: np.ndarray
    clip_shape: tuple[int, ...]
    views: dict[str, dict[str, Any]]


# A video, or before it a piece of its residuals or of its coded pictures: dataset, bytes.
Part = tuple[str, bytes] | PreparedVideo


def looked_at(segment: Segment, config: PrepConfig) -> list[int]:
    """Numbers of the frames that anything of a version is made of, ascending."""
    clip = segment.clip
    seen = view.InputCollector(clip.num_frames, clip.fps, config.preprocess)
    numbers = seen.keys.keys() | seen.moving | TeacherViews(segment, config).numbers
    for name in config.teachers:
        numbers |= set(_chosen(measures.get(name), clip.num_frames))
    return sorted(numbers)


def prepare_version(
    frames: Iterable[np.ndarray],
    numbers: Sequence[int],
    segment: Segment,
    described: dict[str, Any],
    config: PrepConfig,
    alike: Collection[bytes],
    with_vmaf: bool = False,
    of_motion: bool = False,
) -> Iterator[Part]:
    """Makes the records of one version; what is seen of it is looked at once, frame by frame.

    Args:
      frames: of the version.
      numbers: theirs in the segment: of all, or of those that are looked at.
      segment: what it is a version of.
      described: fields that record and row have in common.
      config: see PrepConfig.
      alike: digests of versions; one that looks like any of them is not effective.
      with_vmaf: measure it against the segment; frames are all frames then.
      of_motion: what was done to it is seen in what moves: it is not effective where nothing does
        for most of the time, as of a static camera, which is no flaw.

    Yields:
      Pieces of what is large, and then the PreparedVideo.

    Returns:
      A digest of what the student sees, to tell the version from others.
    """
    clip, pre = segment.clip, config.preprocess
    pictures = view.InputCollector(clip.num_frames, clip.fps, pre)
    clips = _Clips(pictures.moving)
    scores, kept = _Scores(config.teachers, clip.num_frames), TeacherViews(segment, config)
    with contextlib.ExitStack() as stack:
        comparison = None
        if with_vmaf:
            shape = (clip.height, clip.width, 3)
            comparison = vmaf.Comparison(segment.frames(), shape, shape, clip.fps)
            stack.enter_context(comparison)
        before = None
        for number, frame in zip(numbers, frames, strict=True):
            pictures.add_picture(number, frame)
            if number in pictures.moving:
                # A frame that is shown again is the same array: it is looked at once.
                clips.add(number, None if frame is before else view.motion_picture(frame, pre))
            scores.add(number, frame)
            kept.add(number, frame)
            if comparison is not None:
                comparison.add(frame)
            before = frame if number in pictures.moving else None
            if len(clips.waiting) >= _PIECE_BYTES:
                yield CLIPS, clips.taken()
            yield from kept.taken(_PIECE_BYTES)
        measured = {} if comparison is None else {"vmaf": comparison.score()}
    seen = pictures.pictures()
    digest = hashlib.sha256(repr(seen.shape).encode())
    digest.update(seen)
    digest.update(clips.digest())
    effective = digest.digest() not in alike and not (of_motion and clips.static)
    common = {**described, "effective": effective, "num_frames": clip.num_frames, "fps": clip.fps}
    info = segment.source.info
    video = {
        **common,
        "start_frame": segment.start,
        "width": clip.width,
        "height": clip.height,
        "preprocess": pre.to_json(),
        "frames": seen,
        "missing": info.missing,
    }
    row = {**common, "split": segment.source.split, "scores": scores.all(), "notes": info.notes}
    if clips.waiting:
        yield CLIPS, clips.taken()
    yield from kept.taken()
    shape = (clips.coder.count, 3, pre.motion_size, pre.motion_size)
    order, views = clips.order(pictures.clip_indices), kept.records(described["video_id"])
    yield PreparedVideo(video, row | measured, order, shape, views)
    return digest.digest()


class _Clips:
    """Motion clips of a version, coded as their frames come."""

    def __init__(self, numbers: Collection[int]):
        self.coder = clip_coding.Encoder()
        self.waiting = bytearray()
        self._places: dict[int, int] = {}
        self._place = -1
        self._before: np.ndarray | None = None
        self._pause = self._longest = 0  # frames since something moved

    def add(self, number: int, small: np.ndarray | None) -> None:
        """Takes frame `number`, ascending, as it is in clips; None: as the one before."""
        moves = False
        if small is not None:
            self._place, residual = self.coder.add(small)
            self.waiting += residual
            moves = self._before is not None and _distance(self._before, small) >= _MOVEMENT
            self._before = small
        self._pause = 0 if moves else self._pause + 1
        self._longest = max(self._longest, self._pause)
        self._places[number] = self._place

    @property
    def static(self) -> bool:
        """Whether nothing moved for most of the time, without a break."""
        return self._longest > _STATIC * len(self._places)

    def taken(self) -> bytes:
        """Residuals that were not taken before."""
        taken = bytes(self.waiting)
        self.waiting.clear()
        return taken

    def order(self, indices: np.ndarray) -> np.ndarray:
        """int32 [M, K] of clips of the frames int [M, K]."""
        return np.array([[self._places[n] for n in clip] for clip in indices.tolist()], np.int32)

    def digest(self) -> bytes:
        """Tells the clips from others of the same frame numbers."""
        places = np.array(list(self._places.values()), np.int32)
        return self.coder.digest() + places.tobytes()


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two uint8 pictures."""
    return float(cv2.norm(first, second, cv2.NORM_L1)) / first.size


class _Scores:
    """Scores of the built-in teachers, each frame looked at once by those who look alike."""

    def __init__(self, names: Iterable[str], num_frames: int):
        self._teachers = [measures.get(name) for name in names]
        self._looks: dict[Any, dict[int, np.ndarray]] = {}  # look -> frame number -> what it finds
        self._wanted: dict[Any, set[int]] = {}
        for teacher in self._teachers:
            wanted = self._wanted.setdefault(_look(teacher), set())
            wanted.update(_chosen(teacher, num_frames))
        self._num_frames = num_frames

    def add(self, number: int, frame: np.ndarray) -> None:
        for look, numbers in self._wanted.items():
            if number in numbers:
                self._looks.setdefault(look, {})[number] = look(frame)

    def all(self) -> dict[str, float]:
        """Name -> score, once all frames were added."""
        found = {}
        for teacher in self._teachers:
            looks = self._looks[_look(teacher)]
            looks = [looks[number] for number in _chosen(teacher, self._num_frames)]
            if isinstance(teacher, measures.Measure):
                found[teacher.name] = float(teacher.measure(looks))
            else:
                found[teacher.name] = teacher.score(np.stack(looks))
        return found


def _look(teacher: measures.Teacher) -> Any:
    return teacher.look if isinstance(teacher, measures.Measure) else _itself


def _chosen(teacher: measures.Teacher, num_frames: int) -> list[int]:
    """Numbers of the frames that a teacher looks at; one that does not say sees all."""
    if isinstance(teacher, measures.Measure):
        return teacher.choose(num_frames).tolist()
    return list(range(num_frames))


def _itself(frame: np.ndarray) -> np.ndarray:
    return frame
