"""Distortions of every frame by itself (method 3.2). Choices where the method leaves room:

- resize: area average down to round(side / s), bicubic up to the source size.
- darken, brighten: the curve acts on V = max(R, G, B) of HSV and the three channels are scaled
  by curve(V) / V, which leaves hue and saturation alone and cannot leave the colour cube.
"""

import math

import cv2
import numpy as np

from data_prep.simulators.base import Simulator, random_stream


def _resize(frames: np.ndarray, fps: float, factor: float, seed: int) -> np.ndarray:
    height, width = frames.shape[1:3]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    out = np.empty_like(frames)
    for source, target in zip(frames, out, strict=True):
        reduced = cv2.resize(source, small, interpolation=cv2.INTER_AREA)
        target[:] = cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC)
    return out


def _gaussian_blur(frames: np.ndarray, fps: float, sigma: float, seed: int) -> np.ndarray:
    side = 2 * math.ceil(3 * sigma) + 1
    out = np.empty_like(frames)
    for source, target in zip(frames, out, strict=True):
        target[:] = cv2.GaussianBlur(source, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return out


def _gaussian_noise(frames: np.ndarray, fps: float, variance: float, seed: int) -> np.ndarray:
    # The variance is part of the stream's name: two levels of a source must not share one noise
    # pattern, by which a pair could be recognised.
    rng = random_stream(seed, "gaussian_noise", repr(variance))
    scale = np.float32(255 * math.sqrt(variance))
    out = np.empty_like(frames)
    for source, target in zip(frames, out, strict=True):
        noisy = rng.standard_normal(source.shape, dtype=np.float32)
        noisy *= scale
        noisy += source
        target[:] = np.rint(np.clip(noisy, 0, 255, out=noisy), out=noisy)
    return out


def tone_curve(value: np.ndarray, strength: float) -> np.ndarray:
    """The parabola through (0, 0), (0.5, 0.5 + strength / 2), (1, 1), clipped to [0, 1].

    Args:
      value: float array in [0, 1].
      strength: p of method 3.2, negative to darken.
    """
    return np.clip(value + 2 * strength * value * (1 - value), 0, 1)


def _tone(frames: np.ndarray, strength: float) -> np.ndarray:
    grid = np.arange(256) / 255
    gain = np.ones(256, np.float32)  # V = 0 is black under any gain
    gain[1:] = tone_curve(grid[1:], strength) / grid[1:]
    out = np.empty_like(frames)
    for source, target in zip(frames, out, strict=True):
        red, green, blue = cv2.split(source)
        gains = cv2.LUT(cv2.max(cv2.max(red, green), blue), gain)
        target[:] = cv2.multiply(source, cv2.merge((gains, gains, gains)), dtype=cv2.CV_8U)
    return out


def _darken(frames: np.ndarray, fps: float, strength: float, seed: int) -> np.ndarray:
    return _tone(frames, -strength)


def _brighten(frames: np.ndarray, fps: float, strength: float, seed: int) -> np.ndarray:
    return _tone(frames, strength)


SIMULATORS = (
    Simulator("resize", "spatial", "factor", (2, 3, 4, 8, 16), _resize),
    Simulator("gaussian_blur", "spatial", "sigma", (0.1, 0.5, 1, 2, 5), _gaussian_blur),
    Simulator(
        "gaussian_noise",
        "spatial",
        "variance",
        (0.001, 0.002, 0.003, 0.005, 0.01),
        _gaussian_noise,
        random=True,
    ),
    Simulator("darken", "spatial", "strength", (0.05, 0.1, 0.2, 0.4, 0.8), _darken),
    Simulator("brighten", "spatial", "strength", (0.1, 0.2, 0.4, 0.7, 1.1), _brighten),
)
