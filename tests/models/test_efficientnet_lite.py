"""EfficientNet-Lite's arithmetic by XLA's own convolutions, and its sizes by the published ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models.efficientnet_lite import (
    EfficientNetLite,
    EfficientNetLiteConfig,
    depthwise,
)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "shape"), [(3, (7, 8)), (5, (8, 9)), (5, (4, 3))])
def test_shifted_products_are_a_depthwise_convolution(side, shape, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *shape, 6)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(side, side, 6)), jnp.float32)
    expected = jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=6,
    )
    np.testing.assert_allclose(
        depthwise(x, kernel, stride), expected, **TOLERANCES["attention_kernel"]
    )


def _count(size: int) -> int:
    model = nnx.eval_shape(lambda: EfficientNetLite(EfficientNetLiteConfig(size), nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


# Published totals, without the classifier's 1,281,000 and without what norms hold beyond a bias:
# scale, mean and variance of every channel, and a counter a norm.
@pytest.mark.parametrize(("size", "published"), [(0, 4_694_073), (1, 5_470_408), (2, 6_150_232)])
def test_parameters_are_as_many_as_published(size, published):
    stages = EfficientNetLiteConfig(size).stages
    channels = [32, 1280]
    for block in (block for blocks in stages for block in blocks):
        inner = block.d_in * block.expansion
        channels += [inner] * (1 + (block.expansion > 1)) + [block.d_out]
    assert _count(size) == published - 1_281_000 - 3 * sum(channels) - len(channels)


def test_stages_shrink_as_they_should_whatever_the_size():
    def shapes(picture):
        model = EfficientNetLite(EfficientNetLiteConfig(0), nnx.Rngs(0))
        return list(model.stage_outputs(picture))

    outputs = jax.eval_shape(shapes, jax.ShapeDtypeStruct((1, 70, 45, 3), jnp.uint8))
    sides = [(35, 23), (18, 12), (9, 6), (5, 3), (5, 3), (3, 2), (3, 2), (3, 2)]
    widths = (16, 24, 40, 80, 112, 192, 320, 1280)
    assert [out.shape for out in outputs] == [
        (1, *side, width) for side, width in zip(sides, widths, strict=True)
    ]
    assert EfficientNetLiteConfig(0).widths == widths
    assert EfficientNetLiteConfig(2).widths == (16, 24, 48, 88, 120, 208, 352, 1280)


def test_sizes_that_are_not_here_are_refused():
    with pytest.raises(ValueError, match="0, 1 and 2"):
        EfficientNetLiteConfig(4)
