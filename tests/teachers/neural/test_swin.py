"""What Swin networks share: the join of 2x2 tokens, written out for frames and for clips."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers.neural import swin


@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (1, 3, 2, 4, 5)], ids=["frames", "clips"])
def test_four_tokens_join_in_the_order_of_the_weights(shape):
    """Even rows and columns first, then odd rows, then odd columns, then both (Liu et al. 2021)."""
    layer = swin.Downsample(5, nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = np.asarray(jax.jit(lambda x: layer(x))(x))
    assert found.shape == (*shape[:-3], shape[-3] // 2, shape[-2] // 2, 10)
    weights = np.asarray(layer.reduction.kernel[...], np.float64)
    for place in np.ndindex(found.shape[:-1]):
        *front, row, column = place
        corners = [(2 * row, 2 * column), (2 * row + 1, 2 * column)]
        corners += [(r, c + 1) for r, c in corners]
        tokens = np.concatenate([x[(*front, *corner)] for corner in corners]).astype(np.float64)
        normed = (tokens - tokens.mean()) / np.sqrt(tokens.var() + 1e-5)
        np.testing.assert_allclose(found[place], normed @ weights, **TOLERANCES["direct_sum"])
