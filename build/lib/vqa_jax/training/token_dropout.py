"""Dropout of a frozen tower's numbers: a student that cannot lean on a few of them knows more.

[beyond the paper] Behind a frozen tower a student sees the same numbers of a video at every step,
and learns contents by heart; see Srivastava et al. 2014.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def dropped(frames: jax.Array, mean: jax.Array, rate: float, step: jax.Array) -> jax.Array:
    """Tokens whose numbers are the corpus's mean where chance says so, the others farther from it.

    Args:
      frames: [..., F, P, W] of `CellTower.statistics`; a number is dropped in a whole video.
      mean: [W] over the corpus.
      rate: share that is dropped, in [0, 1).
      step: int [], from which chance follows.

    Returns:
      float32 [..., F, P, W], in the mean over chance what was given.
    """
    key = jax.random.fold_in(jax.random.key(0), step)
    shape = (*frames.shape[:-3], 1, 1, frames.shape[-1])
    kept = jax.random.bernoulli(key, 1 - rate, shape) / (1 - rate)
    wide = mean.astype(jnp.float32)
    return wide + kept * (frames - wide)
