"""What lens and air do, beyond the paper: defocus, motion blur, haze.

Lengths are shares of the frame's shorter side, so that a severity looks alike in every size. What
covers a part of the frame lies where the seed puts it, the same in every frame and at every level.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from data_prep.simulators.base import Clip, Simulator, random_stream

_RADII = (0.004, 0.008, 0.014, 0.024, 0.04)
_LENGTHS = (0.01, 0.02, 0.035, 0.06, 0.1)
_HAZE = (0.15, 0.3, 0.5, 0.9, 1.5)  # optical depth of what is furthest


def disc(radius: float) -> np.ndarray:
    """The image of a point out of focus: float32 [n, n] of sum 1, its edge anti-aliased."""
    reach = math.ceil(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def line(length: float, angle: float) -> np.ndarray:
    """The path of a point during the exposure, `length` pixels long: float32 [n, n] of sum 1."""
    reach = math.ceil(length / 2)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(columns * math.cos(angle) + rows * math.sin(angle))
    across = np.abs(rows * math.cos(angle) - columns * math.sin(angle))
    kernel = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def soft_spot(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A soft ellipse over a part of the frame: float32 [height, width] in [0, 1]."""
    centre = rng.uniform(0.25, 0.75, 2) * (height, width)
    half = rng.uniform(0.2, 0.4, 2) * (height, width)
    rows, columns = (
        (np.arange(side) - middle) / extent
        for side, middle, extent in zip((height, width), centre, half, strict=True)
    )
    # 1 up to 0.7 of the ellipse's extent, 0 from 1.3: no edge that gives the place away.
    slope = np.clip((1.3 - np.hypot(rows[:, None], columns[None])) / 0.6, 0, 1)
    return (slope * slope * (3 - 2 * slope)).astype(np.float32)


def _blurred(
    frames: Iterator[np.ndarray], kernel: np.ndarray, spot: np.ndarray | None
) -> Iterator[np.ndarray]:
    for frame in frames:
        blurred = cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        yield blurred if spot is None else _mixed(frame, blurred, spot)


def _mixed(frame: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`frame` where the share is 0, `other` where it is 1."""
    return cv2.blendLinear(frame, other, 1 - share, share)


def _defocus(
    frames: Iterator[np.ndarray], clip: Clip, fraction: float, seed: int, part: bool
) -> Iterator[np.ndarray]:
    height, width = clip.height, clip.width
    spot = soft_spot(random_stream(seed, "defocus"), height, width) if part else None
    yield from _blurred(frames, disc(fraction * min(height, width)), spot)


def _motion_blur(
    frames: Iterator[np.ndarray], clip: Clip, fraction: float, seed: int, part: bool
) -> Iterator[np.ndarray]:
    height, width = clip.height, clip.width
    rng = random_stream(seed, "motion_blur")
    kernel = line(fraction * min(height, width), rng.uniform(0, math.pi))
    yield from _blurred(frames, kernel, soft_spot(rng, height, width) if part else None)


def _haze(
    frames: Iterator[np.ndarray], clip: Clip, depth: float, seed: int
) -> Iterator[np.ndarray]:
    """Koschmieder's law: what is far fades towards the air's light, exponentially."""
    height, width = clip.height, clip.width
    rng = random_stream(seed, "haze")
    far = np.linspace(1, 0.4, height, dtype=np.float32)[:, None]
    distance = 0.7 * far + 0.3 * soft_spot(rng, height, width)
    veil = 1 - np.exp(-np.float32(depth) * distance)
    light = rng.uniform(205, 235) + rng.uniform(-8, 8, 3)
    air = np.broadcast_to(np.rint(light).astype(np.uint8), (height, width, 3)).copy()
    for frame in frames:
        yield _mixed(frame, air, veil)


SIMULATORS = (
    Simulator(
        "defocus", "optics", "fraction", _RADII, _defocus, options={"part": False}, by_frame=True
    ),
    Simulator(
        *("local_defocus", "optics", "fraction", _RADII, _defocus),
        options={"part": True},
        by_frame=True,
        random=True,
    ),
    Simulator(
        *("motion_blur", "optics", "fraction", _LENGTHS, _motion_blur),
        options={"part": False},
        by_frame=True,
        random=True,
    ),
    Simulator(
        *("local_motion_blur", "optics", "fraction", _LENGTHS, _motion_blur),
        options={"part": True},
        by_frame=True,
        random=True,
    ),
    Simulator("haze", "optics", "depth", _HAZE, _haze, random=True, by_frame=True),
)
