"""A picture of a stated sample of a corpus: what the student is shown, and how pairs are labelled.

The sample is the videos and the pairs whose keys have the smallest hashes: it depends on nothing
but the corpus, favours nothing, and does not change when the rest grows less or more.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vqa_jax.jobs.files import key_hash, replacing
from vqa_jax.pairs.levels import LEVELS

NUM_VIDEOS = 40
NUM_PAIRS = 20
_SIDE = 128  # px of a picture
_LINE = 14  # px of a line of text
_VIDEOS_A_ROW = 8


@dataclasses.dataclass
class Sample:
    """The smallest key hashes seen so far, of a stream of keys."""

    size: int
    seen: int = 0

    def __post_init__(self) -> None:
        self._heap: list[tuple[int, str, Any]] = []  # of negative hashes: the largest on top

    def offer(self, key: str, value: Any) -> None:
        """Takes `value` into the sample if its key's hash is among the smallest."""
        self.seen += 1
        item = (-key_hash(key), key, value)
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, item)
        elif item[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, item)

    def values(self) -> list[Any]:
        """The sample, ordered by key."""
        return [value for _, _, value in sorted(self._heap, key=lambda item: item[1])]


def draw(
    path: str,
    videos: Sequence[Mapping[str, Any]],
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]],
    num_videos: int,
    num_pairs: int,
) -> None:
    """Writes the sheet as PNG.

    Args:
      path: file to write.
      videos: video records, drawn by their middle frame or crop.
      pairs: (pair row, first video record, second video record).
      num_videos: how many there are in all, for the caption.
      num_pairs: likewise.
    """
    cell = _SIDE + 2 * _LINE
    video_rows = -(-len(videos) // _VIDEOS_A_ROW)
    pairs_a_row = _VIDEOS_A_ROW // 2
    pair_rows = -(-len(pairs) // pairs_a_row)
    height = 4 * _LINE + (video_rows + pair_rows) * cell
    sheet = Image.new("RGB", (_VIDEOS_A_ROW * _SIDE, height), "white")
    pen = ImageDraw.Draw(sheet)
    rule = "those whose keys have the smallest hashes; middle frame or crop of the record"
    pen.text((4, 4), f"{len(videos)} of {num_videos} videos: {rule}", "black")
    for k, video in enumerate(videos):
        x, y = k % _VIDEOS_A_ROW * _SIDE, 2 * _LINE + k // _VIDEOS_A_ROW * cell
        sheet.paste(_picture(video), (x, y))
        _text(pen, x, y, _SIDE, _version(video), str(video["path"]))
    top = 2 * _LINE + video_rows * cell
    pen.text((4, top + 4), f"{len(pairs)} of {num_pairs} pairs: the second is ... the first", "red")
    for k, (pair, first, second) in enumerate(pairs):
        x, y = k % pairs_a_row * 2 * _SIDE, top + 2 * _LINE + k // pairs_a_row * cell
        sheet.paste(_picture(first), (x, y))
        sheet.paste(_picture(second), (x + _SIDE, y))
        versions = f"{_version(first)} | {_version(second)}"
        _text(pen, x, y, 2 * _SIDE, f"{LEVELS[pair['label']]} ({pair['label_source']})", versions)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _picture(video: Mapping[str, Any]) -> Image.Image:
    frames: np.ndarray = video["frames"]
    image = Image.fromarray(frames[len(frames) // 2])
    return image.resize((_SIDE - 2, _SIDE - 2), Image.Resampling.BICUBIC)


def _version(video: Mapping[str, Any]) -> str:
    return f"{video['simulator']} {video['level']}" if video["level"] else "source"


def _text(pen: ImageDraw.ImageDraw, x: int, y: int, width: int, first: str, second: str) -> None:
    """Two lines below a picture, cut to its width; the bundled font has no letters beyond Latin."""
    for k, line in enumerate((first, second)):
        line = line.encode("ascii", "replace").decode()
        while line and pen.textlength(line) > width - 6:
            line = line[:-1]
        pen.text((x + 2, y + _SIDE + k * _LINE - 2), line, "black")
