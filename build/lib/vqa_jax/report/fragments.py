"""A picture of what fragments are: a frame with the patches marked, the spliced view, a caption.

python -m vqa_jax teachers view VIDEO --out fragments.png
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vqa_jax.jobs.files import replacing
from vqa_jax.media import isolation
from vqa_jax.media.decode import read_frames
from vqa_jax.media.probe import probe
from vqa_jax.settings import DEFAULT_LIMITS
from vqa_jax.teachers import views

_GAP = 16  # pixels between the two pictures
_LETTERS = 90  # of the caption across the picture, about
_CELL, _PATCH = (90, 90, 90), (255, 176, 0)


def draw(video: str, out: str, seed: int = 0) -> None:
    """Writes a PNG: the first frame of the technical view, and its fragments twice as large.

    Args:
      video: file.
      out: PNG file to write.
      seed: of the patches' places.

    Raises:
      MediaError: the video cannot be used.
    """
    limits = DEFAULT_LIMITS
    info = isolation.call(limits, video, probe, video, limits.pixels)
    number = int(views.clip_numbers(info.num_frames, 1, 32, 2, seed)[0, 0])
    with replacing(out) as temporary:
        frame = isolation.call(limits, video, read_frames, video, [number])[0]
        sheet = picture(frame, seed)
        _captioned(sheet, caption(number)).save(temporary, "PNG", optimize=True)


def caption(number: int, grid: views.Grid = views.Grid()) -> str:
    """What the picture of frame `number` shows."""
    cells, patch = grid.cells, grid.patch
    return (
        f"Left: frame {number}, cut into {cells} x {cells} cells; of each one patch of "
        f"{patch} x {patch} pixels is kept, at a random place (marked). Right: these patches side "
        f"by side, {grid.side} x {grid.side} pixels shown twice as large: all that a teacher of "
        "the technical view sees of the frame."
    )


def _captioned(sheet: Image.Image, words: str) -> Image.Image:
    """The picture with a text below it, in lines that fit."""
    font = ImageFont.load_default(max(14, 2 * sheet.width // _LETTERS))
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > sheet.width - 2 * _GAP and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    height = round(1.4 * font.size)
    whole = Image.new("RGB", (sheet.width, sheet.height + height * len(lines) + 2 * _GAP), "white")
    whole.paste(sheet)
    pen = ImageDraw.Draw(whole)
    for k, line in enumerate(lines):
        pen.text((_GAP, sheet.height + _GAP + k * height), line, "black", font)
    return whole


def picture(frame: np.ndarray, seed: int = 0, grid: views.Grid = views.Grid()) -> Image.Image:
    """Frame uint8 [H, W, 3], scaled up if fragments need it, with cells and patches, and its view.

    The patches are those of `views.fragments(frame[None], seed)`.
    """
    frame = views.enlarged(frame[None], grid.side)[0]
    height, width = frame.shape[:2]
    spliced = Image.fromarray(views.fragments(frame[None], seed, grid=grid)[0])
    spliced = spliced.resize((2 * grid.side, 2 * grid.side), Image.Resampling.NEAREST)
    size = (width + _GAP + spliced.width, max(height, spliced.height))
    sheet = Image.new("RGB", size, "white")
    sheet.paste(Image.fromarray(frame))
    sheet.paste(spliced, (width + _GAP, 0))
    lines = ImageDraw.Draw(sheet)
    cell_y, cell_x = height // grid.cells, width // grid.cells
    for k in range(grid.cells + 1):
        lines.line([(0, k * cell_y), (cell_x * grid.cells - 1, k * cell_y)], _CELL)
        lines.line([(k * cell_x, 0), (k * cell_x, cell_y * grid.cells - 1)], _CELL)
    corners = views.fragment_corners(height, width, seed, grid=grid)
    for y, x in corners.reshape(2, -1).T.tolist():
        # Around the patch, whose own pixels stay as they are.
        box = [x - 1, y - 1, x + grid.patch, y + grid.patch]
        lines.rectangle(box, outline=_PATCH)
    return sheet
