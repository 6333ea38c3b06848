"""Pictures of a moment for people: a frame made smaller, and a square of it pixel for pixel."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

FRAME_SIDE = 640  # pixels of a shown frame's longer side, at most
CROP_SIDE = 240  # pixels of the crop
_FRAME_QUALITY, _CROP_QUALITY = 85, 95  # JPEG; the crop must not hide the distortion
_MARK = (255, 176, 0)
_LOW, _HIGH, _TINT = (214, 72, 16), (37, 99, 201), 0.4  # colours of a heat map, and how strong


def framed(frame: np.ndarray, centre: tuple[float, float]) -> tuple[bytes, bytes]:
    """JPEGs (frame, crop) of a frame uint8 [H, W, 3]; the crop's place is marked in the frame.

    Args:
      frame: at native size.
      centre: (y, x) of the crop, pixels; it is moved so that all of the crop lies in the frame.
    """
    height, width = frame.shape[:2]
    side_y, side_x = min(CROP_SIDE, height), min(CROP_SIDE, width)
    top = int(np.clip(centre[0] - side_y / 2, 0, height - side_y))
    left = int(np.clip(centre[1] - side_x / 2, 0, width - side_x))
    crop = Image.fromarray(frame[top : top + side_y, left : left + side_x])
    scale = min(1.0, FRAME_SIDE / max(height, width))
    small = Image.fromarray(frame).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )
    box = [scale * k for k in (left, top, left + side_x, top + side_y)]
    ImageDraw.Draw(small).rectangle([*box[:2], box[2] - 1, box[3] - 1], outline=_MARK, width=2)
    return _jpeg(small, _FRAME_QUALITY), _jpeg(crop, _CROP_QUALITY)


def heated(
    frame: np.ndarray, places: Sequence[tuple[float, float, float, float]], scores: Sequence[float]
) -> bytes:
    """JPEG of a frame uint8 [H, W, 3], each place coloured from the lowest to the highest score.

    Args:
      frame: at native size.
      places: (top, left, bottom, right) in shares 0..1; where they overlap, scores are averaged.
      scores: of the places.
    """
    height, width = frame.shape[:2]
    scale = min(1.0, FRAME_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), np.float32)
    total, count = np.zeros(small.shape[:2]), np.zeros(small.shape[:2])
    for (top, left, bottom, right), score in zip(places, scores, strict=True):
        edges = zip((top, left, bottom, right), size[::-1] * 2, strict=True)
        y0, x0, y1, x1 = (round(share * length) for share, length in edges)
        total[y0:y1, x0:x1] += score
        count[y0:y1, x0:x1] += 1
    low, high = min(scores), max(scores)
    share = (total / np.maximum(count, 1) - low) / max(high - low, 1e-9)
    share = np.clip(share, 0, 1)[..., None]
    colour = (1 - share) * np.array(_LOW) + share * np.array(_HIGH)
    shown = np.where(count[..., None] > 0, (1 - _TINT) * small + _TINT * colour, small)
    return _jpeg(Image.fromarray(np.clip(shown, 0, 255).astype(np.uint8)), _FRAME_QUALITY)


def most_different(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Centre (y, x) of the square of CROP_SIDE in which two frames differ most; else the middle.

    Frames of other sizes have no such place.
    """
    height, width = first.shape[:2]
    if first.shape != second.shape:
        return height / 2, width / 2
    gap = np.abs(first.astype(np.int16) - second).sum(axis=2, dtype=np.int64)
    sums = np.pad(gap.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    y, x = min(CROP_SIDE, height), min(CROP_SIDE, width)
    squares = sums[y:, x:] - sums[:-y, x:] - sums[y:, :-x] + sums[:-y, :-x]
    top, left = np.unravel_index(squares.argmax(), squares.shape)
    return top + y / 2, left + x / 2


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
