"""Swin over frames: grids that are no multiple of the window give one feature a frame too."""

import jax
import numpy as np
import pytest
from flax import nnx

from vqa_jax.teachers.neural.swin2d import Swin2d, Swin2dConfig

CONFIG = Swin2dConfig(num_layers=(1, 1, 2, 1))  # the published widths and windows


@pytest.mark.parametrize(("height", "width"), [(384, 384), (224, 224), (384, 256)])
@pytest.mark.parametrize(
    "cfg", [CONFIG, pytest.param(Swin2dConfig(), marks=pytest.mark.slow, id="published")]
)
def test_any_grid_gives_one_feature_a_frame(cfg, height, width):
    frames = jax.ShapeDtypeStruct((3, height, width, 3), np.float32)
    found = nnx.eval_shape(lambda x: Swin2d(cfg, nnx.Rngs(0))(x), frames)
    assert found.shape == (3, 1024) == (3, cfg.feature_dim)


def test_sizes_that_do_not_divide_are_refused():
    network = nnx.eval_shape(lambda: Swin2d(CONFIG, nnx.Rngs(0)))
    with pytest.raises(ValueError, match="multiple of 32x32"):
        jax.eval_shape(network, jax.ShapeDtypeStruct((1, 384, 400, 3), np.float32))
