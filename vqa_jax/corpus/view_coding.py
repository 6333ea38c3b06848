"""Lossless coding of what neural teachers look at: FFV1 (RFC 9043) of the different pictures.

FFV1 predicts a pixel from its neighbours, which takes half the bytes of changes from frame to
frame (`clip_coding`) and as many seconds. A picture that is shown again is coded once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import av
import numpy as np

# One slice and no header beside the pictures; the larger context; statistics go on to the end.
_OPTIONS = {"level": "1", "coder": "1", "context": "1", "g": str(1 << 30)}
_PIXELS = "bgr0"


class Encoder:
    """Codes pictures of one size as they come; their coded bytes are all that is kept of them."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._packets: list[bytes] = []
        self._context: av.VideoCodecContext | None = None
        self._shape = (0, 0)

    def add(self, picture: np.ndarray) -> int:
        """Number of a picture uint8 RGB [H, W, 3] among the different ones."""
        picture = np.ascontiguousarray(picture)
        key = hashlib.sha256(picture).digest()
        if key not in self._places:
            self._places[key] = len(self._places)
            if self._context is None:
                self._shape = picture.shape[:2]
                self._context = _context("w", self._shape)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=_PIXELS)
            frame.pts = self._places[key]
            self._packets += map(bytes, self._context.encode(frame))
        return self._places[key]

    def coded(self) -> dict[str, np.ndarray]:
        """Fields of a record `vqa_views`, once all pictures were added.

        "shape" int32 [2] is their height and width, "coded" uint8 [bytes] all of them one after the
        other, and "sizes" int32 [U] the bytes of each.
        """
        if self._context is not None:
            self._packets += map(bytes, self._context.encode(None))
        return {
            "shape": np.array(self._shape, np.int32),
            "sizes": np.array([len(packet) for packet in self._packets], np.int32),
            "coded": np.frombuffer(b"".join(self._packets), np.uint8),
        }


def decode(record: Mapping[str, Any]) -> np.ndarray:
    """Pictures uint8 RGB [N, H, W, 3] of a record `vqa_views`, whose "order" int32 [N] names the
    number of each among the different ones.

    Raises:
      ValueError: bytes are missing, which the decoder would not tell.
    """
    ends = np.cumsum(record["sizes"])
    if ends[-1] != len(record["coded"]):
        raise ValueError(f"{len(record['coded'])} bytes of pictures instead of {ends[-1]}")
    height, width = record["shape"].tolist()
    context = _context("r", (height, width))
    parts = np.split(record["coded"], ends[:-1])
    packets = [av.Packet(part.tobytes()) for part in parts]
    frames = [frame for packet in [*packets, None] for frame in context.decode(packet)]
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])[record["order"]]


def _context(mode: str, shape: tuple[int, int]) -> av.VideoCodecContext:
    context = av.CodecContext.create("ffv1", mode)
    context.height, context.width = shape
    context.pix_fmt = _PIXELS
    context.thread_count = 1
    if mode == "w":
        context.framerate, context.options = 1, _OPTIONS
    return context
