"""Labelled pairs, one by one and as columns, and how many of each label are wanted (method 3).

Simulators label theirs in `pairs.simulators`, teachers in `pairs.teachers`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from vqa_jax.pairs import levels

SIMULATOR = "simulator"
TEACHERS = "teachers"
STUDENT = "student"
HUMAN = "human"
TOTAL = "total"
"""Key of the total in a wanted number that is given by shares, see `label_quota`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One labelled pair.

    Attributes:
      first_id: key of the first video.
      second_id: key of the second video, which the label describes.
      label: one of `LEVELS`.
      label_source: "simulator:<name>", "human:<set>", "teachers" or "student".
      margin: second_mean - first_mean; positive when the second is better.
      first_mean: teachers' (or student's) mean score; for simulators minus the severity number.
      first_std: standard deviation of it; 0 for simulators.
      second_mean: as first_mean.
      second_std: as first_std.
      level_probs: soft label over `LEVELS`, or None for the one-hot of `label`.
      normalized_margin: margin / s_D, the margin in standard deviations (method 3.1); 0 for
        simulators and where s_D is 0.
    """

    first_id: str
    second_id: str
    label: str
    label_source: str
    margin: float
    first_mean: float
    first_std: float
    second_mean: float
    second_std: float
    level_probs: tuple[float, ...] | None = None
    normalized_margin: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class PairTable(Sequence[Pair]):
    """Many pairs as columns of length N, for hundreds of thousands of them; reads as `Pair`s.

    Attributes:
      first_id: object [N] of str.
      second_id: object [N] of str.
      label: int8 [N], positions in `LEVELS`.
      label_source: object [N] of str.
      margin, normalized_margin, first_mean, first_std, second_mean, second_std: float64 [N], as in
        `Pair`.
    """

    first_id: np.ndarray
    second_id: np.ndarray
    label: np.ndarray
    label_source: np.ndarray
    margin: np.ndarray
    normalized_margin: np.ndarray
    first_mean: np.ndarray
    first_std: np.ndarray
    second_mean: np.ndarray
    second_std: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[Pair]:
        labels = np.array(levels.LEVELS, object)[self.label]
        columns = (self.first_id, self.second_id, labels, self.label_source, self.margin)
        columns += (self.first_mean, self.first_std, self.second_mean, self.second_std)
        rows = zip(*(c.tolist() for c in columns), strict=True)
        for row, normalized in zip(rows, self.normalized_margin.tolist(), strict=True):
            yield Pair(*row, None, normalized)

    @overload
    def __getitem__(self, key: int) -> Pair: ...
    @overload
    def __getitem__(self, key: slice | np.ndarray) -> PairTable: ...
    def __getitem__(self, key):
        """One pair, or the table of a slice, an index array or a mask."""
        if isinstance(key, (int, np.integer)):
            position = range(len(self))[key]  # IndexError ends a loop
            return next(iter(self[position : position + 1]))
        return PairTable(*(getattr(self, f.name)[key] for f in dataclasses.fields(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PairTable):
            return NotImplemented
        names = [f.name for f in dataclasses.fields(self)]
        return all(np.array_equal(getattr(self, x), getattr(other, x)) for x in names)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def concatenate(cls, tables: Sequence[PairTable]) -> PairTable:
        """All pairs of at least one table in order."""
        names = [f.name for f in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(t, x) for t in tables]) for x in names))


def order_key(*keys: str) -> str:
    """Hash that orders keys without regard to how they are listed."""
    return hashlib.sha256("\0".join(keys).encode()).hexdigest()


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Random generator that depends on the seed and on what is drawn."""
    return np.random.default_rng([seed, int(order_key(purpose)[:8], 16)])


def label_quota(wanted: int | Mapping[str, float], allowed: Iterable[str]) -> dict[str, int]:
    """Wanted number of pairs of each label.

    Args:
      wanted: one number for every allowed label; or label -> number; or shares of a total,
        {"total": N, label: share, ...}: the shares are brought to the sum 1, and labels without
        one get none; a total alone is shared equally.
      allowed: labels that such pairs can have.

    Returns:
      label -> number for all of `LEVELS`; shares are rounded so that the sum is the total.

    Raises:
      ValueError: an unknown or impossible label, a negative number, or shares that sum to 0.
    """
    allowed = tuple(allowed)
    numbers = dict.fromkeys(allowed, wanted) if isinstance(wanted, int) else dict(wanted)
    total = numbers.pop(TOTAL, None)
    if total is not None and not numbers:
        numbers = dict.fromkeys(allowed, 1)
    for label, count in numbers.items():
        levels.level_index(label)
        if count < 0:
            raise ValueError(f"number of {label!r} pairs is negative")
        if count and label not in allowed:
            raise ValueError(f"no such pair can be {label!r}")
        if total is None and count != int(count):
            raise ValueError(f"{count} {label!r} pairs: give a whole number, or a `total`")
    exact = np.array([numbers.get(label, 0) for label in levels.LEVELS], np.float64)
    if total is not None:
        if total < 0 or total != int(total) or not exact.sum() > 0:
            raise ValueError(f"total {total} with shares {numbers}: need a total and some share")
        exact *= total / exact.sum()
    counts = np.floor(exact + 1e-9).astype(int)
    missing = round(exact.sum()) - counts.sum()
    largest = np.argsort(counts - exact, kind="stable")[:missing]
    counts[largest] += 1
    return dict(zip(levels.LEVELS, counts.tolist(), strict=True))


def directions(count: int, down: int, up: int, rng: np.random.Generator) -> np.ndarray:
    """Which of `count` pairs have the better video second, in the proportion of the wanted ones.

    Args:
      count: number of pairs, at most down + up.
      down: wanted number of pairs whose first video is the better one.
      up: wanted number of pairs whose second video is the better one.
      rng: of the draw.

    Returns:
      bool [count]; `up` of them are True when count = down + up.
    """
    if count == 0:
        return np.zeros(0, bool)
    ups = round(count * up / (down + up))
    return rng.permutation(count) >= count - ups
