"""gMAD pairs: where student and weak model disagree most (Ma et al. 2018; method 7b)."""

from __future__ import annotations

import collections
import dataclasses
import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from vqa_jax.pairs.table import STUDENT, order_key


@dataclasses.dataclass(frozen=True)
class GmadPair:
    """Two videos that one model tells apart and the other does not.

    Attributes:
      first_id: key of one video; the order says nothing about quality.
      second_id: key of the other.
      attacker: model that tells them apart, "student" or "weak".
      bin: quality bin of the other model, 0 = worst.
      gap: difference of the attacker's scores, > 0.
      weak: name of the weak model.
    """

    first_id: str
    second_id: str
    attacker: str
    bin: int
    gap: float
    weak: str = ""


def gmad_pairs(
    student_scores: Sequence[float] | np.ndarray,
    weak_scores: Sequence[float] | np.ndarray,
    ids: Sequence[str],
    quota: int,
    num_bins: int = 20,
    max_per_video: int = 8,
    xi: tuple[float | None, float | None] = (None, None),
    exclude: Collection[frozenset[str]] = (),
    uses: Mapping[str, int] | None = None,
    weak_name: str = "",
) -> list[GmadPair]:
    """Pairs on which student and weak model disagree most (gMAD, Ma et al. 2018; method 7b).

    The defender's scores are cut into uniform bins between their 1st and 99th percentile (videos
    outside are left out); inside a bin the pairs that the attacker tells apart most come first,
    equal gaps by key hash, and a video serves at most `max_per_video` times in all. The bins take
    turns, so that every quality is attacked. First the student attacks, then the weak model; each
    gets half of the quota (the student the odd one).

    Cost: O(N log N) sorting plus O(log N) for each pair looked at; a `xi` below the bin width may
    make it look at many pairs in vain.

    Args:
      student_scores: [N], higher is better.
      weak_scores: [N], higher is better; any scale of its own.
      ids: [N] unique keys.
      quota: wanted number of pairs.
      num_bins: number of bins.
      max_per_video: how often a video may occur.
      xi: largest difference of the defender's scores for (student attacks, weak attacks), in the
        defender's units; None = the bin width.
      exclude: pairs that are not wanted, in either order.
      uses: how often videos have served already; counts towards `max_per_video`.
      weak_name: name of the weak model.

    Returns:
      At most `quota` pairs; the order inside a pair is chosen by hash.
    """
    student = np.asarray(student_scores, np.float64)
    weak = np.asarray(weak_scores, np.float64)
    if student.shape != (len(ids),) or weak.shape != (len(ids),) or len(set(ids)) != len(ids):
        raise ValueError(f"{student.shape} and {weak.shape} scores for {len(set(ids))} unique keys")
    if quota < 0 or num_bins < 1 or max_per_video < 1:
        raise ValueError("quota must be >= 0, num_bins and max_per_video >= 1")
    hashes = np.array([order_key(x) for x in ids])
    used = uses or {}
    left = max_per_video - np.array([used.get(key, 0) for key in ids], np.int64)
    row = {key: i for i, key in enumerate(ids)}
    taken = {
        (min(row[a], row[b]), max(row[a], row[b])) for a, b in exclude if a in row and b in row
    }
    pairs: list[GmadPair] = []
    roles = (
        (STUDENT, student, weak, (quota + 1) // 2, xi[0]),
        ("weak", weak, student, quota // 2, xi[1]),
    )
    for name, attacker, defender, count, limit in roles:
        bins, width = quality_bins(defender, num_bins)
        usable = np.isfinite(attacker) & (bins >= 0)
        limit = width if limit is None else limit
        queues = []
        for b in range(num_bins):
            members = np.flatnonzero(usable & (bins == b))
            members = members[np.lexsort((hashes[members], attacker[members]))]
            queues.append(_gaps(members, attacker, defender, limit, left, taken))
        # A video is in one bin only, so bins do not compete for it and may simply take turns.
        active = list(range(num_bins))
        while active and count > 0:
            found = []
            for b in list(active):
                pair = next(queues[b], None)
                if pair is None:
                    active.remove(b)
                    continue
                i, j = pair
                found.append((float(attacker[j] - attacker[i]), b, i, j))
            found.sort(key=lambda x: (-x[0], x[1]))
            for gap, b, i, j in found[:count]:
                taken.add((min(i, j), max(i, j)))
                left[[i, j]] -= 1
                a, c = (i, j) if order_key(ids[i], ids[j]) < order_key(ids[j], ids[i]) else (j, i)
                pairs.append(GmadPair(ids[a], ids[c], name, b, gap, weak_name))
            count -= len(found)
    return pairs


def against_all(
    student_scores: np.ndarray,
    weak_scores: np.ndarray,
    names: Sequence[str],
    ids: Sequence[str],
    quota: int,
    num_bins: int = 20,
    max_per_video: int = 8,
    xi: float = 1.0,
    exclude: Collection[frozenset[str]] = (),
) -> list[GmadPair]:
    """gMAD pairs of the student against every weak model, in both roles.

    The couples share the quota equally; what one cannot fill is shared by those after it. A pair
    occurs once, and a video serves at most `max_per_video` times, over all couples.

    Args:
      student_scores: [N], higher is better.
      weak_scores: [N, models], higher is better; NaN where one is missing.
      names: [models] of the weak models.
      ids: [N] unique keys.
      quota: wanted number of pairs.
      num_bins, max_per_video, exclude: as `gmad_pairs`.
      xi: largest difference of the defender's scores, in its bin widths.
    """
    taken, found = set(exclude), []
    uses: collections.Counter[str] = collections.Counter()
    for k, name in enumerate(names):
        share = -(-(quota - len(found)) // (len(names) - k))
        weak = weak_scores[:, k]
        widths = (quality_bins(weak, num_bins)[1], quality_bins(student_scores, num_bins)[1])
        pairs = gmad_pairs(
            student_scores,
            weak,
            ids,
            share,
            num_bins,
            max_per_video,
            (xi * widths[0], xi * widths[1]),
            taken,
            uses,
            name,
        )
        for pair in pairs:
            taken.add(frozenset((pair.first_id, pair.second_id)))
            uses.update((pair.first_id, pair.second_id))
        found.extend(pairs)
    return found


def at_random(
    found: Sequence[GmadPair],
    student_scores: np.ndarray,
    ids: Sequence[str],
    exclude: Collection[frozenset[str]],
    seed: int,
) -> list[GmadPair]:
    """As many pairs, drawn at random from the pool: the control of what hard pairs are worth.

    Args:
      found: pairs whose places they take.
      student_scores: [N]; NaN where a video cannot be used.
      ids: [N] unique keys.
      exclude: pairs that are not wanted, in either order.
      seed: of the draw.
    """
    usable, taken = np.flatnonzero(np.isfinite(student_scores)), set(exclude)
    rng, drawn = np.random.default_rng(seed), []
    tries = iter(range(100 * len(found)))  # a pool has many more pairs than are wanted
    while len(drawn) < len(found) and next(tries, None) is not None and len(usable) > 1:
        i, j = rng.choice(usable, 2, replace=False).tolist()
        if (pair := frozenset((ids[i], ids[j]))) not in taken:
            taken.add(pair)
            gap = float(abs(student_scores[i] - student_scores[j]))
            place = found[len(drawn)]
            drawn.append(
                dataclasses.replace(place, first_id=ids[i], second_id=ids[j], bin=-1, gap=gap)
            )
    return drawn


def quality_bins(scores: np.ndarray, num_bins: int = 20) -> tuple[np.ndarray, float]:
    """Uniform bins between the 1st and 99th percentile.

    Returns:
      (bin of each score int [N], -1 for outside and not finite; bin width). If all scores are
      equal they share bin 0 of width 0.
    """
    scores = np.asarray(scores, np.float64)
    finite = np.isfinite(scores)
    bins = np.full(len(scores), -1)
    if not finite.any():
        return bins, 0.0
    low, high = np.percentile(scores[finite], [1, 99])
    width = (high - low) / num_bins
    inside = finite & (scores >= low) & (scores <= high)
    if width > 0:
        bins[inside] = np.minimum((scores[inside] - low) / width, num_bins - 1).astype(int)
    else:
        bins[inside] = 0
    return bins, float(width)


def _gaps(
    members: np.ndarray,
    attacker: np.ndarray,
    defender: np.ndarray,
    limit: float,
    left: np.ndarray,
    taken: set[tuple[int, int]],
) -> Iterator[tuple[int, int]]:
    """Allowed pairs (low, high) of one bin, largest gap of the attacker first.

    `members` are sorted by the attacker's score, then hash. Row `a` of the heap stands for pairs
    of `members[a]` with partners from the top downwards; a row opens when the one below it has
    shown its best pair, which is at least as wide. `left` and `taken` change between two calls.
    """
    n = len(members)
    if n < 2:
        return
    below = np.arange(n)  # below[b]: the highest position <= b that may still be used

    def usable(b: int) -> int:
        path = []
        while b >= 0 and left[members[b]] <= 0:
            path.append(b)
            b = int(below[b]) if below[b] < b else b - 1
        for p in path:
            below[p] = b
        return b

    def entry(a: int, b: int) -> tuple[float, int, int]:
        return (-float(attacker[members[b]] - attacker[members[a]]), a, -b)

    heap: list[tuple[float, int, int]] = [entry(0, n - 1)]
    opened = 0
    while heap:
        negative_gap, a, b = heapq.heappop(heap)
        b = -b
        if negative_gap >= 0:
            return
        if a == opened and opened + 1 < n - 1:
            opened += 1
            heapq.heappush(heap, entry(opened, n - 1))
        i = int(members[a])
        if left[i] <= 0:
            continue
        reachable = usable(b)
        if reachable == b:
            j = int(members[b])
            close = abs(defender[i] - defender[j]) <= limit
            if close and (min(i, j), max(i, j)) not in taken:
                yield i, j
            reachable = usable(b - 1)
        if reachable > a:
            heapq.heappush(heap, entry(a, reachable))
