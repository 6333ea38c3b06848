"""ConvNeXt over clips: clips that do not divide are refused, convolutions are those of scipy."""

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import ndimage

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers.neural import convnext3d


def test_sizes_that_do_not_divide_are_refused():
    cfg = convnext3d.ConvNext3dConfig(num_layers=(1, 1, 1, 1), dims=(4, 8, 8, 8))
    make = lambda: convnext3d.ConvNext3d(cfg, nnx.Rngs(0))  # noqa: E731
    clips = jax.ShapeDtypeStruct((1, 32, 240, 224, 3), np.float32)
    with pytest.raises(ValueError, match="multiple"):
        jax.eval_shape(nnx.eval_shape(make), clips)


@pytest.mark.parametrize("frames", [1, 3])
def test_depthwise_convolution_is_a_correlation_of_every_channel_alone(frames):
    layer = convnext3d.DepthwiseConv(frames, 2, nnx.Rngs(0))
    clip = np.random.default_rng(0).normal(size=(1, 4, 9, 8, 2)).astype(np.float32)
    found = np.asarray(jax.jit(lambda x: layer(x))(clip))
    for channel in range(2):
        kernel = np.asarray(layer.kernel[...])[..., 0, channel]
        wanted = ndimage.correlate(clip[0, ..., channel], kernel, mode="constant")
        np.testing.assert_allclose(found[0, ..., channel], wanted, **TOLERANCES["direct_sum"])
