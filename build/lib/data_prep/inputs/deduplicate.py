"""Finds copies among the inputs, so that no source is prepared twice or lands in both splits.

Exact copies have the same bytes. Near copies show the same pictures: re-encoded, rescaled, in
another container, cut off or damaged. Crops, overlays, mirrored or regraded versions and other
parts of one film are not meant to be found, nor is the same start cut to another length below
eight seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping

import cv2
import numpy as np

from vqa_jax.media.container import TruncatedVideoError
from vqa_jax.media.decode import iter_frames
from vqa_jax.media.probe import VideoInfo

NUM_HASHES = 4  # frames of a fingerprint
NEAR_DISTANCE = 3.5  # most bits, on average over frames; below 4, see `near_pairs`
_SPAN_SECONDS = 8.0  # frames come from the start: a long film would cost minutes to look through
_PIECE = 1 << 16  # bytes hashed at the start, in the middle and at the end of a file
_HASH_BITS = 63
_ONES = 31
_FLAT = 2.0  # levels of 255: frames with less structure look all alike
_BANDS = 3
_BAND_BITS = _HASH_BITS // _BANDS
_BAND_MASK = np.uint64((1 << _BAND_BITS) - 1)
_REACH = 64  # rows that a row is compared with in a crowded bucket


@dataclasses.dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is compared of one file.

    Attributes:
      size: bytes.
      digest: of size, start, middle and end of the file; hex.
      pixels: of a frame; of near copies the largest is kept.
      hashes: NUM_HASHES `frame_hash`es from the first seconds, 0 where there is no evidence (a
        flat frame, or one that does not decode); empty if near copies are not looked for.
    """

    size: int
    digest: str
    pixels: int
    hashes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """One row of duplicates.csv: `key` is left out as a copy of `of`, which is kept.

    `kind` is "exact" or "near"; `distance` is the mean of differing bits (of 63) in a frame.
    """

    key: str
    of: str
    kind: str
    distance: float


def frame_hash(frame: np.ndarray) -> int:
    """Perceptual hash of uint8 RGB [H, W, 3]: 63 bits, of which 31 are set; 0 for a flat frame.

    After Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010):
    luma is shrunk to 32x32, and its 8x8 lowest DCT coefficients without the mean are compared with
    their median. Here the 31 largest are set, ties by position: two hashes differ in an even
    number of bits. A frame is flat if these coefficients amount to less than 2 levels (RMS).
    """
    # Shrinking first is several times cheaper, and both steps are linear.
    small = cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA)
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = cv2.dct(luma)[:8, :8].ravel()[1:]
    if np.sqrt(np.sum(low**2)) / 32 < _FLAT:
        return 0
    return sum(1 << int(i) for i in np.argsort(-low, kind="stable")[:_ONES])


