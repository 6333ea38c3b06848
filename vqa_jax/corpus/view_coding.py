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
    """Codes pictures of one size as they come.

    Attributes:
      waiting: coded pictures that were not taken yet; each is as long as "sizes" tells.
    """

    def __init__(self) -> None:
        self.waiting = bytearray()
        self._places: dict[bytes, int] = {}
        self._sizes: list[int] = []
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
            (packet,) = self._context.encode(frame)  # FFV1 holds none back
            self.waiting += bytes(packet)
            self._sizes.append(packet.size)
        return self._places[key]

    def taken(self) -> bytes:
        """What is waiting, which waits no longer."""
        taken = bytes(self.waiting)
        self.waiting.clear()
        return taken

    def fields(self) -> dict[str, np.ndarray]:
        """Of a record `vqa_views`: "shape" int32 [2], height and width, and "sizes" int32 [U]."""
        return {
            "shape": np.array(self._shape, np.int32),
            "sizes": np.array(self._sizes, np.int32),
        }


def decode(record: Mapping[str, Any]) -> np.ndarray:
    """Pictures uint8 RGB [N, H, W, 3] of a record `vqa_views`.

    Its "order" int32 [N] names the number of each among the different ones, its "coded" uint8
    [bytes] holds those one after the other.

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
