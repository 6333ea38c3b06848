"""Labelled pairs, and those that simulators label: pure functions over tables (METHOD 3.2 and 7a).

Everything is a function of its arguments and a seed; the order of the inputs does not matter.
Pairs that teachers label are drawn in `teacher_pairs`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from vqa_jax import levels

SIMULATOR = "simulator"
TEACHERS = "teachers"
STUDENT = "student"
TOTAL = "total"
"""Key of the total in a wanted number that is given by shares, see `label_quota`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One labelled pair.

    Attributes:
      first_id: key of the first video.
      second_id: key of the second video, which the label describes.
      label: one of `LEVELS`.
      label_source: "simulator:<name>", "teachers" or "student".
      margin: second_mean - first_mean; positive when the second is better.
      first_mean: teachers' (or student's) mean score; for simulators minus the severity number.
      first_std: standard deviation of it; 0 for simulators.
      second_mean: as first_mean.
      second_std: as first_std.
      level_probs: soft label over `LEVELS`, or None for the one-hot of `label`.
      normalized_margin: margin / s_D, the margin in standard deviations (METHOD 3.1); 0 for
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


@dataclasses.dataclass(frozen=True)
class SimulatedSet:
    """Versions of one source by one simulator.

    Attributes:
      source_id: key of the undistorted source.
      simulator: name of the simulator.
      video_ids: (severity number, video key) of the effective levels, 0 = the source.
    """

    source_id: str
    simulator: str
    video_ids: tuple[tuple[int, str], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class SimulatedSets(Sequence[SimulatedSet]):
    """Many sets as columns, sorted by simulator and source; reads as `SimulatedSet`s.

    Attributes:
      source_id: object [sets] of str.
      simulator: object [sets] of str.
      lengths: int64 [sets], versions of each.
      severity: int64 [versions], set after set, rising in each, 0 = the source.
      video_id: object [versions] of str.
    """

    source_id: np.ndarray
    simulator: np.ndarray
    lengths: np.ndarray
    severity: np.ndarray
    video_id: np.ndarray

    @classmethod
    def of(cls, table: Sequence[SimulatedSet]) -> SimulatedSets:
        """The sets of `table` in any order; ValueError if a severity number occurs twice in one."""
        if isinstance(table, cls):
            return table
        groups = sorted(table, key=lambda g: (g.simulator, g.source_id))
        versions = [version for g in groups for version in sorted(g.video_ids)]
        sets = cls(
            np.array([g.source_id for g in groups], object),
            np.array([g.simulator for g in groups], object),
            np.array([len(g.video_ids) for g in groups], np.int64),
            np.array([number for number, _ in versions], np.int64),
            np.array([key for _, key in versions], object),
        )
        owner = np.repeat(np.arange(len(sets)), sets.lengths)
        for k in owner[1:][(np.diff(owner) == 0) & (np.diff(sets.severity) == 0)]:
            name = f"{sets.source_id[k]} {sets.simulator[k]}"
            raise ValueError(f"{name}: a severity number occurs twice")
        return sets

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, key: int) -> SimulatedSet: ...
    @overload
    def __getitem__(self, key: slice | np.ndarray) -> SimulatedSets: ...
    def __getitem__(self, key):
        """One set, or the sets of a slice, an index array or a mask."""
        ends = np.cumsum(self.lengths)
        if isinstance(key, (int, np.integer)):
            position = range(len(self))[key]  # IndexError ends a loop
            part = slice(ends[position] - self.lengths[position], ends[position])
            versions = zip(self.severity[part].tolist(), self.video_id[part], strict=True)
            return SimulatedSet(self.source_id[position], self.simulator[position], (*versions,))
        chosen = np.arange(len(self))[key]
        lengths = self.lengths[chosen]
        before = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat((ends - self.lengths)[chosen] - before, lengths)
        return SimulatedSets(
            self.source_id[chosen],
            self.simulator[chosen],
            lengths,
            self.severity[rows],
            self.video_id[rows],
        )


