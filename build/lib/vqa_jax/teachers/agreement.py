"""How teachers agree, who is odd, and what their labels are worth (method 3.1).

Works on one set of videos at a time: raw scores of several teachers, and human scores where there
are some. Everything that `describe` returns is plain values, for JSON and for the report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from vqa_jax.pairs.levels import LEVELS, levels_from_margins
from vqa_jax.teachers.scales import unite

METHODS = ("zscore", "rank", "logistic")
KINDS = ("similar", "better/worse", "superior/inferior")
"""Levels by how far apart they put two videos: 0, 1 or 2 steps."""

_ROWS_AT_ONCE = 512  # of the matrix of all pairs
_LOO_PAIRS = 200_000  # random pairs that labels with and without a teacher are compared on
_ODD_GAP = 0.2  # SRCC below the median teacher's from which one is called odd
_MAX_DISPUTED = 20


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredSet:
    """Scores of one set of videos.

    Attributes:
      name: of the set.
      videos: names [V].
      teachers: names [J].
      higher_is_better: [J].
      scores: float64 [V, J], raw, NaN where missing.
      mos: float64 [V] human scores, higher is better, NaN where missing; None without any.
    """

    name: str
    videos: Sequence[str]
    teachers: Sequence[str]
    higher_is_better: Sequence[bool]
    scores: np.ndarray
    mos: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.videos), len(self.teachers))
        if self.scores.shape != shape or len(self.higher_is_better) != shape[1]:
            raise ValueError(f"{self.name}: scores {self.scores.shape} do not fit {shape}")
        if self.mos is not None and self.mos.shape != shape[:1]:
            raise ValueError(f"{self.name}: {self.mos.shape} human scores for {shape[0]} videos")


@dataclasses.dataclass(frozen=True)
class Precision:
    """How often labels of one kind order two videos as people do.

    Both videos of a pair are drawn independently from the set. A pair whose human scores are
    equal has no order to be found and is never right; one in V draws is a video with itself.

    Attributes:
      kind: one of KINDS.
      share: of all pairs.
      right: share whose sign of D is that of the difference of the human scores; NaN without pairs.
      told_apart: the same among pairs with different human scores.
    """

    kind: str
    share: float
    right: float
    told_apart: float


def standardized(scored: ScoredSet, method: str) -> np.ndarray:
    """All teachers on one scale, higher is better: float64 [V, J].

    Args:
      scored: raw scores.
      method: "zscore": mean 0 and deviation 1 over the set; "rank" or "logistic": 0..100, see
        `scales.unite`.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if method != "zscore":
        return unite(scored.scores, method, scored.higher_is_better)[0]
    turned = scored.scores * np.where(np.asarray(scored.higher_is_better, bool), 1.0, -1.0)
    for column in turned.T:
        present = np.isfinite(column)
        if present.any():
            column[present] -= column[present].mean()
            column[present] /= column[present].std() or 1.0
    return turned


