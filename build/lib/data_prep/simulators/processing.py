"""What devices and players do to a decoded picture, beyond the paper.

- nearest, bilinear: area average down to round(side / s), and up again by that rule; `resize` is
  the same with a bicubic rule.
- oversharpen: an unsharp mask that overshoots into halos, clipped.
- banding: luma in so many levels. chroma_bleed: chroma in cells of so many of the shorter side,
  moved sideways by half a cell, under sharp luma.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from data_prep.simulators.base import Clip, Simulator

_FACTORS = (2, 3, 4, 8, 16)  # as of `resize`
# (deviation of the Gaussian as a share of the shorter side, gain)
_SHARPENING = ((0.003, 1.5), (0.0035, 2.5), (0.004, 4), (0.005, 6), (0.006, 9))
_RULES = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR}


def _upscaled(
    frames: Iterator[np.ndarray], clip: Clip, factor: float, seed: int, rule: str
) -> Iterator[np.ndarray]:
    height, width = clip.height, clip.width
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    for frame in frames:
        reduced = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        yield cv2.resize(reduced, (width, height), interpolation=_RULES[rule])


def _oversharpen(
    frames: Iterator[np.ndarray], clip: Clip, level: tuple[float, float], seed: int
) -> Iterator[np.ndarray]:
    height, width = clip.height, clip.width
    fraction, gain = level
    sigma = max(fraction * min(height, width), 0.5)
    for frame in frames:
        sharp = frame.astype(np.float32)
        soft = cv2.GaussianBlur(sharp, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        yield cv2.addWeighted(sharp, 1 + gain, soft, -gain, 0, dtype=cv2.CV_8U)


def _banding(
    frames: Iterator[np.ndarray], clip: Clip, count: int, seed: int
) -> Iterator[np.ndarray]:
    table = np.rint(np.rint(np.arange(256) / 255 * (count - 1)) * (255 / (count - 1)))
    table = table.astype(np.uint8)
    for frame in frames:
        parts = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)
        parts[..., 0] = cv2.LUT(parts[..., 0], table)
        yield cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB)


def _chroma_bleed(
    frames: Iterator[np.ndarray], clip: Clip, fraction: float, seed: int
) -> Iterator[np.ndarray]:
    height, width = clip.height, clip.width
    cell = max(fraction * min(height, width), 1.0)
    small = (max(1, round(width / cell)), max(1, round(height / cell)))
    shift = np.array([[1, 0, cell / 2], [0, 1, 0]])
    for frame in frames:
        parts = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)
        chroma = cv2.resize(np.ascontiguousarray(parts[..., 1:]), small, None, 0, 0, cv2.INTER_AREA)
        chroma = cv2.resize(chroma, (width, height), interpolation=cv2.INTER_LINEAR)
        parts[..., 1:] = cv2.warpAffine(
            chroma, shift, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        yield cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB)


SIMULATORS = (
    *(
        Simulator(
            *(rule, "processing", "factor", _FACTORS, _upscaled),
            options={"rule": rule},
            by_frame=True,
        )
        for rule in _RULES
    ),
    Simulator(
        *("oversharpen", "processing", ("fraction", "gain"), _SHARPENING),
        _oversharpen,
        by_frame=True,
    ),
    Simulator("banding", "processing", "levels", (40, 24, 16, 10, 6), _banding, by_frame=True),
    Simulator(
        *("chroma_bleed", "processing", "fraction", (0.015, 0.03, 0.06, 0.1, 0.16)),
        _chroma_bleed,
        by_frame=True,
    ),
)
