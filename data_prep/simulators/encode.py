"""H.264, H.265, AV1 and VP9 encodes of RGB frames in memory, for the simulators (method 3.2).

Encoders run on one thread, which makes them byte-identical from run to run (more threads of x264
and x265 do not). Pixels are converted by swscale with exact rounding: its default rounding
darkens every conversion by about one level, which a model could learn instead of the compression.
"""

import contextlib
import dataclasses
import fractions
import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter

from vqa_jax.errors import VqaError

_ENCODERS = {"h264": "libx264", "h265": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
_DECODERS = {"h264": "h264", "h265": "hevc", "av1": "libdav1d", "vp9": "vp9"}
# x265 reads and writes out of bounds when the picture is one coding tree block (64 pixels) wide:
# heap corruption at 48x48, other bytes from run to run at 64x64. SVT-AV1 refuses sides below 4;
# the others take any even size.
_MIN_SIDE = {"h264": 2, "h265": 72, "av1": 4, "vp9": 2}
# The last quantizer. 8-bit x264 clips a larger CRF, x265 refuses it.
MAX_CRF = {"h264": 51, "h265": 51, "av1": 63, "vp9": 63}
_FASTEST = ("ultrafast", "superfast", "veryfast", "faster", "fast")
_X26_PRESETS = (*_FASTEST, "medium", "slow", "slower", "veryslow", "placebo")
PRESETS = {
    "h264": _X26_PRESETS,
    "h265": _X26_PRESETS,
    "av1": tuple(map(str, range(14))),  # SVT-AV1's, 0 the slowest
    "vp9": tuple(map(str, range(6))),  # libvpx's cpu-used with good quality, 0 the slowest
}
# {name: (matrix, primaries, transfer)}, the numbers of ITU-T H.273.
_COLOUR = {
    "bt709": (1, ColorPrimaries.BT709, ColorTrc.BT709),
    "bt601": (6, ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M),
}
_LIMITED, _FULL = 1, 2
# Accurate rounding, all chroma interpolated, the same bits everywhere: libswscale's numbers, which
# PyAV names since 18.
_EXACT = Interpolation.BICUBIC | 1 << 18 | 1 << 13 | 1 << 19


class EncodeError(VqaError, ValueError):
    """Settings or frames that cannot be encoded; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class EncodeConfig:
    """How to encode.

    Attributes:
      codec: "h264" (x264), "h265" (x265), "av1" (SVT-AV1) or "vp9" (libvpx).
      crf: constant rate factor on the encoder's scale, 0 (best) upwards; see `effective_crf`.
      preset: the encoder's speed, one of `PRESETS`: "ultrafast" ... "veryslow", or a number.
      matrix: colour matrix that is used and written in the stream, "bt709" or "bt601".
      mbtree: x264's rate control by macroblock tree, its default: better pictures, but of small
        ones not the same bytes each time.
    """

    codec: str
    crf: float
    preset: str
    matrix: str = "bt709"
    mbtree: bool = False

    def __post_init__(self):
        if self.codec not in _ENCODERS:
            raise EncodeError(f"codec {self.codec!r} is not one of {sorted(_ENCODERS)}")
        if self.matrix not in _COLOUR:
            raise EncodeError(f"matrix {self.matrix!r} is not one of {sorted(_COLOUR)}")
        if self.crf < 0:
            raise EncodeError(f"crf {self.crf} is negative: use 0 to {MAX_CRF[self.codec]}")
        if self.preset not in PRESETS[self.codec]:
            raise EncodeError(
                f"preset {self.preset!r} of {self.codec} is not one of {PRESETS[self.codec]}"
            )

    @property
    def effective_crf(self) -> float:
        """The CRF that the encoder runs at, which ends at `MAX_CRF`."""
        return min(self.crf, MAX_CRF[self.codec])


def encoder(codec: str) -> str:
    """The encoder of a codec and the PyAV release whose wheel carries it, for records."""
    return f"{_ENCODERS[codec]} of PyAV {av.__version__}"


def encode_rgb(frames: Iterable[np.ndarray], fps: float, config: EncodeConfig) -> bytes:
    """Encodes RGB frames as an mp4 file (yuv420p, limited range, tagged colour).

    A side that 4:2:0 cannot carry (odd, or below the encoder's minimum) is extended to the right
    or at the bottom by repeating its last column or row; the content keeps its position.

    Args:
      frames: uint8 [T, H, W, 3], or any iterable of uint8 [H, W, 3] of equal size; T >= 1.
      fps: frames a second, > 0 (the encoders' rate control depends on it).
      config: codec and quality.

    Returns:
      The file's bytes, the same for the same input.

    Raises:
      EncodeError: no frames, frames that are not uint8 RGB of one size, a bad rate, or an
        encoder that refuses the settings.
    """
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:

        def stream(rate: fractions.Fraction, options: dict[str, str]) -> av.VideoStream:
            return container.add_stream(_ENCODERS[config.codec], rate=rate, options=options)

        packets = list(_packets(frames, fps, config, stream))
        _set_decoding_times(packets)
        container.mux(packets)
    return buffer.getvalue()


def encode_decode(
    frames: Iterable[np.ndarray], fps: float, config: EncodeConfig
) -> Iterator[np.ndarray]:
    """What a viewer gets after one encode, decoded as the encoder goes: frames of the size given.

    The encoder takes as many frames ahead as its look-ahead asks for, and no more.

    Raises:
      EncodeError: as `encode_rgb`.
    """

    def context(rate: fractions.Fraction, options: dict[str, str]) -> av.VideoCodecContext:
        made = av.CodecContext.create(_ENCODERS[config.codec], "w")
        made.framerate, made.time_base, made.options = rate, 1 / rate, options
        return made

    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise EncodeError("no frames to encode")
    packets = _packets(itertools.chain([first], frames), fps, config, context)
    yield from decoded(packets, _DECODERS[config.codec], first.shape[:2])


def decoded(
    packets: Iterable[av.Packet],
    decoder: str,
    size: tuple[int, int],
    matrix: int | None = None,
    full_range: bool = False,
) -> Iterator[np.ndarray]:
    """Decodes an encoder's packets as they come, on one thread.

    Args:
      packets: of one stream that tells its own parameters.
      decoder: FFmpeg's name of it.
      size: (height, width) to cut frames to, from the top left.
      matrix: colour matrix as ITU-T H.273 numbers them; None for the one that is told.
      full_range: whether values span 0 to 255 rather than 16 to 235.

    Yields:
      uint8 RGB [height, width, 3], in order of showing.
    """
    context = av.CodecContext.create(decoder, "r")
    context.thread_count = 1
    to_rgb = rgb_converter(full_range)
    for packet in itertools.chain(packets, [None]):
        for picture in context.decode(packet):
            rgb = to_rgb(picture, picture.colorspace if matrix is None else matrix)
            yield rgb[: size[0], : size[1]]


def _packets(
    frames: Iterable[np.ndarray],
    fps: float,
    config: EncodeConfig,
    made: Callable[[fractions.Fraction, dict[str, str]], Any],
) -> Iterator[av.Packet]:
    """Packets as the encoder gives them; `made` is the encoder of a rate and of options."""
    if not (math.isfinite(fps) and fps > 0):
        raise EncodeError(f"fps {fps} is not a positive number")
    matrix, primaries, transfer = _COLOUR[config.matrix]
    encoder, shape, index, to_yuv = None, None, 0, yuv_converter(matrix)
    try:
        for index, frame in enumerate(frames):
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                raise EncodeError(
                    f"frame {index} is {frame.dtype} {frame.shape}, not uint8 [H, W, 3]"
                )
            if shape not in (None, frame.shape):
                raise EncodeError(f"frame {index} is {frame.shape}, the first one {shape}")
            shape = frame.shape
            padded = pad(frame, _MIN_SIDE[config.codec])
            if encoder is None:
                encoder = _opened(made, padded.shape, fps, config)
            picture = to_yuv(padded)
            picture.color_primaries, picture.color_trc = primaries, transfer
            picture.pts = index
            with _same_priority():
                packets = encoder.encode(picture)
            yield from packets
        if encoder is None:
            raise EncodeError("no frames to encode")
        yield from encoder.encode(None)
    except av.FFmpegError as error:
        raise EncodeError(
            f"{_ENCODERS[config.codec]} failed at frame {index} of size {shape} with {config}:"
            f" {error}; check preset, crf, rate and size"
        ) from error


@contextlib.contextmanager
def _same_priority() -> Iterator[None]:
    """Gives a thread its scheduling back: of root's, SVT-AV1 makes a real-time one, for good."""
    if not hasattr(os, "sched_getscheduler"):  # Linux has it
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def pad(frame: np.ndarray, min_side: int) -> np.ndarray:
    """Extends [H, W, 3] by repeated edges to even sides of at least `min_side`."""
    height, width = (max(side + side % 2, min_side) for side in frame.shape[:2])
    if (height, width) == frame.shape[:2]:
        return np.ascontiguousarray(frame)
    extra = (height - frame.shape[0], width - frame.shape[1])
    return np.pad(frame, ((0, extra[0]), (0, extra[1]), (0, 0)), mode="edge")


def yuv_converter(matrix: int, full_range: bool = False) -> Callable[[np.ndarray], av.VideoFrame]:
    """uint8 RGB [H, W, 3] of even sides -> 4:2:0; `matrix` as ITU-T H.273 numbers them."""
    scaler = VideoReformatter()  # kept: preparing one costs as much as a small frame

    def convert(frame: np.ndarray) -> av.VideoFrame:
        return scaler.reformat(
            av.VideoFrame.from_numpy_buffer(frame, format="rgb24"),
            format="yuvj420p" if full_range else "yuv420p",
            dst_colorspace=matrix,
            dst_color_range=_FULL if full_range else _LIMITED,
            interpolation=_EXACT,
            threads=1,
        )

    return convert


def rgb_converter(full_range: bool = False) -> Callable[[av.VideoFrame, int], np.ndarray]:
    """The inverse of `yuv_converter`: a picture and its matrix -> uint8 RGB [H, W, 3]."""
    scaler = VideoReformatter()

    def convert(picture: av.VideoFrame, matrix: int) -> np.ndarray:
        return scaler.reformat(
            picture,
            format="rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=_FULL if full_range else _LIMITED,
            dst_color_range=_FULL,
            interpolation=_EXACT,
            threads=1,
        ).to_ndarray()

    return convert


def _set_decoding_times(packets: list[av.Packet]) -> None:
    """Numbers the packets in decoding order, none later than it is shown.

    x265 leaves the decoding times of clips of one or two frames uninitialised (its issue 781).
    """
    delay = max(order - packet.pts for order, packet in enumerate(packets))
    for order, packet in enumerate(packets):
        packet.dts = order - delay


def _opened(
    made: Callable[[fractions.Fraction, dict[str, str]], Any],
    shape: tuple[int, ...],
    fps: float,
    config: EncodeConfig,
) -> Any:
    """The encoder of frames of one shape: a stream of a container, or a codec context alone."""
    options = {"preset": config.preset, "crf": str(config.effective_crf)}
    if config.codec == "h264":
        options["threads"] = "1"
        # Macroblock-tree rate control reads beyond small pictures: equal input, unequal bytes.
        options["x264-params"] = f"mbtree={config.mbtree:d}"
    elif config.codec == "h265":
        options["x265-params"] = "pools=1:frame-threads=1:log-level=none"
    elif config.codec == "av1":
        options["svtav1-params"] = "lp=1"
        # Errors only: it would print its settings at every encode. It reads the environment alone.
        os.environ.setdefault("SVT_LOG", "1")
    else:
        # A rate of 0 makes CRF the only rule. libvpx calls its preset cpu-used.
        options |= {"b": "0", "deadline": "good", "cpu-used": options.pop("preset")}
    encoder = made(fractions.Fraction(fps).limit_denominator(1001), options)
    context = getattr(encoder, "codec_context", encoder)
    context.height, context.width = shape[:2]
    context.pix_fmt = "yuv420p"
    context.thread_count = 1
    context.colorspace, context.color_primaries, context.color_trc = _COLOUR[config.matrix]
    context.color_range = _LIMITED
    return encoder
