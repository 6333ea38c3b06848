"""Lossless coding of motion clips, which makes their temporary shards about half as large.

Consecutive frames differ little, and so do the three colours of a pixel; clips overlap, and a short
video repeats its last one. So a record holds every frame once, as the change from the frame before
of G, R - G and B - G (all modulo 256, hence exact); the shards' zstd then finds small numbers
in place of pixels. Both directions cost a few array operations.
"""

import hashlib

import numpy as np


class Encoder:
    """Codes frames as they come; the change from one to the next is all that is kept of them."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._before: np.ndarray | None = None

    def add(self, frame: np.ndarray) -> tuple[int, bytes]:
        """Number of a frame uint8 RGB [H, W, 3] among the different ones, and its residual.

        The residual, uint8 [3, H, W], is empty for a frame that was given before.
        """
        key = hashlib.sha256(np.ascontiguousarray(frame)).digest()
        if key in self._places:
            return self._places[key], b""
        self._places[key] = len(self._places)
        red, green, blue = np.moveaxis(frame, -1, 0)
        planes = np.stack([green, red - green, blue - green])
        residual = planes if self._before is None else planes - self._before
        self._before = planes
        return self._places[key], residual.tobytes()

    @property
    def count(self) -> int:
        """How many different frames were given."""
        return len(self._places)

    def digest(self) -> bytes:
        """Tells these frames, in order of first appearance, from others."""
        return hashlib.sha256(b"".join(self._places)).digest()


def encode(clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coded form of a video's clips.

    Args:
      clips: uint8 RGB [M, K, H, W, 3]; any of the sizes may be 0.

    Returns:
      order: int32 [M, K], number of every frame of every clip in `residuals`.
      residuals: uint8 [U, 3, H, W], the U <= M K different frames in order of first appearance.
    """
    coder = Encoder()
    coded = [coder.add(frame) for frame in clips.reshape(-1, *clips.shape[2:])]
    order = np.array([place for place, _ in coded], np.int32).reshape(clips.shape[:2])
    residuals = np.frombuffer(b"".join(residual for _, residual in coded), np.uint8)
    return order, residuals.reshape(coder.count, 3, *clips.shape[2:4])


def decode(order: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Inverse of `encode`: uint8 RGB [M, K, H, W, 3]."""
    planes = np.cumsum(residuals, axis=0, dtype=np.uint8)
    green = planes[:, 0]
    frames = np.stack([planes[:, 1] + green, green, planes[:, 2] + green], axis=-1)
    return frames[order]
