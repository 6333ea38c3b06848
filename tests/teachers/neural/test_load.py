"""Neural teachers: published sizes, scales of their scores, and files that do not fit."""

import operator

import jax
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers.neural import fast_vqa, minimalistic
from vqa_jax.teachers.neural.convnext3d import ConvNext3d, ConvNext3dConfig
from vqa_jax.teachers.neural.dover import FUSION, FUSION_BY_BRANCH, Dover, DoverConfig
from vqa_jax.teachers.neural.fast_vqa import FastVqa, FastVqaConfig
from vqa_jax.teachers.neural.minimalistic import MinimalisticVqa
from vqa_jax.teachers.neural.swin3d import Swin3d, Swin3dConfig

# The papers count what the files store: tables of offsets too (N * N integers a block), and the
# whole SlowFast-R50 with the running statistics of its norms.
_OFFSETS_3D = 12 * 392**2
_OFFSETS_2D = 24 * 49**2
_SLOWFAST_R50 = 34_566_488 + 60_688
CLIPS = jax.ShapeDtypeStruct((2, 32, 224, 224, 3), np.uint8)


def _abstract(kind, cfg):
    return nnx.eval_shape(lambda: kind(cfg, nnx.Rngs(0)))


def _size(model) -> int:
    return sum(param.size for _, param in nnx.state(model, nnx.Param).flat_state())


@pytest.mark.parametrize(
    ("kind", "cfg", "besides", "millions"),
    [
        (FastVqa, FastVqaConfig(), _OFFSETS_3D, 29.97),
        (Dover, DoverConfig(), _OFFSETS_3D, 58.06),
        (MinimalisticVqa, minimalistic.VII, _OFFSETS_2D, 86.93),
        (MinimalisticVqa, minimalistic.IX, _OFFSETS_2D + _SLOWFAST_R50, 121.59),
    ],
)
def test_published_parameter_counts(kind, cfg, besides, millions):
    total = _size(_abstract(kind, cfg)) + besides
    assert round(total / 1e6, 2) == millions


def _shape(function, kind, cfg, *inputs) -> tuple[int, ...]:
    return nnx.eval_shape(lambda *x: function(kind(cfg, nnx.Rngs(0)))(*x), *inputs).shape


def test_published_sizes_give_maps_and_scores():
    for branch in ("technical", "aesthetic"):
        want = {"features": (2, 16, 7, 7, 768), "score_map": (2, 16, 7, 7), "__call__": (2,)}
        for name, shape in want.items():
            get = operator.attrgetter(f"{branch}.{name}")
            assert _shape(get, Dover, DoverConfig(), CLIPS) == shape
    whole = operator.attrgetter("__call__")
    assert _shape(whole, FastVqa, FastVqaConfig(), CLIPS) == (2,)
    frames = jax.ShapeDtypeStruct((5, 384, 384, 3), np.uint8)
    motion = jax.ShapeDtypeStruct((5, 256), np.float32)
    assert _shape(whole, MinimalisticVqa, minimalistic.VII, frames) == (5,)
    assert _shape(whole, MinimalisticVqa, minimalistic.IX, frames, motion) == (5,)


@pytest.mark.parametrize(
    ("kind", "cfg", "shape"),
    [
        (Swin3d, Swin3dConfig(), (1, 32, 256, 224, 3)),
        (Swin3d, Swin3dConfig(), (1, 24, 224, 224, 3)),
        (Swin3d, Swin3dConfig(), (1, 15, 224, 224, 3)),
        (ConvNext3d, ConvNext3dConfig(), (1, 32, 240, 224, 3)),
    ],
)
def test_sizes_that_do_not_divide_are_refused(kind, cfg, shape):
    with pytest.raises(ValueError, match=r"multiple|divide"):
        jax.eval_shape(_abstract(kind, cfg), jax.ShapeDtypeStruct(shape, np.float32))


def test_scales_of_scores():
    exact = TOLERANCES["scores_and_losses"]
    assert FUSION(0.1107, -0.08285) == 0.5
    want = 1 / (1 + np.exp(-(0.6104 - 0.3896)))
    np.testing.assert_allclose(FUSION(0.1107 + 0.07355, -0.08285 - 0.03774), want, **exact)
    by_branch = FUSION_BY_BRANCH(-0.08285 - 0.03774, 0.1107 + 0.07355)
    np.testing.assert_allclose(by_branch, want, **exact)
    np.testing.assert_allclose(
        fast_vqa.unit_score(np.array([-0.110198185, -0.06841253])), [0.5, 0.7310586], **exact
    )
    scores = minimalistic.logistic(np.array([-50.0, 3.0, 50.0]), (90.0, 10.0, 3.0, -0.5))
    np.testing.assert_allclose(scores, [10.0, 50.0, 90.0], **exact)
