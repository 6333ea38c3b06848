"""Weights of a small pathway under the published names."""

import numpy as np
import pytest
from flax import nnx

from vqa_jax.motion import network, weights


@pytest.fixture(scope="session")
def tensors():
    """pytorchvideo-named random weights of width 1, made without compiling an initialiser."""
    cfg = network.FastPathwayConfig(stem_width=1)
    model = nnx.eval_shape(lambda: network.FastPathway(cfg, nnx.Rngs(0)))
    rng = np.random.default_rng(3)
    shapes = {path: leaf.shape for path, leaf in weights._flat_state(model).items()}
    values = {path: rng.uniform(0.1, 1, shape) for path, shape in shapes.items()}
    return weights.to_foreign(values)
