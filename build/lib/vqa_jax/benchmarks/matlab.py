"""MATLAB files up to version 7, read within bounds.

A file is unpacked before SciPy sees it, up to a limit, and no array in it may claim more elements
than it has bytes: 2 MB of zeros can claim to be 14 GB.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from typing import Any

import numpy as np
import scipy.io

from vqa_jax.errors import VqaError

MAX_BYTES = 1 << 25  # unpacked; labels of a quarter of a million videos
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_MAX_DEPTH = 8  # of cells in cells


class MatlabError(VqaError, ValueError):
    """Bytes that are no such file, or one out of bounds."""


def read(data: bytes) -> dict[str, np.ndarray]:
    """Variables of a file, by name.

    Raises:
      MatlabError: it cannot be read, or unpacks to more than `MAX_BYTES`.
    """
    try:
        if len(data) > _HEADER and 0 not in data[:4]:  # version 5 to 7; older ones are not packed
            data = _unpacked(data)
        content = scipy.io.loadmat(io.BytesIO(data))
    except MatlabError:
        raise
    except Exception as error:  # a parser of foreign bytes has every kind of error
        raise MatlabError(f"{type(error).__name__}: {error}") from error
    return {k: v for k, v in content.items() if isinstance(v, np.ndarray)}


def texts(array: np.ndarray) -> list[str]:
    """The text or number of each cell.

    Raises:
      MatlabError: a cell that holds several.
    """
    return [str(_only(cell)) for cell in array.ravel()]


def numbers(array: np.ndarray) -> list[Any]:
    """The number of each cell, or its text; errors as `texts`."""
    return [_only(cell) for cell in array.ravel()]


def _only(cell: Any) -> Any:
    values = np.asarray(cell).ravel()  # a cell array is an array of one-element arrays
    if len(values) > 1:
        raise MatlabError(f"a cell of {len(values)} values")
    return values[0].item() if len(values) and values.dtype != object else ""


def _unpacked(data: bytes) -> bytes:
    """The same file with every element as it is without compression."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise MatlabError("no byte order in its header")
    parts, total = [data[:_HEADER]], 0
    for kind, body in _elements(data[_HEADER:], order):
        if kind == _COMPRESSED:
            element = zlib.decompressobj().decompress(body, MAX_BYTES - total + 1)
        else:
            element = struct.pack(order + "II", kind, len(body)) + body
        total += len(element)
        if total > MAX_BYTES:
            raise MatlabError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
        for inner, content in _elements(element, order):
            if inner == _MATRIX:
                _check(content, order, 0)
        parts.append(element + bytes(-len(element) % 8))
    return b"".join(parts)


def _elements(data: bytes, order: str) -> list[tuple[int, bytes]]:
    """(type, content) of elements that follow one another."""
    found, place = [], 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, place)
        if kind >> 16:  # small: the size is in the type's upper half, the content in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            end = place + 8
        else:
            start = place + 8
            # Compressed elements are not padded.
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if size > len(data) - start:
            raise MatlabError("it is cut off")
        found.append((kind, data[start : start + size]))
        place = end
    return found


def _check(matrix: bytes, order: str, depth: int) -> None:
    """Refuses an array, or one in its cells, that claims more elements than it has bytes."""
    if depth > _MAX_DEPTH:
        raise MatlabError(f"cells in cells, more than {_MAX_DEPTH} deep")
    parts = _elements(matrix, order)
    if len(parts) > 1:
        content = parts[1][1]
        sizes = struct.unpack(f"{order}{len(content) // 4}i", content[: len(content) // 4 * 4])
        if any(n < 0 for n in sizes) or math.prod(sizes) > len(matrix):
            raise MatlabError(f"an array of {' x '.join(map(str, sizes))} in {len(matrix)} bytes")
    for kind, content in parts[2:]:
        if kind == _MATRIX:
            _check(content, order, depth + 1)
