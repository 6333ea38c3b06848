"""Ways to score videos against anchors: every anchor, a few, both orders, or the authors' rule.

The default compares a video with every anchor, the anchor first, and solves exactly (method 8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vqa_jax.benchmarks import metrics
from vqa_jax.scoring.engine import EncodedVideo
from vqa_jax.scoring.scale import Scale

W2S_TAU = 5.0  # of test videos; between anchors it is 1 (method 8)


def adaptive(
    scale: Scale, videos: Sequence[EncodedVideo], epsilon: float, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compares each video with as few anchors as its estimate needs; all videos go in rounds.

    Args:
      scale: anchors and student.
      videos: to be scored.
      epsilon: a comparison that moves q by less is a video's last.
      most: comparisons a video at most; default: all anchors.

    Returns:
      (probabilities [n, A], bool [n, A] of the comparisons that were made).
    """

    def ask(picked: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return scale.against([(int(a), videos[i]) for a, i in zip(picked, rows, strict=True)])

    return _rounds(scale, ask, len(videos), epsilon, most)


def _rounds(
    scale: Scale,
    ask: Callable[[np.ndarray, np.ndarray], np.ndarray],
    videos: int,
    epsilon: float,
    most: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`adaptive`; ask(anchors, videos), both by index, gives their probabilities."""
    anchor_q = scale.anchor_q
    rank = np.argsort(anchor_q)
    count = len(anchor_q)
    probs = np.full((videos, count), 0.5)
    seen = np.zeros(probs.shape, bool)
    active, q = np.arange(videos), np.zeros(videos)
    for turn in range(count if most is None else most):
        if turn == 0:
            picked = np.full(len(active), rank[count // 2])
        else:
            distance = np.abs(q[active, None] - anchor_q)
            picked = np.where(seen[active], np.inf, distance).argmin(axis=1)
        probs[active, picked] = ask(picked, active)
        seen[active, picked] = True
        new = scale.solve_q(probs[active], seen[active])[0]
        moved = np.abs(new - q[active])
        q[active] = new
        active = active[moved >= epsilon]
        if not len(active):
            break
    return probs, seen


def comparisons_table(
    scale: Scale,
    videos: Sequence[EncodedVideo],
    labels: Sequence[float] | np.ndarray,
    epsilons: Sequence[float] = (),
) -> list[dict[str, float]]:
    """What k = 1..A comparisons a video give, and adaptive modes, on a labelled set.

    Every anchor is asked once; the modes then see the answers that they would ask for.

    Args:
      scale: anchors and student.
      videos: to be scored.
      labels: quality of each, higher is better.
      epsilons: of the adaptive modes.

    Returns:
      A row a k, then one an epsilon: {"epsilon" (0 for the former), "comparisons" (mean), "srcc"
      (with the labels), "srcc_full" (with all anchors' scores)}.
    """
    count = len(scale.anchor_q)
    answers = scale.preferences(scale.logits(videos))

    def ask(picked: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return answers[rows, picked]

    full = scale.solve_q(answers)[0]
    modes = [(0.0, k) for k in range(1, count + 1)] + [(epsilon, count) for epsilon in epsilons]
    table = []
    for epsilon, most in modes:
        probs, seen = _rounds(scale, ask, len(videos), epsilon, most)
        q = scale.solve_q(probs, seen)[0]
        table.append(
            {
                "epsilon": epsilon,
                "comparisons": float(seen.sum(axis=1).mean()),
                "srcc": metrics.correlate(q, labels, ("srcc",))["srcc"],
                "srcc_full": metrics.correlate(q, full, ("srcc",))["srcc"],
            }
        )
    return table
