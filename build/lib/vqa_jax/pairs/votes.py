"""Pairs of different videos that teachers label (method 3.1): drawn uniformly label by label.

Drawing pairs at random and keeping those of a wanted label fails where a label is rare. Here the
videos are sorted by mean score, so that the partners of a video that can give a label are a
range, found by bisection; a pair is drawn from the union of these ranges and kept if its label is
as wanted. Every pair of a label is equally likely, and hundreds of thousands take seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from vqa_jax.pairs import levels
from vqa_jax.pairs.table import TEACHERS, PairTable, directions, generator, label_quota

_KINDS = (("similar", "similar"), ("worse", "better"), ("inferior", "superior"))
_SIMILAR = levels.level_index("similar")
_STD_CLASSES = 16  # partners are grouped by deviation: narrow classes make narrow ranges
_ENUMERATE_BELOW = 2_000_000  # candidates; a larger union of ranges is drawn from at random
_BATCH = 1_000_000  # most candidates looked at together
_MAX_CANDIDATES = 200_000_000  # looked at before a label is given up as too rare
_SLACK = 1e-9  # of s_D: nearer to a bound than this is on it; ranges are wider by it


def sample_teacher_pairs(
    scores: np.ndarray,
    ids: Sequence[str],
    wanted: int | Mapping[str, float],
    seed: int,
    std_floor: float = 0.0,
    min_teachers: int | None = None,
    families: Sequence[str] | None = None,
) -> PairTable:
    """Draw pairs of different videos and label them by the teachers (method 3.1).

    Args:
      scores: [videos, teachers] on one scale, higher is better; NaN where one is missing.
      ids: [videos] unique keys.
      wanted: number of each label, see `table.label_quota`. Fewer come back, with a warning, when
        the pool does not hold more; then both directions are cut in proportion.
      seed: of the draw.
      std_floor: lowest s_D, see `levels.teacher_margin`.
      min_teachers: videos with fewer scores are left out; None = all teachers must have scored.
      families: [videos] names; two videos of one family are not paired. For versions of one
        segment, whose order the simulators know better. None = every video by itself.

    Returns:
      Pairs in a shuffled order; no video is paired with itself, no pair occurs twice, not even in
      the other order, and a pair exactly on the bound of two levels, whose label would depend on
      the order, is left out. The better video is second as often as the wanted numbers say; in
      half of the `similar` pairs.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or len(scores) != len(ids) or len(set(ids)) != len(ids):
        raise ValueError(f"{scores.shape} scores do not fit {len(set(ids))} unique keys")
    if scores.shape[1] == 0:
        raise ValueError("no teacher: name at least one")
    present = np.isfinite(scores)
    needed = scores.shape[1] if min_teachers is None else max(1, min_teachers)
    keep = np.flatnonzero(present.sum(axis=1) >= needed)
    scores, present = scores[keep], present[keep]
    counts = np.maximum(present.sum(axis=1), 1)
    mean = np.where(present, scores, 0).sum(axis=1) / counts
    spread = np.where(present, scores - mean[:, None], 0)
    std = np.sqrt((spread**2).sum(axis=1) / counts)
    keys = np.array(ids, object)[keep]
    groups = None if families is None else np.array(families, object)[keep]
    return sample_scored_pairs(mean, std, keys, wanted, seed, std_floor, groups)


