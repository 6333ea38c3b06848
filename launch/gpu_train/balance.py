"""Weights with which a tower's stages are balanced, and what training saw of directions."""

from __future__ import annotations

import jax
import numpy as np

from vqa_jax.models.cell_tower import stage_balance
from vqa_jax.models.functional import Params
from vqa_jax.weights.bundle import StudentSpec


def weights(spec: StudentSpec) -> np.ndarray:
    """float32 [W]: a standardized token is (token - mean) / scale times these."""
    return np.tile(stage_balance(spec.student.vision.network.widths), 2)


def within(params: Params, rows: np.ndarray, scale: np.ndarray, spec: StudentSpec) -> Params:
    """Parameters that read tokens along the packed directions alone, as in training.

    What a token holds beyond them was never seen: weights there are as they were drawn, and would
    add noise to every score.

    Args:
      params: of a trained student.
      rows: [K, W], directions in the tokens' units.
      scale: [W] of the tokens.
      spec: of the student.
    """
    seen = np.linalg.qr((rows / scale * weights(spec)).T.astype(np.float64))[0]

    def kept(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.Array) -> jax.Array:
        if path[0].key == "vision" or leaf.ndim < 2 or leaf.shape[0] != len(scale):
            return leaf
        inside = seen @ (seen.T @ np.asarray(leaf, np.float64))
        return jax.device_put(inside.astype(leaf.dtype), leaf.sharding)

    return jax.tree_util.tree_map_with_path(kept, params)
