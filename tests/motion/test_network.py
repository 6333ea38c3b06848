"""Fast pathway: convolutions against direct sums, loading, batching of the extractor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.motion import network


def conv3d(x, kernel, stride, pad):
    """Direct 3D convolution of [B, T, H, W, C], one tap at a time."""
    x = np.pad(x, [(0, 0), *[(p, p) for p in pad], (0, 0)])
    sizes = [(x.shape[i + 1] - kernel.shape[i]) // stride[i] + 1 for i in range(3)]
    out = np.zeros((len(x), *sizes, kernel.shape[-1]))
    for tap in np.ndindex(kernel.shape[:3]):
        where = [slice(t, t + s * n, s) for t, s, n in zip(tap, stride, sizes, strict=True)]
        out += x[:, *where] @ kernel[tap]
    return out


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
@pytest.mark.parametrize("width", [3, 8])
def test_stem_is_the_strided_3d_convolution(size, width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, *size, 3)).astype(np.float32)
    kernel = rng.normal(size=(5, 7, 7, 3, width)).astype(np.float32)
    want = conv3d(x, kernel, (1, 2, 2), (2, 3, 3))
    np.testing.assert_allclose(network._stem_conv(x, kernel), want, **TOLERANCES["motion"])


def test_block_convolutions_are_3d_convolutions():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 5, 7, 6, 4)).astype(np.float32)
    temporal = rng.normal(size=(3, 4, 5)).astype(np.float32)
    spatial = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
    want = conv3d(x, temporal[:, None, None], (1, 1, 1), (1, 0, 0))
    np.testing.assert_allclose(network._temporal_conv(x, temporal), want, **TOLERANCES["motion"])
    for stride in (1, 2):
        want = conv3d(x, spatial[None], (1, stride, stride), (0, 1, 1))
        got = network._spatial_conv(jnp.asarray(x), spatial, stride)
        np.testing.assert_allclose(got, want, **TOLERANCES["motion"])


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_max_pool_is_the_windowed_maximum(size):
    x = np.random.default_rng(2).uniform(size=(1, 2, *size, 3)).astype(np.float32)
    want = jax.lax.reduce_window(
        x,
        0.0,
        jax.lax.max,
        (1, 1, 3, 3, 1),
        (1, 1, 2, 2, 1),
        [(0, 0), (0, 0), *[(1, 1)] * 2, (0, 0)],
    )
    np.testing.assert_array_equal(network._max_pool(jnp.asarray(x)), want)


def test_full_size_pathway_has_the_published_shape():
    cfg = network.FastPathwayConfig()
    model = nnx.eval_shape(lambda: network.FastPathway(cfg, nnx.Rngs(0)))
    clips = jax.ShapeDtypeStruct((2, 32, 224, 224, 3), np.uint8)
    outputs = nnx.eval_shape(lambda model, clips: model.stage_outputs(clips), model, clips)
    assert cfg.motion_dim == 256
    assert [out.shape[2:] for out in outputs] == [
        (56, 56, 8),
        (56, 56, 32),
        (28, 28, 64),
        (14, 14, 128),
        (7, 7, 256),
    ]
    assert all(out.shape[:2] == (2, 32) for out in outputs)
