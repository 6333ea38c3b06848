"""Damages real files at random, by seed: bit flips, cuts, and edits of their headers."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

# Boxes of MP4 whose fields steer a reader: sizes, counts, times, offsets, codec settings.
_BOXES = (
    b"ftyp moov mvhd tkhd edts elst mdhd hdlr stsd avc1 avcC mp4v stts ctts stss stsc stsz stco"
).split()
_EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER = 4096  # bytes at either end, where other containers keep theirs


def _flip_bits(
    data: bytearray, rng: np.random.Generator, start: int = 0, end: int = 0
) -> bytearray:
    for _ in range(2 ** rng.integers(0, 8)):
        data[rng.integers(start, end or len(data))] ^= 1 << rng.integers(8)
    return data


def _flip_header_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    size = min(_HEADER, len(data))
    start = 0 if rng.random() < 0.5 else len(data) - size
    return _flip_bits(data, rng, start, start + size)


def _edit_box(data: bytearray, rng: np.random.Generator) -> bytearray:
    places = [at for box in _BOXES if (at := data.find(box)) >= 4]
    if not places:
        return _flip_header_bits(data, rng)
    # From the length before the box's name to the fields behind it.
    at = places[rng.integers(len(places))] + 4 * int(rng.integers(-1, 12))
    value = _EXTREMES[rng.integers(len(_EXTREMES))] if rng.random() < 0.7 else rng.integers(2**32)
    data[at : at + 4] = int(value).to_bytes(4, "big")
    return data


def _cut_off(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(len(data))]


def _drop_piece(data: bytearray, rng: np.random.Generator) -> bytearray:
    start = rng.integers(len(data))
    del data[start : start + rng.integers(1, 1 + len(data) // 4)]
    return data


def _overwrite_piece(data: bytearray, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(len(data)))
    end = min(len(data), start + int(rng.integers(1, 1 + len(data) // 4)))
    data[start:end] = rng.bytes(end - start) if rng.random() < 0.5 else bytes(end - start)
    return data


MUTATIONS: dict[str, Callable[[bytearray, np.random.Generator], bytearray]] = {
    "flip": _flip_bits,
    "header": _flip_header_bits,
    "box": _edit_box,
    "cut": _cut_off,
    "drop": _drop_piece,
    "overwrite": _overwrite_piece,
}


def write_mutants(
    originals: Sequence[str | os.PathLike[str]], folder: pathlib.Path, number: int, seed: int
) -> list[pathlib.Path]:
    """Writes `number` damaged copies; originals and kinds of damage take turns.

    Mutant i depends on the originals, `seed` and i alone.

    Returns:
      Paths in order; each name tells kind and original.
    """
    paths = []
    kinds = list(MUTATIONS)
    for i in range(number):
        kind, original = (
            kinds[i % len(kinds)],
            pathlib.Path(originals[i // len(kinds) % len(originals)]),
        )
        data = MUTATIONS[kind](bytearray(original.read_bytes()), np.random.default_rng((seed, i)))
        paths.append(folder / f"{i:04d}_{kind}_{original.name}")
        paths[-1].write_bytes(data)
    return paths
