"""Decoded pictures -> 8-bit RGB as an SDR screen shows them, upright.

Standard dynamic range of any depth goes through swscale. High dynamic range (PQ, HLG) and wide
gamut (BT.2020 primaries) are brought to SDR BT.709 by fixed published rules, the same for every
frame and file (no metadata, no statistics of the picture):

1. Y'CbCr -> R'G'B' with the file's matrix and range (BT.2020's where it does not say).
2. To light on a 1000 cd/m2 reference screen, 1 = 1000 cd/m2. PQ: the EOTF of BT.2100 table 4 (SMPTE
   ST 2084), clipped at 1000. HLG: the inverse OETF and the OOTF with gamma 1.2, BT.2100 table 5.
3. To SDR, 1 = 100 cd/m2: conversion method A of Report ITU-R BT.2446-1, section 4. Then R'G'B'
   and everything below are coded with the exponent 1/2.4.
4. BT.2020 primaries -> BT.709: R'G'B'^2.4, the inverse of BT.2087's matrix M2, clip to [0, 1],
   ^(1/2.4).

Wide gamut in standard range takes steps 1 and 4. Primaries of HDR are taken as BT.2020 (BT.2100
knows no others). Transparent pixels are laid over black.

Pixels come out square: the side that is too short is stretched, where the file's ratio is between
1:4 and 4:1 and more than a hundredth off 1.
"""

import dataclasses
import functools
from collections.abc import Callable

import av
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    ColorTrc,
    VideoReformatter,
)
from av.video.stream import VideoStream

from vqa_jax.media.container import MediaError

HDR_TRANSFERS = ("smpte2084", "arib-std-b67")

# Transfer characteristics of ISO/IEC 23091-2 -> FFmpeg's names; the rest are spelt alike.
_TRANSFER_NAMES = {
    ColorTrc.UNSPECIFIED: "",
    ColorTrc.BT2020_10: "bt2020-10",
    ColorTrc.BT2020_12: "bt2020-12",
    ColorTrc.IEC61966_2_1: "iec61966-2-1",
    ColorTrc.IEC61966_2_4: "iec61966-2-4",
    ColorTrc.ARIB_STD_B67: "arib-std-b67",
}
# Matrix coefficients of ISO/IEC 23091-2 -> (Kr, Kb).
_BT2020_LUMA = 0.2627, 0.0593
_LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_TO_BT709 = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)
_NAMED_PROFILES = ("png", "apng")  # codecs whose side data has metadata of its own
_MAX_RATIO, _SQUARE = 4.0, 0.01  # of a pixel's sides: beyond is an error, within is rounding
_LEVELS = 1 << 16  # entries of a curve's table
_BAND_PIXELS = 1 << 19  # worked on at once: a dozen float planes of this size stay below 40 MB


@dataclasses.dataclass(frozen=True)
class Colour:
    """How samples are coded: bits, FFmpeg's transfer name, BT.2020 primaries, transparency."""

    bit_depth: int
    transfer: str
    wide_gamut: bool
    has_alpha: bool


def describe(frame: av.VideoFrame, stream: VideoStream | None = None) -> Colour:
    """Coding of a frame; what the frame does not say is taken from its stream."""
    codec = stream.codec_context if stream is not None else None
    transfer, primaries = frame.color_trc, frame.color_primaries
    if codec is not None and transfer == ColorTrc.UNSPECIFIED:
        transfer = codec.color_trc
    if codec is not None and primaries == ColorPrimaries.UNSPECIFIED:
        primaries = codec.color_primaries
    components = frame.format.components
    return Colour(
        bit_depth=max((c.bits for c in components), default=8),
        transfer=_transfer_name(transfer),
        wide_gamut=primaries == ColorPrimaries.BT2020,
        has_alpha=any(c.is_alpha for c in components) or frame.format.name == "pal8",
    )


