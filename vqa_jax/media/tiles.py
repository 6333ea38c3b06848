"""Pictures made of tiles, as phones write them: the "grid" of HEIC and AVIF (ISO/IEC 23008-12).

FFmpeg reads each tile as a stream whose number is the tile's item, and tells by a stream group how
they lie, which PyAV does not show. It is read here from the file's boxes: `pitm` names the item
that is shown, `iinf` its kind, `iref` its tiles, row by row, and `iprp` its size and how it is
turned. How many there are in a row follows from the sizes.

Tiles are joined as they are stored, before anything is converted: no colour is interpolated by
halves on either side of a seam.
"""

import dataclasses
import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np

_MOST_BYTES = 1 << 24  # of all boxes together: those of 200 tiles take 20 kB
_TURNS = {b"irot": 3, b"imir": 1}  # and the bits that tell how


@dataclasses.dataclass(frozen=True)
class Grid:
    """A picture made of tiles.

    Attributes:
      tiles: numbers of their items, row by row; one may come more than once.
      width, height: pixels of the whole before it is turned; what sticks out is cut off.
      turns: what is done to it, in order: (b"irot", quarters counter-clockwise) or
        (b"imir", 0: upside down, 1: left to right).
    """

    tiles: tuple[int, ...]
    width: int
    height: int
    turns: tuple[tuple[bytes, int], ...]

    @property
    def is_quarter(self) -> bool:
        """Whether width and height change places when it is shown."""
        return sum(value for kind, value in self.turns if kind == b"irot") % 2 == 1


class Canvas:
    """A picture while its tiles come."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._left = set(grid.tiles)
        self._layout: tuple[str, int, int] | None = None  # of every tile
        self._planes: list[np.ndarray] = []

    def add(self, item: int, tile: av.VideoFrame) -> av.VideoFrame | None:
        """Takes an item's picture; gives the whole one, upright, once all have come.

        Raises:
          ValueError: such tiles do not make the picture.
        """
        grid, pixels = self.grid, tile.format.name
        layout = pixels, tile.width, tile.height
        columns, rows = -(-grid.width // tile.width), -(-grid.height // tile.height)
        if layout != (self._layout or layout) or columns * rows != len(grid.tiles):
            raise ValueError("its tiles differ, or do not fill it")
        parts = [_samples(tile, plane) for plane in tile.planes]
        if grid.is_quarter and "422" in pixels:  # no format has half the height: colours twice
            pixels = pixels.replace("422", "444")
            parts = [parts[0], *(np.repeat(p, 2, axis=1)[:, : tile.width] for p in parts[1:])]
        self._layout = layout
        self._planes = self._planes or [np.tile(part, (rows, columns)) for part in parts]
        for place in (k for k, other in enumerate(grid.tiles) if other == item):
            row, column = divmod(place, columns)
            for plane, part in zip(self._planes, parts, strict=True):
                height, width = part.shape
                plane[row * height :, column * width :][:height, :width] = part
        self._left.discard(item)
        return None if self._left else self._whole(tile, pixels)

    def _whole(self, tile: av.VideoFrame, pixels: str) -> av.VideoFrame:
        grid, order = self.grid, -1 if self.grid.is_quarter else 1
        whole = av.VideoFrame(*(grid.width, grid.height)[::order], pixels)
        for plane, samples in zip(whole.planes, self._planes, strict=True):
            height, width = (plane.height, plane.width)[::order]
            samples = samples[:height, :width]
            for kind, how in grid.turns:
                samples = np.rot90(samples, how) if kind == b"irot" else np.flip(samples, how)
            _samples(whole, plane)[:] = samples
        whole.colorspace, whole.color_range = tile.colorspace, tile.color_range
        return whole


def _samples(frame: av.VideoFrame, plane: av.video.plane.VideoPlane) -> np.ndarray:
    """A plane's samples [height, width], to be read and written."""
    kind = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else "<u2")
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]


def read_grid(path: str) -> Grid | None:
    """The grid that a file shows; None if it shows something else, or its boxes are damaged."""
    with open(path, "rb") as file:
        try:
            boxes = dict(_boxes(_meta(file)))
            version, _, data = _full(boxes[b"pitm"])
            item = _number(data, 4 if version else 2)
            if _kind(boxes[b"iinf"], item) != b"grid":
                return None
            found = _properties(boxes[b"iprp"], item)
            width, height = struct.unpack(">4xII", dict(found)[b"ispe"])
            turns = tuple((k, body[0] & _TURNS[k]) for k, body in found if k in _TURNS)
            return Grid(_tiles(boxes[b"iref"], item), width, height, turns)
        except (EOFError, IndexError, KeyError, struct.error):
            return None


def _meta(file: BinaryIO) -> bytes:
    """The boxes that tell of a file's items."""
    while True:
        size, kind = _number(file, 4), file.read(4)
        size = _number(file, 8) - 8 if size == 1 else size
        if size < 8:
            raise EOFError  # to the end of the file, or damaged
        if kind == b"meta":
            return file.read(min(size - 8, _MOST_BYTES))[4:]
        file.seek(size - 8, os.SEEK_CUR)


def _kind(iinf: bytes, item: int) -> bytes:
    """What an item is, in four letters."""
    for kind, body in _boxes(iinf[8 if iinf[0] else 6 :]):
        version, _, data = _full(body)
        if kind == b"infe" and version >= 2 and _number(data, 2 if version == 2 else 4) == item:
            return data.read(6)[2:]
    return b""


def _tiles(iref: bytes, item: int) -> tuple[int, ...]:
    wide = 4 if iref[0] else 2
    for kind, body in _boxes(iref[4:]):
        data = io.BytesIO(body)
        if kind == b"dimg" and _number(data, wide) == item:
            return tuple(_number(data, wide) for _ in range(_number(data, 2)))
    return ()


def _properties(iprp: bytes, item: int) -> list[tuple[bytes, bytes]]:
    """Boxes of an item's properties, in order."""
    parts = list(_boxes(iprp))
    known = list(_boxes(dict(parts)[b"ipco"]))
    places: list[int] = []
    for version, flags, data in (_full(body) for kind, body in parts if kind == b"ipma"):
        wide = 2 if flags & 1 else 1
        for _ in range(_number(data, 4)):
            number = _number(data, 4 if version else 2)
            found = [_number(data, wide) % (1 << 8 * wide - 1) for _ in range(_number(data, 1))]
            places += found if number == item else []
    return [known[place - 1] for place in places if place]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, contents) of boxes that follow one another."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + size]
        at += max(size, 8)


def _full(body: bytes) -> tuple[int, int, io.BytesIO]:
    """(version, flags, what follows) of a box."""
    return body[0], int.from_bytes(body[1:4], "big"), io.BytesIO(body[4:])


def _number(data: BinaryIO, size: int) -> int:
    found = data.read(size)
    if len(found) < size:
        raise EOFError
    return int.from_bytes(found, "big")
