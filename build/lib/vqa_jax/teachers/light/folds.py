"""Folds of rated pictures: near copies stay together, as do versions of one content.

Two pictures are near copies if thumbnails of theirs have nearly the same slopes; what a chain of
near copies or a stated content connects is one group, and a group is in one fold.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from vqa_jax.jobs.files import CorpusError, key_hash

_SIDE = 16  # of the grid of slopes
NEAR_BITS = 40  # of 512: what near copies may differ in; strangers differ in about 250


def thumbnail_hash(picture: np.ndarray) -> np.ndarray:
    """Signs of the slopes of a thumbnail's luma, across and down: uint8 [64], packed bits.

    Args:
      picture: uint8 RGB [H, W, 3].
    """
    small = cv2.resize(picture, (_SIDE + 1, _SIDE + 1), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.int16)
    across, down = np.diff(gray, axis=1)[:-1] > 0, np.diff(gray, axis=0)[:, :-1] > 0
    return np.packbits(np.stack([across, down]))


def groups(hashes: np.ndarray, contents: Sequence[str] = ()) -> np.ndarray:
    """Number of the group of every picture, int64 [N], the smallest member's place.

    Args:
      hashes: uint8 [N, 64] of `thumbnail_hash`.
      contents: what each picture shows, "" where nobody says; () for none.
    """
    parent = np.arange(len(hashes))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    def join(a: int, b: int) -> None:
        a, b = sorted((root(a), root(b)))
        parent[b] = a

    for k, row in enumerate(hashes):
        bits = np.bitwise_count(hashes[k + 1 :] ^ row).sum(1)
        for near in np.flatnonzero(bits <= NEAR_BITS):
            join(k, k + 1 + int(near))
    first: dict[str, int] = {}
    for k, content in enumerate(contents):
        if content:
            join(first.setdefault(content, k), k)
    return np.array([root(k) for k in range(len(hashes))])


def folds(group: np.ndarray, kinds: Sequence[str], number: int, seed: int) -> np.ndarray:
    """Fold of every picture, int64 [N] in 0..number - 1; every kind is spread evenly over them.

    Args:
      group: [N] of `groups`; its members share a fold.
      kinds: [N] kind of each picture.
      number: of folds.
      seed: of the order in which groups are dealt.
    """
    first, inverse, size = np.unique(
        group, return_index=True, return_inverse=True, return_counts=True
    )[1:]
    kind = np.array([kinds[k] for k in first])
    found = np.zeros(len(first), np.int64)
    for name in sorted(set(kind)):
        members = np.flatnonzero(kind == name)
        # Larger groups first, so that the last ones fill up what is left.
        order = sorted(members, key=lambda k: (-size[k], key_hash(f"{seed}:{group[first[k]]}")))
        filled = np.zeros(number, np.int64)
        for k in order:
            fold = int(np.argmin(filled))
            found[k] = fold
            filled[fold] += size[k]
    return found[inverse]


class FoldTable:
    """Which fold a source belongs to, by its name.

    A source belongs to the picture whose name, without folder and ending, it has or goes on from
    with something else than a letter or digit: `ss01_10.jpg` and `ss01_10-pan.mkv` are of ss01_10.
    """

    def __init__(self, folds: Mapping[str, int]):
        self._folds = {_stem(name): fold for name, fold in folds.items()}

    def __bool__(self) -> bool:
        return bool(self._folds)

    def of(self, path: str) -> int | None:
        """Fold of a source; None where it shows none of the pictures."""
        name = _stem(path)
        ends = [len(name), *(m.start() for m in re.finditer(r"[^0-9A-Za-z]", name))]
        for end in sorted(ends, reverse=True):
            if name[:end] in self._folds:
                return self._folds[name[:end]]
        return None


def read_folds(path: str) -> FoldTable:
    """The folds that `oof.csv` tells.

    Raises:
      CorpusError: there is no such table, or two pictures of one name are in different folds.
    """
    try:
        with open(path, encoding="utf-8", newline="") as text:
            rows = [(row["path"], int(row["fold"])) for row in csv.DictReader(text)]
    except (OSError, KeyError, ValueError) as error:
        raise CorpusError(f"{path} is no table of `teachers fit` ({error!r})") from error
    table = FoldTable(dict(rows))
    for name, fold in rows:
        if table.of(name) != fold:
            raise CorpusError(f"{path}: two pictures are called {_stem(name)}: rename one")
    return table


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
