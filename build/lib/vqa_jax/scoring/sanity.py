"""Whether a student can judge at all, by what it says of its anchors, and where scores end.

A student that was hardly trained answers the same whatever it is shown. Turned round, such answers
cancel: every anchor is preferred to every other in half of the cases, and dividing by the nothing
that is left gives scores of any size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MIN_PREFERENCE = 0.53
"""Some anchor must be preferred to another at least so surely, both orders averaged."""
MAX_CONTRADICTED = 0.5
"""Share of the anchors' pairs about which both orders may disagree without a remark."""
BEYOND = 1.0
"""A score this many ranges of the anchors' scores beyond them is no measurement any more."""


def check(second_wins: np.ndarray, matrix: np.ndarray) -> None:
    """Refuses a student that cannot judge.

    Args:
      second_wins: [A, A], probability that anchor j, shown second, is preferred to anchor i.
      matrix: [A, A], probability that anchor i is preferred to anchor j, of both orders.

    Raises:
      ValueError: its answers are no numbers, or do not tell the anchors apart.
    """
    if not np.isfinite(second_wins).all():
        raise ValueError("the student's answers are no numbers: its weights are damaged")
    surest = float(matrix.max())
    if surest < MIN_PREFERENCE:
        ordered = second_wins[~np.eye(len(second_wins), dtype=bool)]
        whatever = ""
        if contradicted(second_wins) == 1:
            side = "second" if ordered.mean() > 0.5 else "first"
            whatever = f" and always prefers what is shown {side}"
        raise ValueError(
            f"the student does not tell them apart: it prefers none to another with more than "
            f"{surest:.3f}{whatever}. It cannot judge: train it on, or choose other anchors"
        )


def contradicted(second_wins: np.ndarray) -> float:
    """Share 0..1 of the anchors' pairs about which both orders disagree; as in `check`."""
    one, other = np.triu_indices(len(second_wins), 1)
    return float(((second_wins > 0.5) == (second_wins.T > 0.5))[one, other].mean())


def remark(second_wins: np.ndarray) -> str:
    """What every result of the student should tell of it, "" for nothing; as in `check`."""
    share = contradicted(second_wins)
    if share <= MAX_CONTRADICTED:
        return ""
    return (
        f"DOUBTFUL: turned round, the student contradicts itself about {share:.0%} of the anchors'"
        " pairs: ask in both orders (--both_orders), or train it on"
    )


def note(score: float, anchors: Sequence[float]) -> str:
    """What a score far beyond its anchors should tell of itself, "" for nothing.

    Args:
      score: on the anchors' scale.
      anchors: their scores.
    """
    low, high = min(anchors), max(anchors)
    reach = BEYOND * (high - low)
    if low - reach <= score <= high + reach:
        return ""
    side = "better" if score > high else "worse"
    return f"NO MEASUREMENT: {side} than every anchor, too far beyond them for a number"
