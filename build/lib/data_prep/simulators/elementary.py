"""Coded pictures without a container, at a fixed quantiser: for damages that a file would hide.

Coders run on one thread at a fixed rate, so that the same frames give the same bytes.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

import av
import numpy as np

from data_prep.simulators.encode import EncodeError, decoded, pad, yuv_converter

_RATE = Fraction(25)  # no coder's choice depends on it; MPEG-2 knows but a few
_MIN_SIDE = 16  # a macroblock
_BT601 = 6  # ITU-T H.273; converted there and back here, so that no tag is needed


@dataclasses.dataclass(frozen=True)
class Coder:
    """One of PyAV's coders.

    Attributes:
      encoder: its name.
      decoder: the decoder's name.
      options: of the encoder.
      full_range: whether values span 0 to 255 rather than 16 to 235.
    """

    encoder: str
    decoder: str
    options: Mapping[str, str]
    full_range: bool = False


def code(frames: Iterable[np.ndarray], coder: Coder) -> Iterator[av.Packet]:
    """Codes uint8 RGB [H, W, 3] frames of one size, at least one; a packet a frame, in order.

    Sides that 4:2:0 or a macroblock do not divide are extended to the right and at the bottom.

    Raises:
      EncodeError: the coder refuses the size.
    """
    context, to_yuv = None, yuv_converter(_BT601, coder.full_range)
    try:
        for index, frame in enumerate(frames):
            picture = to_yuv(pad(frame, _MIN_SIDE))
            picture.pts = index
            if context is None:
                context = _opened(coder, picture)
            yield from context.encode(picture)
        yield from context.encode(None)
    except av.FFmpegError as error:
        raise EncodeError(
            f"{coder.encoder} failed at a frame of {frame.shape}: {error}; check the size"
        ) from error


def decode(
    packets: Iterable[av.Packet], coder: Coder, size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Frames of `code`'s packets in order, uint8 RGB [height, width, 3] cut to `size`."""
    return decoded(packets, coder.decoder, size, _BT601, coder.full_range)


def _opened(coder: Coder, picture: av.VideoFrame) -> av.VideoCodecContext:
    context = av.CodecContext.create(coder.encoder, "w")
    context.width, context.height = picture.width, picture.height
    context.pix_fmt = picture.format.name
    context.framerate, context.time_base = _RATE, 1 / _RATE
    context.options = dict(coder.options)
    context.thread_count = 1
    return context
