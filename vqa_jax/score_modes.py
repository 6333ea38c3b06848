"""Ways to score videos against anchors: every anchor, a few, both orders, or the authors' rule.

The default compares a video with every anchor, the anchor first, and solves exactly (METHOD 8).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vqa_jax import metrics, thurstone
from vqa_jax.anchors import Scale, Score
from vqa_jax.levels import preference
from vqa_jax.scoring import EncodedVideo

PROTOCOLS = ("map", "w2s")
W2S_TAU = 5.0  # of test videos; between anchors it is 1 (METHOD 8)
_W2S_STEPS = 50
_W2S_RATE = 0.1  # our choice: METHOD 8 tells the steps, not their rate
EPSILON = 0.12  # of the adaptive mode; measured, see the README


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """How videos are scored.

    Attributes:
      epsilon: > 0: adaptive. Start at the middle anchor, go on with the one next to the estimate,
        stop when a comparison moved q by less than this; 0 compares with all.
      both_orders: also show the video first, and average: twice the comparisons, none cached.
      protocol: "map", or "w2s" for the authors' rule (`w2s_scores`), for comparison only.
      seed: of w2s's random start.
    """

    epsilon: float = 0.0
    both_orders: bool = False
    protocol: str = "map"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r}: one of {', '.join(PROTOCOLS)}")
        if self.epsilon < 0:
            raise ValueError(f"epsilon {self.epsilon} is negative")
        if (self.epsilon > 0) + self.both_orders + (self.protocol == "w2s") > 1:
            raise ValueError("adaptive, both orders and w2s exclude one another: choose one")


@dataclasses.dataclass(frozen=True)
class Scored:
    """A video's score and how it came about.

    Attributes:
      score: the score.
      comparisons: pairs that the student judged.
      contradictions: share of the anchors about which both orders disagree; None: one order.
    """

    score: Score
    comparisons: int
    contradictions: float | None = None


def score_videos(
    scale: Scale, videos: Sequence[EncodedVideo], config: ScoreConfig | None = None
) -> list[Scored]:
    """Scores videos together, in order."""
    config = config or ScoreConfig()
    if not videos:
        return []
    count = len(scale.anchors.names)
    if config.epsilon > 0:
        probs, seen = adaptive(scale, videos, config.epsilon)
        return [
            Scored(score, int(row.sum()))
            for score, row in zip(scale.solve(probs, seen), seen, strict=True)
        ]
    if config.both_orders:
        probs, disagree = scale.both_orders(videos)
        return [
            Scored(score, 2 * count, float(row.mean()))
            for score, row in zip(scale.solve(probs), disagree, strict=True)
        ]
    logits = scale.logits(videos)
    if config.protocol == "w2s":
        values = w2s_scores(preference(logits, W2S_TAU), scale.matrix, config.seed)
        nan = float("nan")
        return [Scored(Score(float(v), nan, nan, nan, False), count) for v in values]
    return [Scored(score, count) for score in scale.solve(scale.preferences(logits))]


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


def w2s_scores(probabilities: np.ndarray, anchor_matrix: np.ndarray, seed: int = 0) -> np.ndarray:
    """The authors' rule: 50 Adam steps from a random start, sigmoid link, min-max scaling.

    Not converged, and every video above all anchors gets exactly 100: for comparison with published
    numbers only.

    Args:
      probabilities: [n, A] that the video is preferred to each anchor, at tau 5.
      anchor_matrix: [A, A] probability that anchor i is preferred to j, at tau 1.
      seed: of the start, the same for every video.

    Returns:
      float64 [n] in 0..100.
    """
    matrix = jnp.asarray(thurstone.preference_matrix(probabilities, anchor_matrix), jnp.float32)
    start = np.random.default_rng(seed).normal(size=matrix.shape[-1])
    q = jnp.broadcast_to(jnp.asarray(start, jnp.float32), matrix.shape[:-1])
    optimizer = optax.adam(_W2S_RATE)

    def loss(q: jax.Array) -> jax.Array:
        gap = q[:, :, None] - q[:, None, :]
        return 0.5 * (q**2).sum() - (matrix * jax.nn.log_sigmoid(gap)).sum()

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        q, state = carry
        updates, state = optimizer.update(jax.grad(loss)(q), state)
        return (optax.apply_updates(q, updates), state), None

    (q, _), _ = jax.lax.scan(step, (q, optimizer.init(q)), None, length=_W2S_STEPS)
    return thurstone.minmax_score(np.asarray(q, np.float64))
