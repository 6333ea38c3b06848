"""Video Swin: clips that do not divide into whole windows are refused."""

import jax
import numpy as np
import pytest
from flax import nnx

from vqa_jax.teachers.neural.swin3d import Swin3d, Swin3dConfig


@pytest.mark.parametrize(
    "shape", [(1, 32, 256, 224, 3), (1, 24, 224, 224, 3), (1, 15, 224, 224, 3)]
)
def test_sizes_that_do_not_divide_are_refused(shape):
    network = nnx.eval_shape(lambda: Swin3d(Swin3dConfig(), nnx.Rngs(0)))
    with pytest.raises(ValueError, match="divide"):
        jax.eval_shape(network, jax.ShapeDtypeStruct(shape, np.float32))
