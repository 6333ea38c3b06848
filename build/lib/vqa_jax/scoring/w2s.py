"""The authors' rule of scoring, kept for comparison with published numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vqa_jax.scoring import thurstone

TAU = 5.0  # temperature of test videos; between anchors it is 1 (method 8)
_STEPS = 50
_RATE = 0.1  # our choice: method 8 tells the steps, not their rate


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
    optimizer = optax.adam(_RATE)

    def loss(q: jax.Array) -> jax.Array:
        gap = q[:, :, None] - q[:, None, :]
        return 0.5 * (q**2).sum() - (matrix * jax.nn.log_sigmoid(gap)).sum()

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        q, state = carry
        updates, state = optimizer.update(jax.grad(loss)(q), state)
        return (optax.apply_updates(q, updates), state), None

    (q, _), _ = jax.lax.scan(step, (q, optimizer.init(q)), None, length=_STEPS)
    return thurstone.minmax_score(np.asarray(q, np.float64))
