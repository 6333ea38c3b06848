"""Lossless coding of motion clips, which makes their temporary shards about half as large.

Consecutive frames differ little, and so do the three colours of a pixel; clips overlap, and a short
video repeats its last one. So a record holds every frame once, as the change from the frame before
of G, R - G and B - G (all modulo 256, hence exact); the shards' zstd then finds small numbers
in place of pixels. Both directions cost a few array operations.
"""

import hashlib

import numpy as np


def encode(clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coded form of a video's clips.

    Args:
      clips: uint8 RGB [M, K, H, W, 3]; any of the sizes may be 0.

    Returns:
      order: int32 [M, K], number of every frame of every clip in `residuals`.
      residuals: uint8 [U, 3, H, W], the U <= M K different frames in order of first appearance.
    """
    frames = clips.reshape(-1, *clips.shape[2:])
    places: dict[bytes, int] = {}
    keys = (hashlib.sha256(np.ascontiguousarray(frame)).digest() for frame in frames)
    order = np.array([places.setdefault(key, len(places)) for key in keys], np.int32)
    first = np.unique(order, return_index=True)[1]
    red, green, blue = np.moveaxis(frames[first], -1, 0)
    planes = np.stack([green, red - green, blue - green], axis=1)
    residuals = planes.copy()
    residuals[1:] -= planes[:-1]
    return order.reshape(clips.shape[:2]), residuals


def decode(order: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Inverse of `encode`: uint8 RGB [M, K, H, W, 3]."""
    planes = np.cumsum(residuals, axis=0, dtype=np.uint8)
    green = planes[:, 0]
    frames = np.stack([planes[:, 1] + green, green, planes[:, 2] + green], axis=-1)
    return frames[order]