def side_data(frame: av.VideoFrame, kind: str, codec: str) -> SideData | None:
    """What the stream says beside a frame's picture; None where it does not speak of that.

    Not by `frame.side_data`, which the frame would keep and which keeps the frame: a picture then
    stays in memory until Python looks for such rings, hundreds of pictures later.

    Args:
      frame: as decoded.
      kind: a name of `av.sidedata.sidedata.Type`.
      codec: FFmpeg's name of what decoded it.

    Raises:
      ValueError: there is something of a kind newer than PyAV's list, or something that PyAV must
        not look at.
    """
    if codec in _NAMED_PROFILES:
        raise ValueError(f"{codec}: PyAV would free the name of a colour profile twice, and crash")
    return SideDataContainer(frame).get(kind)


def orientation(frame: av.VideoFrame, codec: str) -> tuple[bool, bool, bool]:
    """(transpose, then flip left-right, then flip up-down) of the frame's display matrix.

    The matrix [[a, b, u], [c, d, v], [x, y, w]] sends a pixel (p, q) to (a p + c q, b p + d q);
    angles between the quarter turns are rounded to the nearest. Mirrored pictures whose camera
    data PyAV cannot list are turned, but stay mirrored. `codec`: see `side_data`.
    """
    try:
        matrix = side_data(frame, "DISPLAYMATRIX", codec)
    except ValueError:  # such as EXIF of a picture
        turns = round(frame.rotation / 90) % 4  # counter-clockwise
        return turns % 2 == 1, turns in (2, 3), turns in (1, 2)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def shown_size(frame: av.VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """(width, height) of a frame as it is shown: upright, of square pixels."""
    width, height = frame.width, frame.height
    ratio = float(stream.sample_aspect_ratio or 1)
    if abs(ratio - 1) > _SQUARE and 1 / _MAX_RATIO <= ratio <= _MAX_RATIO:
        width, height = round(width * max(ratio, 1)), round(height * max(1 / ratio, 1))
    turned = orientation(frame, stream.codec_context.name)[0]
    return (height, width) if turned else (width, height)


class Converter:
    """Converts the frames of one file; the first one decides size and rule.

    Frames of another size, or turned differently, are scaled to the first one's size.

    swscale's default conversion: the one inside OpenCV's and decord's readers, with which the
    published weights were trained. On 4:2:0 it is 1 to 1.5 levels of 255 darker than the exact
    formula, and several times faster than swscale's exact mode. HDR and wide gamut take exact
    formulas (within a level).
    """

    def __init__(self, first: av.VideoFrame, stream: VideoStream, path: str) -> None:
        self._shown = shown_size(first, stream)
        self._colour = describe(first, stream)
        self._path, self._codec = path, stream.codec_context.name
        self._scaler = VideoReformatter()  # kept: preparing one costs as much as a small frame

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """One decoded frame -> uint8 RGB [H, W, 3], upright."""
        transpose, flip_x, flip_y = orientation(frame, self._codec)
        size = self._shown[::-1] if transpose else self._shown
        try:
            image = self._rgb(frame, size)
        except (av.FFmpegError, ValueError) as error:
            reason = f"pixel format {frame.format.name} cannot be converted to RGB"
            raise MediaError(self._path, "decode", reason) from error
        if transpose:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])

    def _rgb(self, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
        coding = self._colour
        special = coding.transfer in HDR_TRANSFERS or coding.wide_gamut
        if not special and not coding.has_alpha:
            return self._scaled(frame, size, "rgb24").to_ndarray()
        image = self._to_sdr(frame, size) if special else None
        if coding.has_alpha:
            rgba = self._scaled(frame, size, "rgba").to_ndarray()
            image = rgba[..., :3] if image is None else image
            image = ((image * rgba[..., 3:].astype(np.uint16) + 127) // 255).astype(np.uint8)
        return image

    def _scaled(
        self, frame: av.VideoFrame, size: tuple[int, int], pixels: str, **colours: int
    ) -> av.VideoFrame:
        return self._scaler.reformat(frame, *size, pixels, threads=1, **colours)

    def _to_sdr(self, frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
        """HDR or wide-gamut frame -> uint8 RGB [H, W, 3], not turned."""
        coded, decode = self._samples(frame, size)
        out = np.empty((*coded.shape[1:], 3), np.uint8)
        rows = max(1, _BAND_PIXELS // coded.shape[2])
        for top in range(0, coded.shape[1], rows):
            rgb = np.clip(decode(coded[:, top : top + rows]), 0, 1)
            if self._colour.transfer in HDR_TRANSFERS:
                rgb = tone_mapped(rgb, self._colour.transfer)
            out[top : top + rows] = bt709_from_bt2020(rgb)
        return out

    def _samples(
        self, frame: av.VideoFrame, size: tuple[int, int]
    ) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Stored samples [3, H, W], and what makes R'G'B' float32 [h, W, 3] of a band of them."""
        if frame.format.is_rgb:
            rgb = self._scaled(frame, size, "rgb48le").to_ndarray()
            return rgb.transpose(2, 0, 1), lambda band: np.float32(band / 65535).transpose(1, 2, 0)
        depth = max(8, self._colour.bit_depth)
        pixels = "yuv444p" if depth == 8 else f"yuv444p{depth}le"
        wide = frame.color_range == ColorRange.JPEG
        kept = ColorRange.JPEG if wide else ColorRange.MPEG
        planar = self._scaled(frame, size, pixels, src_color_range=kept, dst_color_range=kept)
        sample = np.dtype(np.uint8 if depth == 8 else "<u2")
        planes = [
            np.frombuffer(plane, sample).reshape(plane.height, -1)[:, : plane.width]
            for plane in planar.planes
        ]
        luma = _LUMA.get(int(frame.colorspace), _BT2020_LUMA)
        return np.stack(planes), functools.partial(
            rgb_from_ycbcr, depth=depth, full_range=wide, luma=luma
        )


def rgb_from_ycbcr(
    samples: np.ndarray,
    depth: int,
    full_range: bool,
    luma: tuple[float, float] = _BT2020_LUMA,
) -> np.ndarray:
    """Y'CbCr samples [3, H, W] of `depth` bits -> R'G'B' float32 [H, W, 3] (BT.2100 table 9).

    `luma`: (Kr, Kb). Values are not clipped.
    """
    y, cb, cr = samples.astype(np.float32)
    unit = float(1 << (depth - 8))
    if full_range:
        y, centre, span = y / (256 * unit - 1), 128 * unit, 256 * unit - 1
    else:
        y, centre, span = (y / unit - 16) / 219, 128 * unit, 224 * unit
    kr, kb = luma
    red = y + (cr - centre) * (2 * (1 - kr) / span)
    blue = y + (cb - centre) * (2 * (1 - kb) / span)
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.stack([red, green, blue], -1)


def tone_mapped(rgb: np.ndarray, transfer: str) -> np.ndarray:
    """HDR -> SDR, primaries kept: steps 2 and 3 of the module's rule.

    With R'G'B' of 1/2.4-coded light and Y' their BT.2020 luma, method A of BT.2446-1 is
      p(L) = 1 + 32 (L / 10000)^(1/2.4)
      Yp = ln(1 + (p(1000) - 1) Y') / ln p(1000)
      Yc = 1.0770 Yp                            up to Yp = 0.7399,
           -1.1510 Yp^2 + 2.7811 Yp - 0.6302    up to 0.9909,
           0.5 Yp + 0.5                         above
      Ysdr = (p(100)^Yc - 1) / (p(100) - 1),  f = Ysdr / (1.1 Y')
      Cb = f (B' - Y') / 1.8814,  Cr = f (R' - Y') / 1.4746,  Ytmo = Ysdr - max(0.1 Cr, 0)
    and R'G'B' of (Ytmo, Cb, Cr).

    Args:
      rgb: float32 [..., 3] in [0, 1], coded values R'G'B'.
      transfer: one of `HDR_TRANSFERS`.

    Returns:
      float32 [..., 3], in [0, 1] up to what leaves the gamut; 1/2.4-coded, BT.2020 primaries.
    """
    kr, kb = _BT2020_LUMA
    weights = np.array([kr, 1 - kr - kb, kb], np.float32)
    rgb = _through(_to_screen_light(transfer), rgb)
    if transfer == "arib-std-b67":
        scene_luma = _power(rgb, 2.4) @ weights
        rgb = rgb * _power(scene_luma, 0.2 / 2.4)[..., None]  # OOTF: light x Y^(1.2 - 1)
    luma = rgb @ weights
    mapped = _through(_method_a(), luma)
    scale = mapped / (1.1 * np.maximum(luma, 1e-6))
    blue = scale * (rgb[..., 2] - luma)  # 1.8814 Cb
    red = scale * (rgb[..., 0] - luma)  # 1.4746 Cr
    mapped = mapped - np.maximum(0.1 / 1.4746 * red, 0)
    green = -(kr * red + kb * blue) / (1 - kr - kb)
    return np.stack([mapped + red, mapped + green, mapped + blue], -1)


def bt709_from_bt2020(rgb: np.ndarray) -> np.ndarray:
    """1/2.4-coded R'G'B' float32 [..., 3], BT.2020 -> uint8 [..., 3], BT.709: step 4."""
    light = _through(_to_light(), rgb) @ _TO_BT709.T
    root = np.sqrt(np.clip(light, 0, 1))  # spreads the dark, where the curve is steep
    return _through(_from_root(), root)


def _transfer_name(value: int) -> str:
    if value not in list(ColorTrc):
        return "" if value in (0, 3) else f"transfer-{value}"
    name = ColorTrc(value)
    return _TRANSFER_NAMES.get(name, name.name.lower())


def _table(curve: Callable[[np.ndarray], np.ndarray], kind: type = np.float32) -> np.ndarray:
    return curve(np.linspace(0, 1, _LEVELS)).astype(kind)


def _through(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A curve on [0, 1] by table: several times faster than powers, and exact to 1e-4."""
    steps = np.clip(values, 0, 1) * np.float32(_LEVELS - 1) + np.float32(0.5)
    return table[steps.astype(np.uint16)]


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    return np.power(values, np.float32(exponent))


@functools.cache
def _to_screen_light(transfer: str) -> np.ndarray:
    """Coded value -> light^(1/2.4); 1 = 1000 cd/m2 (PQ), or the scene's peak (HLG)."""

    def pq(coded: np.ndarray) -> np.ndarray:
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        power = coded ** (1 / m2)
        light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)  # 1 = 10000 cd/m2
        return np.minimum(10 * light, 1)

    def hlg(coded: np.ndarray) -> np.ndarray:
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
        return np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)

    light = pq if transfer == "smpte2084" else hlg
    return _table(lambda coded: light(coded) ** (1 / 2.4))


@functools.cache
def _method_a() -> np.ndarray:
    """HDR luma -> SDR luma, both 1/2.4-coded."""

    def curve(luma: np.ndarray) -> np.ndarray:
        hdr, sdr = (1 + 32 * (peak / 10000) ** (1 / 2.4) for peak in (1000, 100))
        y = np.log1p((hdr - 1) * luma) / np.log(hdr)
        knee = -1.1510 * y**2 + 2.7811 * y - 0.6302
        y = np.where(y <= 0.7399, 1.0770 * y, np.where(y < 0.9909, knee, 0.5 * y + 0.5))
        return (sdr**y - 1) / (sdr - 1)

    return _table(curve)


@functools.cache
def _to_light() -> np.ndarray:
    return _table(lambda coded: coded**2.4)


@functools.cache
def _from_root() -> np.ndarray:
    return _table(lambda root: np.rint(255 * root ** (2 / 2.4)), np.uint8)