def label_precision(
    united: np.ndarray, mos: np.ndarray, std_floor: float = 0.0
) -> tuple[Precision, ...]:
    """Precision of method 3.1's labels by kind, over all pairs of the set: exact, O(V^2) time.

    Args:
      united: [V, J] on one scale, higher is better, complete.
      mos: [V] human scores, higher is better.
      std_floor: lowest s_D, see `levels.teacher_margin`.

    Returns:
      One entry for each of KINDS.
    """
    if not (np.isfinite(united).all() and np.isfinite(mos).all()):
        raise ValueError("scores must be finite; leave out videos that lack some")
    mean, variance = united.mean(axis=1), united.var(axis=1)
    pairs, right, tied = (np.zeros(len(KINDS), np.int64) for _ in range(3))
    for start in range(0, len(mos), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        gap = mean[None] - mean[rows, None]
        deviation = np.sqrt(variance[None] + variance[rows, None])
        deviation = np.maximum(deviation, std_floor)
        human = np.sign(mos[None] - mos[rows, None])
        kind = np.abs(levels_from_margins(gap, deviation).ravel() - 2)
        pairs += np.bincount(kind, minlength=3)
        right += np.bincount(kind[(np.sign(gap) * human > 0).ravel()], minlength=3)
        tied += np.bincount(kind[(human == 0).ravel()], minlength=3)
    with np.errstate(invalid="ignore"):
        shares = (pairs / pairs.sum(), right / pairs, right / (pairs - tied))
    return tuple(
        Precision(kind, *map(float, values))
        for kind, values in zip(KINDS, zip(*shares, strict=True), strict=True)
    )


def agreement(united: np.ndarray) -> np.ndarray:
    """SRCC between teachers on the videos that both have scored: [J, J], NaN below 3 of them."""
    count = united.shape[1]
    matrix = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(i, count):
            matrix[i, j] = matrix[j, i] = _srcc(united[:, i], united[:, j])
    return matrix


def with_the_rest(united: np.ndarray) -> np.ndarray:
    """SRCC of each teacher with the mean of all others: [J], NaN where there are none."""
    found = np.full(united.shape[1], np.nan)
    for j in range(united.shape[1]):
        others = np.delete(united, j, axis=1)
        scored = np.isfinite(others).any(axis=1)
        rest = np.full(len(united), np.nan)
        rest[scored] = np.nanmean(others[scored], axis=1)
        found[j] = _srcc(united[:, j], rest)
    return found


def odd_teachers(rest: np.ndarray) -> np.ndarray:
    """Which teachers disagree with the others, bool [J], from `with_the_rest`.

    Those that do not agree at all, or clearly less than the median teacher. Of two teachers
    nobody can say which is the odd one.
    """
    if len(rest) < 3 or np.isnan(rest).all():
        return np.zeros(len(rest), bool)
    return (rest <= 0) | (rest < np.nanmedian(rest) - _ODD_GAP)


def leave_one_out(
    united: np.ndarray, std_floor: float, seed: int, mos: np.ndarray | None = None
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What each teacher does to the labels of random pairs.

    Args:
      united: [V, J] complete, V >= 2, J >= 2.
      std_floor: lowest s_D. Without one, a pair of teachers less one never says `similar`.
      seed: of the pairs.
      mos: [V] human scores, for the precision without the teacher; None without.

    Returns:
      Shares of the levels by all teachers, and for each teacher: shares of pairs whose label is
      another without it (`changed`) or points the other way (`reversed`), shares of the levels
      without it (`labels`), and `precision`.
    """
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(united), _LOO_PAIRS)
    second = (first + rng.integers(1, len(united), _LOO_PAIRS)) % len(united)

    def label(scores: np.ndarray) -> np.ndarray:
        mean, variance = scores.mean(axis=1), scores.var(axis=1)
        deviation = np.sqrt(variance[first] + variance[second])
        return levels_from_margins(mean[second] - mean[first], np.maximum(deviation, std_floor))

    everyone, found = label(united), []
    for j in range(united.shape[1]):
        others = np.delete(united, j, axis=1)
        without = label(others)
        entry: dict[str, Any] = {
            "changed": float(np.mean(without != everyone)),
            "reversed": float(np.mean((without - 2) * (everyone - 2) < 0)),
            "labels": _level_shares(without),
        }
        if mos is not None:
            entry["precision"] = _plain(label_precision(others, mos, std_floor))
        found.append(entry)
    return _level_shares(everyone), found


def describe(
    scored: ScoredSet, method: str = "zscore", std_floor: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """Everything about one set's teachers, as plain values; NaN becomes None.

    Videos that some teacher (or, for the precision, nobody) has scored are left out of the labels.
    """
    united = standardized(scored, method)
    rest = with_the_rest(united)
    odd = odd_teachers(rest)
    scales = unite(scored.scores, "logistic", scored.higher_is_better)[1]
    complete = np.isfinite(united).all(axis=1)
    told = complete if scored.mos is None else complete & np.isfinite(scored.mos)
    mos = None if scored.mos is None or told.sum() < 2 else scored.mos[told]
    teachers = []
    for j, name in enumerate(scored.teachers):
        human = np.nan if scored.mos is None else _srcc(united[:, j], scored.mos)
        entry = {"name": name, "rest_srcc": rest[j], "odd": bool(odd[j]), "mos_srcc": human}
        teachers.append({**entry, "scale": scales[j].as_json()})
    facts: dict[str, Any] = {
        "name": scored.name,
        "method": method,
        "std_floor": std_floor,
        "videos": len(scored.videos),
        "complete": int(complete.sum()),
        "teachers": teachers,
        "agreement": agreement(united),
        "disputed": _disputed(scored, united),
    }
    if mos is not None:
        facts["with_mos"] = int(told.sum())
        facts["precision"] = _plain(label_precision(united[told], mos, std_floor))
    if complete.sum() >= 2 and len(scored.teachers) >= 2:
        rows = told if mos is not None else complete
        facts["labels"], without = leave_one_out(united[rows], std_floor, seed, mos)
        facts["label_pairs"] = _LOO_PAIRS
        facts["leave_one_out"] = [
            {"teacher": name, **entry} for name, entry in zip(scored.teachers, without, strict=True)
        ]
    return _plain(facts)


def _disputed(scored: ScoredSet, united: np.ndarray) -> list[dict[str, Any]]:
    """The videos that teachers disagree about most, by their deviation on the common scale."""
    several = np.isfinite(united).sum(axis=1) >= 2
    deviation = np.zeros(len(united))
    deviation[several] = np.nanstd(united[several], axis=1)
    order = np.argsort(-deviation, kind="stable")[: min(_MAX_DISPUTED, int(several.sum()))]
    return [
        {
            "video": scored.videos[k],
            "std": deviation[k],
            "scores": dict(zip(scored.teachers, united[k], strict=True)),
        }
        for k in order
    ]


def _srcc(a: np.ndarray, b: np.ndarray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3 or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
        return float("nan")
    return float(stats.spearmanr(a[both], b[both])[0])


def _level_shares(found: np.ndarray) -> dict[str, float]:
    shares = np.bincount(found, minlength=len(LEVELS)) / len(found)
    return dict(zip(LEVELS, shares.tolist(), strict=True))


def _plain(value: Any) -> Any:
    """Values that JSON holds."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
