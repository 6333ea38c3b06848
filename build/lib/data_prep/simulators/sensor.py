"""What a sensor and its exposure do, beyond the paper: noise, clipping, a wrong white balance.

Noise and exposure act on linear light, as they do in a camera: sRGB's curve is undone before and
applied after. All of it is looked up in tables of the 256 source values where that is possible.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from data_prep.simulators.base import Clip, Simulator, random_stream

# Variance of the noise: photons * light + readout^2, with light in [0, 1].
_NOISE = ((0.0015, 0.004), (0.004, 0.008), (0.01, 0.014), (0.025, 0.024), (0.06, 0.04))
# (photons, readout, deviation in grey levels up to which the bilateral filter takes for noise).
_DENOISED = (
    *((0.002, 0.005, 25.0), (0.006, 0.01, 45.0), (0.016, 0.018, 70.0)),
    *((0.04, 0.03, 100.0), (0.1, 0.05, 140.0)),
)
_SHADES = 4096  # of linear light; sRGB is straight near black, where this is finer than 8 bits
_NOISE_MARGIN = 64  # pixels by which a frame's cut of the noise field is moved, at most


def linear_light(value: np.ndarray) -> np.ndarray:
    """sRGB's values in [0, 1] -> linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def display_value(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] -> sRGB's values in [0, 1], the inverse of `linear_light`."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


_LIGHT = linear_light(np.arange(256) / 255)
_TO_8_BITS = np.rint(255 * display_value(np.arange(_SHADES) / (_SHADES - 1))).astype(np.uint8)


def _sensor_noise(
    frames: Iterator[np.ndarray], clip: Clip, level: tuple[float, float], seed: int
) -> Iterator[np.ndarray]:
    height, width = clip.height, clip.width
    photons, readout = level
    # The level is part of the stream's name, as for gaussian_noise: no two share a pattern.
    rng = random_stream(seed, "sensor_noise", repr(level))
    # One field a clip, cut anew for every frame: drawing is ten times slower than all the rest.
    margin = _NOISE_MARGIN
    field = rng.standard_normal((height + margin, width + margin, 3), dtype=np.float32)
    light = (_LIGHT * (_SHADES - 1)).astype(np.float32)
    deviation = (np.sqrt(photons * _LIGHT + readout**2) * (_SHADES - 1)).astype(np.float32)
    for frame in frames:
        top, left = rng.integers(margin + 1, size=2)
        noisy = field[top : top + height, left : left + width] * cv2.LUT(frame, deviation)
        noisy += cv2.LUT(frame, light)
        np.clip(noisy, 0, _SHADES - 1, out=noisy)
        yield _TO_8_BITS[np.rint(noisy, out=noisy).astype(np.uint16)]


def _denoise(
    frames: Iterator[np.ndarray], clip: Clip, level: tuple[float, float, float], seed: int
) -> Iterator[np.ndarray]:
    *noise, reach = level
    for noisy in _sensor_noise(frames, clip, tuple(noise), seed):
        calm = cv2.medianBlur(noisy, 3)  # a bilateral filter keeps outliers
        yield cv2.bilateralFilter(calm, 5, reach, 2.5)


def _exposed(frames: Iterator[np.ndarray], light: np.ndarray) -> Iterator[np.ndarray]:
    """Frames whose 256 values give off `light` instead; what is outside [0, 1] is clipped."""
    table = np.rint(255 * display_value(np.clip(light, 0, 1))).astype(np.uint8)
    for frame in frames:
        yield cv2.LUT(frame, table)


def _overexposure(
    frames: Iterator[np.ndarray], clip: Clip, stops: float, seed: int
) -> Iterator[np.ndarray]:
    return _exposed(frames, _LIGHT * 2**stops)


def _underexposure(
    frames: Iterator[np.ndarray], clip: Clip, stops: float, seed: int
) -> Iterator[np.ndarray]:
    # A sensor's black level: light below a two-hundredth of full scale is lost.
    return _exposed(frames, (_LIGHT * 2**-stops - 0.005) / 0.995)


def _colour_cast(
    frames: Iterator[np.ndarray], clip: Clip, strength: float, seed: int
) -> Iterator[np.ndarray]:
    """Gains of the channels in one direction of the colour plane; their product is 1."""
    angle = random_stream(seed, "colour_cast").uniform(0, 2 * math.pi)
    turns = angle + np.array([0, 2, 4]) * math.pi / 3
    gains = np.exp(strength * np.cos(turns))
    light = _LIGHT[:, None] * gains
    table = np.rint(255 * display_value(np.clip(light, 0, 1))).astype(np.uint8)
    for frame in frames:
        yield cv2.LUT(frame, table[None])


SIMULATORS = (
    Simulator(
        *("sensor_noise", "sensor", ("photons", "readout"), _NOISE, _sensor_noise),
        random=True,
    ),
    Simulator(
        *("denoise", "sensor", ("photons", "readout", "reach"), _DENOISED),
        _denoise,
        random=True,
    ),
    Simulator(
        "overexposure", "sensor", "stops", (1, 1.5, 2, 2.6, 3.3), _overexposure, by_frame=True
    ),
    Simulator(
        "underexposure", "sensor", "stops", (1, 1.8, 2.6, 3.4, 4.2), _underexposure, by_frame=True
    ),
    Simulator(
        *("colour_cast", "sensor", "strength", (0.15, 0.3, 0.5, 0.75, 1.1)),
        _colour_cast,
        by_frame=True,
        random=True,
    ),
)
