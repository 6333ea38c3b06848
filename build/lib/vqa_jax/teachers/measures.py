"""Weak teachers: the interface, a registry, and built-in measures without weights (method 3.1).

A teacher turns a video into one number. The built-in ones are classical signal measures: each sees
one kind of flaw, is misled by content, and none is a video quality model; they exist so that the
loop runs with nothing downloaded. Scores of real models come in through `score_tables`, and all
are brought to one scale by `scales`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from vqa_jax.teachers import nss

_MAX_STILLS = 2  # frames that a still measure looks at, spread evenly
_MAX_MOTION = 48  # consecutive frames that the temporal measure looks at
_MOTION_WIDTH = 96


@runtime_checkable
class Teacher(Protocol):
    """What a teacher must offer.

    Attributes:
      name: key in the registry and in score tables.
      higher_is_better: direction of the scores.
    """

    name: str
    higher_is_better: bool

    def score(self, frames: np.ndarray) -> float:
        """Finite score of consecutive frames uint8 RGB [T, H, W, 3], T >= 1."""
        ...


_REGISTRY: dict[str, Teacher] = {}


def register(teacher: Teacher) -> Teacher:
    """Add a teacher under its name; a name may be taken once."""
    if teacher.name in _REGISTRY:
        raise ValueError(f"teacher {teacher.name!r} is already registered")
    _REGISTRY[teacher.name] = teacher
    return teacher


def get(name: str) -> Teacher:
    """Registered teacher; KeyError names the known ones."""
    if name not in _REGISTRY:
        raise KeyError(f"no teacher {name!r}; known: {', '.join(names())}")
    return _REGISTRY[name]


def names() -> list[str]:
    """Names of all registered teachers, sorted."""
    return sorted(_REGISTRY)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A built-in teacher around a function of frames.

    Attributes:
      name: key in the registry.
      higher_is_better: direction.
      measure: function of what `look` finds in the frames, at least one.
      look: what it needs of a frame uint8 RGB [H, W, 3].
      max_frames: frames it looks at; more are thinned evenly (stills) or cut (motion).
      consecutive: whether it needs consecutive frames.
    """

    name: str
    higher_is_better: bool
    measure: Callable[[Sequence[np.ndarray]], float]
    look: Callable[[np.ndarray], np.ndarray] = nss.luma
    max_frames: int = _MAX_STILLS
    consecutive: bool = False

    def choose(self, num_frames: int) -> np.ndarray:
        """Numbers of the frames that it looks at, of `num_frames` consecutive ones: int [n]."""
        if num_frames <= self.max_frames:
            return np.arange(num_frames)
        if self.consecutive:
            return (num_frames - self.max_frames) // 2 + np.arange(self.max_frames)
        return np.linspace(0, num_frames - 1, self.max_frames + 2).astype(int)[1:-1]

    def score(self, frames: np.ndarray) -> float:
        """Score of uint8 RGB [T, H, W, 3]; ValueError for other input."""
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise ValueError(
                f"{self.name}: need uint8 frames [T, H, W, 3], got {frames.dtype} {frames.shape}"
            )
        return float(self.measure([self.look(frame) for frame in frames[self.choose(len(frames))]]))


def niqe(lumas: Sequence[np.ndarray]) -> float:
    """Distance of natural scene statistics from those of photographs; lower is better.

    Mittal et al. 2013, fitted on seven photographs only. Weak: takes unusual content (text,
    screens, fine texture, dark scenes) for distortion, and sees no temporal flaw.
    """
    found = [nss.features(gray, nss.PATCH)[0] for gray in lumas]
    return nss.niqe_distance(np.concatenate(found), nss.load_pristine())


def brisque_distance(lumas: Sequence[np.ndarray]) -> float:
    """Distance of whole-frame statistics from pristine ones, in deviations; lower is better.

    Features of Mittal et al. 2012 without their regression. Weak: as `niqe`, and one odd feature
    of the content is enough to raise it.
    """
    found = [nss.features(gray, None)[0] for gray in lumas]
    return nss.frame_distance(np.concatenate(found), nss.load_pristine())


