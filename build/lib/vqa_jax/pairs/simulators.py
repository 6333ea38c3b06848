"""Pairs that simulators label: pure functions over tables (method 3.2 and 7a).

Everything is a function of its arguments and a seed; the order of the inputs does not matter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np

from vqa_jax.pairs import levels
from vqa_jax.pairs.table import (
    SIMULATOR,
    Pair,
    PairTable,
    directions,
    generator,
    label_quota,
    order_key,
)


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

    @property
    def mildest(self) -> np.ndarray:
        """Key of each set's mildest version, object [sets]: the source where it is in the set."""
        return self.video_id[np.cumsum(self.lengths) - self.lengths]

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
    odd = (int(order_key(str(seed), *name)[0], 16) % 2 for name in names)
    mild_first = np.fromiter(odd, bool, len(owner))
    return _simulator_pair_table(
        sets, np.where(mild_first, mild, severe), np.where(mild_first, severe, mild)
    )


def sample_simulator_pairs(
    table: Sequence[SimulatedSet], wanted: int | Mapping[str, float], seed: int
) -> PairTable:
    """Draw pairs of versions of the same source and simulator (method 3.2).

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
    """Pairs that the student puts in the wrong order or ties (method 7a); labels are kept.

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
    wrong.sort(key=lambda x: (x[0], order_key(x[1].first_id, x[1].second_id)))
    return [pair for _, pair in wrong[:quota]]


def _label_numbers(pairs: Sequence[Pair]) -> np.ndarray:
    return np.array([levels.level_index(pair.label) for pair in pairs], np.int8)