def sample_scored_pairs(
    mean: np.ndarray,
    std: np.ndarray,
    ids: Sequence[str] | np.ndarray,
    wanted: int | Mapping[str, float],
    seed: int,
    std_floor: float = 0.0,
    families: Sequence[str] | np.ndarray | None = None,
    source: str = TEACHERS,
) -> PairTable:
    """As `sample_teacher_pairs`, of videos whose mean scores and their deviations are known.

    Args:
      mean: [videos] finite, higher is better.
      std: [videos] finite; s_D = sqrt(s_A^2 + s_B^2).
      ids: [videos] unique keys.
      wanted, seed, std_floor, families: see `sample_teacher_pairs`.
      source: the pairs' `label_source`.
    """
    quota = label_quota(wanted, levels.LEVELS)
    pool = _Pool.build(mean, std, ids, std_floor, families)
    rng = generator(seed, "teacher pairs")
    lows, highs, ups, labels = [], [], [], []
    for kind, (down, up) in enumerate(_KINDS):
        halves = (quota[down], quota[up]) if down != up else (quota[up] // 2, -(-quota[up] // 2))
        low, high = pool.draw(kind, sum(halves), rng)
        if len(low) < sum(halves):
            logging.warning("%d of %d wanted %s/%s pairs exist", len(low), sum(halves), down, up)
        rise = directions(len(low), *halves, rng)
        lows.append(low)
        highs.append(high)
        ups.append(rise)
        labels.append(np.where(rise, levels.level_index(up), levels.level_index(down)))
    order = rng.permutation(sum(map(len, lows)))
    low, high, rise, label = (np.concatenate(x)[order] for x in (lows, highs, ups, labels))
    first, second = np.where(rise, low, high), np.where(rise, high, low)
    margin = pool.mean[second] - pool.mean[first]
    deviation = pool.deviation(first, second)
    return PairTable(
        first_id=pool.keys[first],
        second_id=pool.keys[second],
        label=label.astype(np.int8),
        label_source=np.full(len(first), source, object),
        margin=margin,
        normalized_margin=np.divide(
            margin, deviation, out=np.zeros_like(margin), where=deviation > 0
        ),
        first_mean=pool.mean[first],
        first_std=pool.std[first],
        second_mean=pool.mean[second],
        second_std=pool.std[second],
    )


@dataclasses.dataclass(frozen=True)
class _Pool:
    """Videos that may be paired, sorted by mean score (equal ones by key).

    Attributes:
      keys: object [n].
      mean: [n], rising.
      std: [n], population standard deviation over teachers.
      family: int [n].
      floor: lowest s_D.
      classes: positions of the videos in each class of similar deviation, rising.
    """

    keys: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    family: np.ndarray
    floor: float
    classes: tuple[np.ndarray, ...]

    @classmethod
    def build(
        cls,
        mean: np.ndarray,
        std: np.ndarray,
        ids: Sequence[str] | np.ndarray,
        floor: float,
        families: Sequence[str] | np.ndarray | None,
    ) -> _Pool:
        keys = np.array(ids, object)
        by_key = np.argsort(keys, kind="stable")
        keys, mean, std = keys[by_key], mean[by_key], std[by_key]
        family = np.arange(len(keys))
        if families is not None:
            family = np.unique(np.array(families, object)[by_key], return_inverse=True)[1]
        order = np.argsort(mean, kind="stable")
        mean, std = mean[order], std[order]
        by_std = np.argsort(std, kind="stable")
        classes = np.array_split(by_std, min(_STD_CLASSES, max(len(by_std), 1)))
        return cls(
            keys=keys[order],
            mean=mean,
            std=std,
            family=family[order],
            floor=floor,
            classes=tuple(np.sort(members) for members in classes),
        )

    def deviation(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """s_D [m] of pairs given by position."""
        return np.maximum(np.hypot(self.std[first], self.std[second]), self.floor)

    def is_kind(self, kind: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Whether pairs (low, high) by position have the kind, an index of `_KINDS`, bool [m].

        None has a kind on a bound, where the label depends on the order (or, within `_SLACK`, on
        rounding), or inside a family.
        """
        gap = self.mean[high] - self.mean[low]
        s = self.deviation(low, high)
        found = levels.levels_from_margins(gap, s) - _SIMILAR  # the gap is never negative
        off_bound = np.minimum(np.abs(gap - s), 0.5 * np.abs(gap - 2 * s))
        on_bound = (gap > 0) & (off_bound <= _SLACK * s)
        return (found == kind) & ~on_bound & (self.family[low] != self.family[high])

    def ranges(self, kind: int) -> tuple[np.ndarray, np.ndarray]:
        """Partners that can give the kind: (start, length) int [classes, n] within each class.

        A class's deviations bound s_D from both sides, and with it the partner's mean score.
        """
        positions = np.arange(len(self.mean))
        starts, lengths = [], []
        for members in self.classes:
            means = self.mean[members]
            narrow, wide = self.std[members].min(initial=np.inf), self.std[members].max(initial=0)
            least = np.maximum(np.hypot(self.std, narrow), self.floor) * (1 - _SLACK)
            most = np.maximum(np.hypot(self.std, wide), self.floor) * (1 + _SLACK)
            start = np.searchsorted(members, positions, "right")  # above the video itself
            if kind > 0:
                start = np.maximum(start, np.searchsorted(means, self.mean + kind * least, "left"))
            end = np.full(len(self.mean), len(members))
            if kind < 2:
                end = np.searchsorted(means, self.mean + (kind + 1) * most, "right")
            starts.append(start)
            lengths.append(np.maximum(end - start, 0))
        return np.stack(starts), np.stack(lengths)

    def draw(
        self, kind: int, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """At most `count` different pairs (low, high) by position, each equally likely."""
        starts, lengths = self.ranges(kind)
        ends = np.cumsum(lengths.ravel())
        total = int(ends[-1]) if len(ends) else 0
        n = len(self.mean)
        members = np.concatenate(self.classes)
        offsets = np.cumsum([0, *map(len, self.classes[:-1])])
        base = (starts + offsets[:, None]).ravel() - (ends - lengths.ravel())

        def codes(candidates: np.ndarray) -> np.ndarray:
            """Pairs low * n + high of those candidates (0..total - 1) that have the kind."""
            cell = np.searchsorted(ends, candidates, "right")
            low, high = cell % n, members[base[cell] + candidates]
            good = self.is_kind(kind, low, high)
            return low[good] * n + high[good]

        if count == 0 or total == 0:
            found = np.zeros(0, np.int64)
        elif total <= _ENUMERATE_BELOW:
            found = codes(np.arange(total))
            found = found[rng.permutation(len(found))]
        else:
            found = np.zeros(0, np.int64)
            looked, yielded = 0, 0
            while len(found) < count and looked < _MAX_CANDIDATES:
                share = max(yielded / looked, 1e-3) if looked else 0.5
                size = int(min(_BATCH, 1000 + 1.1 * (count - len(found)) / share))
                fresh = codes(rng.integers(0, total, size))
                looked, yielded = looked + size, yielded + len(fresh)
                found = np.concatenate([found, fresh])
                found = found[np.sort(np.unique(found, return_index=True)[1])]
        found = found[:count]
        return found // n if n else found, found % n if n else found