def sharpness(lumas: Sequence[np.ndarray]) -> float:
    """How much neighbour differences shrink when blurred again, 0..1; higher is sharper.

    Crete et al. 2007. Weak: noise counts as sharp, smooth content and shallow focus as blurred.
    """
    values = []
    for gray in lumas:
        shares = []
        for axis, size in ((0, (1, 11)), (1, (11, 1))):
            change = np.abs(np.diff(gray, axis=axis))
            blurred = np.abs(np.diff(cv2.blur(gray, size), axis=axis))
            shares.append(np.maximum(change - blurred, 0).sum() / (change.sum() + 1e-3))
        values.append(min(shares))
    return float(np.mean(values))


def blockiness(lumas: Sequence[np.ndarray]) -> float:
    """Differences inside 8 x 8 blocks over those across their borders; higher is better.

    Romaniak et al. 2012; about 1 without blocks, below with them. Weak: sees only a grid that
    starts at the frame's corner, and modern codecs smooth theirs.
    """
    inside = border = 0.0
    inside_count = border_count = 0
    for gray in lumas:
        for picture in (gray, gray.T):
            line = np.abs(np.diff(picture, axis=0)).sum(axis=1)
            on_border = np.arange(1, len(line) + 1) % 8 == 0
            width = picture.shape[1]
            inside += line[~on_border].sum()
            border += line[on_border].sum()
            inside_count += width * (~on_border).sum()
            border_count += width * on_border.sum()
    # A hundredth of a gray level: a frame without any detail has no blocks either.
    return float((inside / inside_count + 0.01) / (border / border_count + 0.01))


_LAPLACIAN_DIFFERENCE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def noise(lumas: Sequence[np.ndarray]) -> float:
    """Noise deviation in gray levels, from the calmest fifth of the blocks; lower is better.

    Immerkaer 1996 by blocks. Weak: a frame full of fine texture looks noisy, and blur is praised.
    """
    values = []
    for gray in lumas:
        response = np.abs(cv2.filter2D(gray, cv2.CV_32F, _LAPLACIAN_DIFFERENCE))
        height, width = (side - side % 16 for side in response.shape)
        blocks = response[:height, :width].reshape(height // 16, 16, width // 16, 16)
        values.append(np.percentile(blocks.mean(axis=(1, 3)), 20) * np.sqrt(np.pi / 2) / 6)
    return float(np.mean(values))


def exposure(lumas: Sequence[np.ndarray]) -> float:
    """Distance of the mean luminance from mid gray plus the clipped share; lower is better.

    Range 0..1.5. Weak: night scenes, snow and titles are as they should be and still score badly.
    """
    gray = np.stack(lumas)
    clipped = np.mean((gray <= 4) | (gray >= 251))
    return float(abs(gray.mean() / 255 - 0.45) + clipped)


def motion_look(frame: np.ndarray) -> np.ndarray:
    """A frame uint8 RGB [H, W, 3] in gray and small, float32 [h, w]: what moves is still seen."""
    height, width = frame.shape[:2]
    size = (_MOTION_WIDTH, max(8, round(_MOTION_WIDTH * height / width)))
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def temporal_smoothness(looks: Sequence[np.ndarray]) -> float:
    """Unsteadiness: how badly a frame is the mean of its neighbours, plus freezes; lower is better.

    Frames of steady motion lie between their neighbours; shaken ones do not, and a frozen frame
    equals its predecessor while the scene moves on. Weak: fast or repetitive motion and cuts look
    unsteady, and a still scene is perfect however it is shown. One or two frames give 0.
    """
    if len(looks) < 3:
        return 0.0
    small = np.stack(looks)
    off_course = np.abs(small[1:-1] - 0.5 * (small[2:] + small[:-2])).mean(axis=(1, 2))
    course = 0.5 * np.abs(small[2:] - small[:-2]).mean(axis=(1, 2))
    # One gray level in the denominator: coding noise of a still scene is not unsteady motion.
    unsteady = off_course.mean() / (course.mean() + 1.0)
    steps = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2))
    freezes = np.mean(steps < 0.1 * steps.mean()) if steps.mean() > 0.2 else 0.0
    return float(unsteady + freezes)


register(Measure("niqe", False, niqe))
register(Measure("brisque_distance", False, brisque_distance))
register(Measure("sharpness", True, sharpness))
register(Measure("blockiness", True, blockiness))
register(Measure("noise", False, noise))
register(Measure("exposure", False, exposure))
register(
    Measure(
        *("temporal_smoothness", False, temporal_smoothness, motion_look, _MAX_MOTION),
        consecutive=True,
    )
)
