"""Which pairs are made, and what they are called: pure functions over tables (METHOD 3 and 7a).

Everything is a function of its arguments and a seed; the order of the inputs does not matter.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from vqa_jax import levels

SIMULATOR = "simulator"
TEACHERS = "teachers"
STUDENT = "student"

_ENUMERATE_BELOW = 2_000_000  # pairs; larger pools are drawn from at random
_MAX_DRAWS = 200  # random batches before a quota is given up


@dataclasses.dataclass(frozen=True)
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


def key_hash(*keys: str) -> str:
    """Hash that orders keys without regard to how they are listed."""
    return hashlib.sha256("\0".join(keys).encode()).hexdigest()


def _rng(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, int(key_hash(purpose)[:8], 16)])


def _quota(num_per_label: int | Mapping[str, int], allowed: Iterable[str]) -> dict[str, int]:
    if isinstance(num_per_label, int):
        num_per_label = dict.fromkeys(allowed, num_per_label)
    for label, count in num_per_label.items():
        levels.level_index(label)
        if count < 0:
            raise ValueError(f"number of {label!r} pairs is negative")
        if count and label not in allowed:
            raise ValueError(f"no such pair can be {label!r}")
    return {label: num_per_label.get(label, 0) for label in levels.LEVELS}


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


def _sorted_levels(group: SimulatedSet) -> list[int]:
    numbers = sorted(number for number, _ in group.video_ids)
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"{group.source_id} {group.simulator}: a severity number occurs twice")
    return numbers


def all_simulator_pairs(table: Sequence[SimulatedSet], seed: int = 0) -> list[Pair]:
    """Every pair of different versions once, in an order (A, B) or (B, A) chosen by hash."""
    pairs = []
    for group in sorted(table, key=lambda g: (g.simulator, g.source_id)):
        numbers = _sorted_levels(group)
        for a, i in enumerate(numbers):
            for j in numbers[a + 1 :]:
                key = key_hash(str(seed), group.simulator, group.source_id, str(i), str(j))
                i_first = int(key[0], 16) % 2
                pairs.append(simulator_pair(group, *((i, j) if i_first else (j, i))))
    return pairs


def sample_simulator_pairs(
    table: Sequence[SimulatedSet], num_per_label: int | Mapping[str, int], seed: int
) -> list[Pair]:
    """Draw pairs of versions of the same source and simulator (METHOD 3.2).

    The simulators take turns, so each is equally frequent as long as it has pairs left; no pair
    is drawn twice, not even in the other order.

    Args:
      table: what there is; `video_ids` holds the effective levels only.
      num_per_label: wanted number of each label (one number for all four, or by label; simulator
        pairs are never `similar`). Fewer come back when the table has fewer.
      seed: of the draw.

    Returns:
      Pairs in a shuffled order.
    """
    allowed = [x for x in levels.LEVELS if x != "similar"]
    quota = _quota(num_per_label, allowed)
    rng = _rng(seed, "simulator pairs")
    near: dict[str, list[tuple[SimulatedSet, int, int]]] = {}
    far: dict[str, list[tuple[SimulatedSet, int, int]]] = {}
    for group in sorted(table, key=lambda g: (g.simulator, g.source_id)):
        numbers = _sorted_levels(group)
        for a, mild in enumerate(numbers):
            for severe in numbers[a + 1 :]:
                kind = near if severe - mild == 1 else far
                kind.setdefault(group.simulator, []).append((group, mild, severe))
    pairs = []
    for kind, down, up in ((near, "worse", "better"), (far, "inferior", "superior")):
        wanted = [down] * quota[down] + [up] * quota[up]
        chosen = list(_take_turns(kind, len(wanted), rng))
        # A short table gives both directions their share, so draw the labels at random too.
        for (group, mild, severe), k in zip(chosen, rng.permutation(len(wanted)), strict=False):
            first, second = (mild, severe) if wanted[k] == down else (severe, mild)
            pairs.append(simulator_pair(group, first, second))
    return [pairs[k] for k in rng.permutation(len(pairs))]


def _take_turns(candidates: Mapping[str, list], count: int, rng: np.random.Generator) -> Iterator:
    """The first `count` of the lists' shuffled elements, one from each list in turn."""
    queues = [[c[k] for k in rng.permutation(len(c))] for _, c in sorted(candidates.items())]
    turn = 0
    while queues and count > 0:
        queues = [q for q in queues if len(q) > turn]
        for queue in queues[:count]:
            yield queue[turn]
        count -= len(queues)
        turn += 1


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
    wrong = []
    for pair, p in zip(pairs, preference, strict=True):
        if pair.label == "similar":
            raise ValueError(f"{pair.first_id}, {pair.second_id}: a `similar` pair has no order")
        error = (0.5 - p) if pair.label in ("better", "superior") else (p - 0.5)
        if error >= 0:
            wrong.append((-error, key_hash(pair.first_id, pair.second_id), pair))
    wrong.sort(key=lambda x: x[:2])
    return [pair for _, _, pair in wrong[:quota]]