def fingerprint(path: str | os.PathLike[str], info: VideoInfo, near: bool = True) -> Fingerprint:
    """Fingerprint of a probed local file.

    Up to 64 KiB are read at its start, middle and end; with `near`, its first 8 seconds (less in
    shorter files) are decoded for frames in the middles of four equal parts.

    Raises:
      MediaError: as `iter_frames`; a stream that ends too early just gives fewer hashes.
      OSError: the file has gone.
    """
    hashes: tuple[int, ...] = ()
    if near:
        hashes = _frame_hashes(path, info)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        for start in (0, (size - _PIECE) // 2, size - _PIECE):
            file.seek(max(0, start))
            digest.update(file.read(_PIECE))
    return Fingerprint(size, digest.hexdigest()[:32], info.width * info.height, hashes)


def _frame_hashes(path: str | os.PathLike[str], info: VideoInfo) -> tuple[int, ...]:
    count = max(1, min(info.num_frames, round(_SPAN_SECONDS * info.fps)))
    places = [(2 * i + 1) * count // (2 * NUM_HASHES) for i in range(NUM_HASHES)]
    found: dict[int, int] = {}
    with contextlib.suppress(TruncatedVideoError):
        for number, frame in iter_frames(path, set(places), info):
            found[number] = frame_hash(frame)
    return tuple(found.get(place, 0) for place in places)


def find_duplicates(rows: Mapping[str, Fingerprint]) -> list[Duplicate]:
    """Which of the files to leave out, so that no two of the others are known copies.

    Of exact copies the first by key is kept; of near copies the one with the most pixels, then
    the most bytes, then the first by key. A copy of a copy that is left out is not for that reason
    left out itself. The order of `rows` does not matter.

    Args:
      rows: key -> fingerprint.

    Returns:
      Duplicates sorted by key; `of` is always a file that is kept.
    """
    kept_by_bytes: dict[tuple[int, str], str] = {}
    dropped: dict[str, Duplicate] = {}
    for key in sorted(rows):
        of = kept_by_bytes.setdefault((rows[key].size, rows[key].digest), key)
        if of != key:
            dropped[key] = Duplicate(key, of, "exact", 0.0)
    ranked = sorted(
        (key for key in kept_by_bytes.values() if len(rows[key].hashes) == NUM_HASHES),
        key=lambda key: (-rows[key].pixels, -rows[key].size, key),
    )
    hashes = np.array([rows[key].hashes for key in ranked], np.uint64).reshape(-1, NUM_HASHES)
    alive = np.arange(len(ranked))
    while True:  # again after crowded buckets have thinned out
        copies = _copies(hashes[alive])
        for place, (of, distance) in copies.items():
            key = ranked[alive[place]]
            dropped[key] = Duplicate(key, ranked[alive[of]], "near", distance)
        if not copies:
            break
        alive = np.delete(alive, list(copies))
    for key, row in dropped.items():
        while row.of in dropped:  # what it is a copy of is itself left out
            link = dropped[row.of]
            kind = "near" if "near" in (row.kind, link.kind) else "exact"
            row = Duplicate(key, link.of, kind, max(row.distance, link.distance))
        dropped[key] = row
    return [dropped[key] for key in sorted(dropped)]


def _copies(hashes: np.ndarray) -> dict[int, tuple[int, float]]:
    """Place -> (earlier place that is kept, distance), for [N, NUM_HASHES] in order of rank."""
    first, second, distance = near_pairs(hashes)
    copies: dict[int, tuple[int, float]] = {}
    for at in np.lexsort((first, distance, second)):  # a file after all that rank above it
        i, j = int(first[at]), int(second[at])
        if i not in copies and j not in copies:
            copies[j] = i, float(distance[at])
    return copies


def near_pairs(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of rows within NEAR_DISTANCE, but for crowded buckets.

    Rows are compared only if they share a third of the bits (21) of some frame's hash. No pair is
    missed by that: distances are even, so a mean below 4 means a frame with at most two differing
    bits, which leave one of three bands untouched. In buckets of more than 64 rows a row meets
    the 64 that follow it in order of the other bits, which keeps the cost near-linear.

    Args:
      hashes: uint64 [N, NUM_HASHES], of `frame_hash`.

    Returns:
      int64 [P] row, int64 [P] later row, float64 [P] distance (see `distances`); each pair once.
    """
    count = len(hashes)
    found = [(np.empty(0, np.int64), np.empty(0, np.float64))]
    for frame in range(NUM_HASHES):
        for band in range(_BANDS):
            for one, other in _bucket_mates(hashes[:, frame], band):
                distance = distances(hashes[one], hashes[other])
                near = np.flatnonzero(distance <= NEAR_DISTANCE)
                one, other = one[near], other[near]
                pair = np.minimum(one, other) * count + np.maximum(one, other)
                found.append((pair, distance[near]))
    pairs, places = np.unique(np.concatenate([p for p, _ in found]), return_index=True)
    distance = np.concatenate([d for _, d in found])[places]
    return pairs // max(count, 1), pairs % max(count, 1), distance


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean of differing bits a frame, for uint64 [N, NUM_HASHES] twice -> float64 [N].

    Only frames with evidence on both sides count, and there must be two. Of three or more the
    worst is left out: where a scene changes, a copy may show the frame beside it.
    """
    evident = (one != 0) & (other != 0)
    bits = np.where(evident, np.bitwise_count(one ^ other), 0).astype(np.float64)
    count = evident.sum(1)
    many = count > 2
    total = bits.sum(1) - np.where(many, bits.max(1), 0)
    return np.where(count < 2, np.inf, total / np.maximum(count - many, 1))


def _bucket_mates(column: np.ndarray, band: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of row pairs whose hashes agree in a band of bits."""
    rows = np.flatnonzero(column)
    low = np.uint64(band * _BAND_BITS)
    # The band comes first, the other bits behind it: one sort makes the buckets and their order.
    turned = (column[rows] >> low) | (column[rows] << (np.uint64(_HASH_BITS) - low))
    turned &= np.uint64((1 << _HASH_BITS) - 1)
    turned = (turned & _BAND_MASK) << np.uint64(_HASH_BITS - _BAND_BITS) | turned >> np.uint64(
        _BAND_BITS
    )
    order = np.argsort(turned, kind="stable")
    rows, bucket = rows[order], turned[order] >> np.uint64(_HASH_BITS - _BAND_BITS)
    at = np.arange(len(rows))
    for step in range(1, _REACH + 1):
        at = at[: np.searchsorted(at, len(rows) - step)]
        at = at[bucket[at] == bucket[at + step]]
        if not len(at):
            return
        yield rows[at], rows[at + step]
