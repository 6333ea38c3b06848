"""Which pairs a batch holds, in which order and orientation: a pure function of the step.

Sources of pairs (a simulator, the teachers, ...) are passed over again and again, each pass (epoch)
in a new order and holding every pair once, and are mixed by weight into one endless stream. The
stream is cut into windows of about one pass over everything; inside a window, pairs are sorted into
batches by bucket of length. Nothing depends on how many processes there are or what ran before.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
from collections.abc import Sequence

import numpy as np

_CACHED = 4  # epochs of a source, and windows, that are kept once they are planned


@dataclasses.dataclass(frozen=True)
class PairIndex:
    """What the sampler knows of all pairs.

    Attributes:
      first: number of each pair's first video, int [n]; equal numbers are one video.
      second: the same for the second videos.
      bucket: bucket that a pair fits into, int [n]; a higher one holds all that a lower one does.
    """

    first: np.ndarray
    second: np.ndarray
    bucket: np.ndarray


@dataclasses.dataclass(frozen=True)
class Source:
    """Pairs that are drawn with one weight.

    Attributes:
      members: their numbers, int [m], at least one.
      weight: share of all pairs drawn, relative to the other sources'.
    """

    members: np.ndarray
    weight: float


@dataclasses.dataclass(frozen=True)
class Draw:
    """Pairs of one global batch.

    Attributes:
      bucket: the one that they fit into.
      pairs: numbers of the pairs, int [G, g]; -1 where a group has fewer.
      swapped: whether a pair's second video comes first, bool [G, g]. The pairs of a group have
        one video that comes first.
    """

    bucket: int
    pairs: np.ndarray
    swapped: np.ndarray


def star_groups(
    first: np.ndarray,
    second: np.ndarray,
    size: int,
    either_end: bool,
    rng: np.random.Generator,
) -> list[tuple[int, list[int]]]:
    """Groups pairs around videos that they share, as few groups as a greedy pass in a random order
    of the videos finds: first full groups, then ever smaller ones.

    A pair whose two videos have equally many partners is as likely to be found by either.

    Args:
      first: number of each pair's first video, int [n].
      second: number of its second one.
      size: most pairs of a group.
      either_end: groups share any video; otherwise the pairs' first one.
      rng: decides all ties.

    Returns:
      (shared video, pairs) of each group; every pair is in one.
    """
    ends = np.concatenate([first, second]) if either_end else np.asarray(first)
    order = rng.permutation(len(ends))
    free = collections.defaultdict(list)
    for entry in order.tolist():
        free[int(ends[entry])].append(entry % len(first))
    videos = rng.permutation(sorted(free)).tolist()
    taken = bytearray(len(first))
    groups = []
    for wanted in range(size, 0, -1):
        for video in videos:
            left = [pair for pair in free[video] if not taken[pair]]
            while len(left) >= wanted:
                group, left = left[:wanted], left[wanted:]
                for pair in group:
                    taken[pair] = 1
                groups.append((video, group))
            free[video] = left
    return groups


class _Passes:
    """Endless passes over one source; the unit is a group of pairs, with group_size 1 a pair."""

    def __init__(
        self, index: PairIndex, members: np.ndarray, group_size: int, swap: bool, seed: list[int]
    ):
        self._index, self._members = index, np.asarray(members)
        self._group_size, self._swap, self._seed = group_size, swap, seed
        self.epoch = functools.lru_cache(_CACHED)(self._epoch)
        self._starts = [0]  # first unit of each epoch

    def _epoch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(pairs [U, g], swapped [U, g]) of one pass, in order."""
        rng = np.random.default_rng([*self._seed, number])
        members, size = self._members, self._group_size
        if size == 1:
            pairs = rng.permutation(members)[:, None]
            return pairs, self._swap & (rng.random(pairs.shape) < 0.5)
        first, second = self._index.first[members], self._index.second[members]
        groups = star_groups(first, second, size, self._swap, rng)
        pairs = np.full((len(groups), size), -1)
        swapped = np.zeros(pairs.shape, bool)
        for row, place in enumerate(rng.permutation(len(groups))):
            video, group = groups[place]
            pairs[row, : len(group)] = members[group]
            swapped[row, : len(group)] = first[group] != video
        return pairs, swapped

    def _start(self, epoch: int) -> int:
        if self._group_size == 1:
            return epoch * len(self._members)
        while len(self._starts) <= epoch:
            done = len(self._starts) - 1
            self._starts.append(self._starts[done] + len(self.epoch(done)[0]))
        return self._starts[epoch]

    def units(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Units begin to end - 1 of the endless passes, as of `_epoch`."""
        epoch = begin // len(self._members)  # no epoch has more units than pairs
        while self._start(epoch + 1) <= begin:
            epoch += 1
        parts = []
        while self._start(epoch) < end:
            start = self._start(epoch)
            cut = slice(max(begin - start, 0), end - start)
            parts.append(tuple(x[cut] for x in self.epoch(epoch)))
            epoch += 1
        if not parts:
            return np.zeros((0, self._group_size), int), np.zeros((0, self._group_size), bool)
        pairs, swapped = zip(*parts, strict=True)
        return np.concatenate(pairs), np.concatenate(swapped)


def mixed(weights: np.ndarray, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Elements begin to end - 1 of the endless stream that mixes sources evenly by weight.

    Draw n of a source is due at (n + 1/2) / weight; draws follow one another as they are due.

    Args:
      weights: of each source, positive, sum 1.
      begin: first position, from 0.
      end: behind the last one.

    Returns:
      (source, number of the draw from it) of each position, both int [end - begin].
    """
    count = len(weights)
    # Until time t a source is drawn round(t weight) times, so positions are at most count/2 off.
    early = np.maximum(np.ceil((begin - count) * weights - 0.5), 0).astype(np.int64)
    late = np.ceil((end + count) * weights).astype(np.int64) + 1
    source = np.repeat(np.arange(count), late - early)
    draw = np.concatenate([np.arange(a, b) for a, b in zip(early, late, strict=True)])
    order = np.lexsort((source, (draw + 0.5) / weights[source]))
    kept = order[begin - early.sum() : end - early.sum()]
    return source[kept], draw[kept]


class Sampler:
    """Global batches by step; see the module."""

    def __init__(
        self,
        index: PairIndex,
        sources: Sequence[Source],
        num_groups: int,
        group_size: int,
        swap: bool,
        seed: int,
    ):
        """Plans nothing yet.

        Args:
          index: all pairs.
          sources: what is drawn from, without repetitions.
          num_groups: groups (with group_size 1: pairs) in a global batch, G.
          group_size: most pairs of a group, g. Weights are shares of pairs all the same.
          swap: pairs may be turned round.
          seed: of order, grouping and orientation.
        """
        self._bucket, self._num_groups, self._seed = index.bucket, num_groups, seed
        self._passes = [
            _Passes(index, source.members, group_size, swap, [seed, 1, k])
            for k, source in enumerate(sources)
        ]
        units = np.array([len(p.epoch(0)[0]) for p in self._passes])
        pairs = np.array([len(source.members) for source in sources])
        weights = np.array([source.weight for source in sources]) * units / pairs
        self._weights = weights / weights.sum()
        self.steps_per_window = -(-int(units.sum()) // num_groups)
        self._window = functools.lru_cache(_CACHED)(self._plan)
        self._planning = threading.Lock()

    def _stream(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs and orientations of a piece of the mixed stream of units."""
        source, draw = mixed(self._weights, begin, end)
        pairs: np.ndarray | None = None
        for k, passes in enumerate(self._passes):
            mine = np.flatnonzero(source == k)
            low, high = (draw[mine[0]], draw[mine[-1]] + 1) if len(mine) else (0, 0)
            found, turned = passes.units(low, high)
            if pairs is None:
                pairs = np.empty((end - begin, found.shape[1]), np.int64)
                swapped = np.empty(pairs.shape, bool)
            pairs[mine], swapped[mine] = found, turned
        return pairs, swapped

    def _plan(self, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(bucket [W], pairs [W, G, g], swapped [W, G, g]) of a window's batches."""
        size, steps = self._num_groups, self.steps_per_window
        begin = window * steps * size
        pairs, swapped = self._stream(begin, begin + steps * size)
        bucket = np.where(pairs >= 0, self._bucket[pairs], -1).max(1)
        queues, rest = [], np.zeros(0, np.int64)
        for b in np.unique(bucket):
            # What does not fill a batch goes with the next larger bucket, whose shapes hold it.
            queue = np.sort(np.concatenate([rest, np.flatnonzero(bucket == b)]))
            full = len(queue) - len(queue) % size
            queues.extend((b, rows) for rows in queue[:full].reshape(-1, size))
            rest = queue[full:]
        # Buckets come in a random order, the batches of one in that of the stream.
        kinds = np.array([b for b, _ in queues])
        rng = np.random.default_rng([self._seed, 2, window])
        places = np.argsort(rng.permutation(kinds), kind="stable")
        rows = np.empty((steps, size), np.int64)
        rows[places] = [r for _, r in queues]
        ordered = np.empty(steps, np.int64)
        ordered[places] = kinds
        return ordered, pairs[rows], swapped[rows]

    def draw(self, step: int) -> Draw:
        """The batch of a step, from 0. Threads may call it at once."""
        window, place = divmod(step, self.steps_per_window)
        # Planning keeps where epochs start, and is long: one thread does it, and others wait.
        with self._planning:
            bucket, pairs, swapped = self._window(window)
        return Draw(int(bucket[place]), pairs[place], swapped[place])