# --- pairs labelled by teachers -------------------------------------------------------------


def sample_teacher_pairs(
    scores: np.ndarray,
    ids: Sequence[str],
    num_per_label: int | Mapping[str, int],
    seed: int,
    std_floor: float = 0.0,
    min_teachers: int | None = None,
) -> list[Pair]:
    """Draw pairs of different videos and label them by the teachers (METHOD 3.1).

    Args:
      scores: [videos, teachers] on one scale, higher is better; NaN where one is missing.
      ids: [videos] unique keys.
      num_per_label: wanted number of each label (one number for all five, or by label). Fewer
        come back when the pool does not hold more, or (in very large pools) when a label is so
        rare that a few hundred random draws do not fill it.
      seed: of the draw.
      std_floor: lowest s_D, see `levels.teacher_margin`.
      min_teachers: videos with fewer scores are left out; None = all teachers must have scored.

    Returns:
      Pairs in a shuffled order; no video is paired with itself, no pair occurs twice, not even in
      the other order, and a pair exactly on the bound of two levels, whose label would depend on
      the order, is left out.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or len(scores) != len(ids) or len(set(ids)) != len(ids):
        raise ValueError(f"{scores.shape} scores do not fit {len(set(ids))} unique keys")
    if scores.shape[1] == 0:
        raise ValueError("no teacher: name at least one")
    quota = _quota(num_per_label, levels.LEVELS)
    present = np.isfinite(scores).sum(axis=1)
    enough = present >= (scores.shape[1] if min_teachers is None else max(1, min_teachers))
    keep = sorted(np.flatnonzero(enough), key=lambda i: ids[i])
    if len(keep) < 2:
        return []
    keys = [ids[i] for i in keep]
    table = np.where(np.isfinite(scores[keep]), scores[keep], np.nan)
    mean, std = np.nanmean(table, axis=1), np.nanstd(table, axis=1)

    rng = _rng(seed, "teacher pairs")
    names = (("similar",), ("worse", "better"), ("inferior", "superior"))
    wanted = [[x for x in kind for _ in range(quota[x])] for kind in names]
    wanted = [[kind[k] for k in rng.permutation(len(kind))] for kind in wanted]
    seen: set[int] = set()
    pairs: list[Pair] = []
    for low, high in _draws(len(keys), rng):
        swap = mean[low] > mean[high]
        low, high = np.where(swap, high, low), np.where(swap, low, high)
        kinds = _label_kind(mean, std, low, high, std_floor)
        for k in np.flatnonzero(np.isin(kinds, [c for c in range(3) if wanted[c]])):
            kind = kinds[k]
            if not wanted[kind]:
                continue
            i, j = int(low[k]), int(high[k])
            code = min(i, j) * len(keys) + max(i, j)
            if code in seen:
                continue
            seen.add(code)
            label = wanted[kind].pop()
            up = bool(rng.integers(2)) if label == "similar" else label in ("better", "superior")
            a, b = (i, j) if up else (j, i)
            pairs.append(
                Pair(
                    keys[a],
                    keys[b],
                    label,
                    TEACHERS,
                    margin=float(mean[b] - mean[a]),
                    first_mean=float(mean[a]),
                    first_std=float(std[a]),
                    second_mean=float(mean[b]),
                    second_std=float(std[b]),
                )
            )
        if not any(wanted):
            break
    return [pairs[k] for k in rng.permutation(len(pairs))]


def _draws(n: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of different pairs (i, j): all once in a small pool, random ones in a large one."""
    if n * (n - 1) // 2 <= _ENUMERATE_BELOW:
        first, second = np.triu_indices(n, 1)
        order = rng.permutation(len(first))
        yield first[order], second[order]
        return
    for _ in range(_MAX_DRAWS):
        first = rng.integers(0, n, 200_000)
        second = (first + rng.integers(1, n, len(first))) % n
        yield first, second


def _label_kind(
    mean: np.ndarray, std: np.ndarray, low: np.ndarray, high: np.ndarray, std_floor: float
) -> np.ndarray:
    """0 similar, 1 better/worse, 2 superior/inferior, -1 on a bound (label depends on order)."""
    gap = mean[high] - mean[low]
    s = np.maximum(np.hypot(std[low], std[high]), std_floor)
    kind = np.where(gap > 2 * s, 2, np.where(gap > s, 1, 0))
    on_bound = (gap > 0) & ((gap == s) | (gap == 2 * s))
    return np.where(on_bound, -1, kind)
