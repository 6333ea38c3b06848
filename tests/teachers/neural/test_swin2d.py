"""Swin over frames: grids that are no multiple of the window give one feature a frame too."""

import jax
import numpy as np
import pytest
from flax import nnx

from vqa_jax.teachers.neural.swin2d import Swin2d, Swin2dConfig


@pytest.mark.parametrize(("height", "width"), [(384, 384), (224, 224), (384, 256)])
def test_any_grid_gives_one_feature_a_frame(height, width):
    cfg = Swin2dConfig()
    network = nnx.eval_shape(lambda: Swin2d(cfg, nnx.Rngs(0)))
    frames = jax.ShapeDtypeStruct((3, height, width, 3), np.float32)
    assert cfg.feature_dim == 1024
    assert jax.eval_shape(network, frames).shape == (3, 1024)
