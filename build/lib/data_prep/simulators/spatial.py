"""Distortions of every frame by itself (method 3.2). Choices where the method leaves room:

- resize: area average down to round(side / s), bicubic up to the source size.
- darken, brighten: the curve acts on V = max(R, G, B) of HSV and the three channels are scaled
  by curve(V) / V, which leaves hue and saturation alone and cannot leave the colour cube.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from data_prep.simulators.base import Clip, Simulator, random_stream

_BAND_BYTES = 1 << 18  # of numbers worked on at once, so that they stay in a processor's cache


def _resize(
    frames: Iterator[np.ndarray], clip: Clip, factor: float, seed: int
) -> Iterator[np.ndarray]:
    small = (max(1, round(clip.width / factor)), max(1, round(clip.height / factor)))
    for frame in frames:
        reduced = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        yield cv2.resize(reduced, (clip.width, clip.height), interpolation=cv2.INTER_CUBIC)


def _gaussian_blur(
    frames: Iterator[np.ndarray], clip: Clip, sigma: float, seed: int
) -> Iterator[np.ndarray]:
    side = 2 * math.ceil(3 * sigma) + 1
    for frame in frames:
        yield cv2.GaussianBlur(frame, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)


def _gaussian_noise(
    frames: Iterator[np.ndarray], clip: Clip, variance: float, seed: int
) -> Iterator[np.ndarray]:
    # The variance is part of the stream's name: two levels of a source must not share one noise
    # pattern, by which a pair could be recognised.
    rng = random_stream(seed, "gaussian_noise", repr(variance))
    scale = np.float32(255 * math.sqrt(variance))
    rows = max(1, _BAND_BYTES // (12 * clip.width))
    band = np.empty((rows, clip.width, 3), np.float32)
    for frame in frames:
        out = np.empty_like(frame)
        for top in range(0, clip.height, rows):
            noisy = band[: clip.height - top]
            rng.standard_normal(dtype=np.float32, out=noisy)
            noisy *= scale
            noisy += frame[top : top + rows]
            out[top : top + rows] = np.rint(np.clip(noisy, 0, 255, out=noisy), out=noisy)
        yield out


def tone_curve(value: np.ndarray, strength: float) -> np.ndarray:
    """The parabola through (0, 0), (0.5, 0.5 + strength / 2), (1, 1), clipped to [0, 1].

    Args:
      value: float array in [0, 1].
      strength: p of method 3.2, negative to darken.
    """
    return np.clip(value + 2 * strength * value * (1 - value), 0, 1)


def _tone(frames: Iterator[np.ndarray], strength: float) -> Iterator[np.ndarray]:
    grid = np.arange(256) / 255
    gain = np.ones(256, np.float32)  # V = 0 is black under any gain
    gain[1:] = tone_curve(grid[1:], strength) / grid[1:]
    for frame in frames:
        red, green, blue = cv2.split(frame)
        gains = cv2.LUT(cv2.max(cv2.max(red, green), blue), gain)
        yield cv2.multiply(frame, cv2.merge((gains, gains, gains)), dtype=cv2.CV_8U)


def _darken(
    frames: Iterator[np.ndarray], clip: Clip, strength: float, seed: int
) -> Iterator[np.ndarray]:
    return _tone(frames, -strength)


def _brighten(
    frames: Iterator[np.ndarray], clip: Clip, strength: float, seed: int
) -> Iterator[np.ndarray]:
    return _tone(frames, strength)


SIMULATORS = (
    Simulator("resize", "spatial", "factor", (2, 3, 4, 8, 16), _resize, by_frame=True),
    Simulator(
        "gaussian_blur", "spatial", "sigma", (0.1, 0.5, 1, 2, 5), _gaussian_blur, by_frame=True
    ),
    Simulator(
        "gaussian_noise",
        "spatial",
        "variance",
        (0.001, 0.002, 0.003, 0.005, 0.01),
        _gaussian_noise,
        random=True,
    ),
    Simulator("darken", "spatial", "strength", (0.05, 0.1, 0.2, 0.4, 0.8), _darken, by_frame=True),
    Simulator(
        "brighten", "spatial", "strength", (0.1, 0.2, 0.4, 0.7, 1.1), _brighten, by_frame=True
    ),
)