def key_hash(*keys: str) -> str:
    """Hash that orders keys without regard to how they are listed."""
    return hashlib.sha256("\0".join(keys).encode()).hexdigest()


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Random generator that depends on the seed and on what is drawn."""
    return np.random.default_rng([seed, int(key_hash(purpose)[:8], 16)])


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


# --- simulator pairs ------------------------------------------------------------------------


def simulator_pair(group: SimulatedSet, first: int, second: int) -> Pair:
    """Pair of the versions with severity numbers `first` and `second` of one set."""
    ids = dict(group.video_ids)
    return Pair(
        first_id=ids[first],
        second_id=ids[second],
        label=levels.label_from_severity(first, second),
        label_source=f"{SIMULATOR}:{group.simulator}",
        margin=float(first - second),
        first_mean=float(-first),
        first_std=0.0,
        second_mean=float(-second),
        second_std=0.0,
    )


def all_simulator_pairs(table: Sequence[SimulatedSet], seed: int = 0) -> PairTable:
    """Every pair of different versions once, in an order (A, B) or (B, A) chosen by hash."""
    sets = SimulatedSets.of(table)
    owner, mild, severe = _version_pairs(sets.lengths)
    names = zip(
        sets.simulator[owner],
        sets.source_id[owner],
        sets.severity[mild].astype(str),
        sets.severity[severe].astype(str),
        strict=True,
    )
    odd = (int(key_hash(str(seed), *name)[0], 16) % 2 for name in names)
    mild_first = np.fromiter(odd, bool, len(owner))
    return _simulator_pair_table(
        sets, np.where(mild_first, mild, severe), np.where(mild_first, severe, mild)
    )


def sample_simulator_pairs(
    table: Sequence[SimulatedSet], wanted: int | Mapping[str, float], seed: int
) -> PairTable:
    """Draw pairs of versions of the same source and simulator (METHOD 3.2).

    The simulators take turns, so each is equally frequent as long as it has pairs left; no pair
    is drawn twice, not even in the other order.

    Args:
      table: what there is; `video_ids` holds the effective levels only.
      wanted: number of each label, see `label_quota`; simulator pairs are never `similar`. Fewer
        come back when the table has fewer: then both directions are cut in proportion.
      seed: of the draw.

    Returns:
      Pairs in a shuffled order.
    """
    quota = label_quota(wanted, [x for x in levels.LEVELS if x != "similar"])
    rng = generator(seed, "simulator pairs")
    sets = SimulatedSets.of(table)
    names, simulator = np.unique(sets.simulator.astype(str), return_inverse=True)
    severity = sets.severity
    owner, mild, severe = _version_pairs(sets.lengths)
    kind = simulator[owner]
    near = severity[severe] - severity[mild] == 1
    first, second = [], []
    for rows, down, up in ((near, "worse", "better"), (~near, "inferior", "superior")):
        count = quota[down] + quota[up]
        chosen = _take_turns(np.flatnonzero(rows), kind, len(names), count, rng)
        rise = directions(len(chosen), quota[down], quota[up], rng)
        first.append(np.where(rise, severe[chosen], mild[chosen]))
        second.append(np.where(rise, mild[chosen], severe[chosen]))
    shuffled = rng.permutation(sum(map(len, first)))
    a, b = np.concatenate(first)[shuffled], np.concatenate(second)[shuffled]
    return _simulator_pair_table(sets, a, b)


def _simulator_pair_table(sets: SimulatedSets, a: np.ndarray, b: np.ndarray) -> PairTable:
    """Pairs of the versions numbered `a` and `b`, of one set each: `simulator_pair` of many."""
    severity = sets.severity
    step = severity[a] - severity[b]
    sources = (SIMULATOR + ":" + sets.simulator).astype(object)
    return PairTable(
        first_id=sets.video_id[a],
        second_id=sets.video_id[b],
        label=(2 + np.sign(step) * np.where(np.abs(step) == 1, 1, 2)).astype(np.int8),
        label_source=np.repeat(sources, sets.lengths)[a],
        margin=step.astype(np.float64),
        normalized_margin=np.zeros(len(a)),
        first_mean=-severity[a].astype(np.float64),
        first_std=np.zeros(len(a)),
        second_mean=-severity[b].astype(np.float64),
        second_std=np.zeros(len(a)),
    )


def _version_pairs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(set, milder version, more severe version) of all pairs, sets and versions in order."""
    starts = np.cumsum(lengths) - lengths
    owner, mild, severe = [], [], []
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        i, j = np.triu_indices(length, 1)
        owner.append(np.repeat(members, len(i)))
        mild.append((starts[members][:, None] + i).ravel())
        severe.append((starts[members][:, None] + j).ravel())
    if not owner:
        return (np.zeros(0, np.int64),) * 3
    columns = [np.concatenate(c) for c in (owner, mild, severe)]
    order = np.lexsort((columns[2], columns[1], columns[0]))
    return columns[0][order], columns[1][order], columns[2][order]


def _take_turns(
    rows: np.ndarray, kind: np.ndarray, num_kinds: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """The first `count` of `rows`, shuffled within each kind, one of each kind in turn."""
    queues = [rows[kind[rows] == k] for k in range(num_kinds)]
    queues = [queue[rng.permutation(len(queue))] for queue in queues if len(queue)]
    if not queues:
        return rows[:0]
    turn = np.concatenate([np.arange(len(queue)) for queue in queues])
    return np.concatenate(queues)[np.argsort(turn, kind="stable")][:count]


def misordered(
    pairs: Sequence[Pair], preference: Sequence[float] | np.ndarray, quota: int | None = None
) -> list[Pair]:
    """Pairs that the student puts in the wrong order or ties (METHOD 7a); labels are kept.

    Args:
      pairs: pairs with a direction (simulator pairs).
      preference: [len(pairs)] student's probability that the second video is preferred.
      quota: at most this many, the most confidently wrong first.

    Returns:
      The wrong ones, most confidently wrong first, ties by key hash.
    """
    preference = np.asarray(preference, np.float64)
    if preference.shape != (len(pairs),) or not np.isfinite(preference).all():
        raise ValueError(f"need {len(pairs)} finite preferences, got {preference.shape}")
    label = pairs.label if isinstance(pairs, PairTable) else _label_numbers(pairs)
    if (label == levels.level_index("similar")).any():
        pair = pairs[int(np.argmax(label == levels.level_index("similar")))]
        raise ValueError(f"{pair.first_id}, {pair.second_id}: a `similar` pair has no order")
    error = np.where(label > levels.level_index("similar"), 0.5 - preference, preference - 0.5)
    wrong = [(-error[k], pairs[k]) for k in np.flatnonzero(error >= 0).tolist()]
    wrong.sort(key=lambda x: (x[0], key_hash(x[1].first_id, x[1].second_id)))
    return [pair for _, pair in wrong[:quota]]


def _label_numbers(pairs: Sequence[Pair]) -> np.ndarray:
    return np.array([levels.level_index(pair.label) for pair in pairs], np.int8)
