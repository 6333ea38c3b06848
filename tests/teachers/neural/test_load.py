"""Neural teachers: published sizes, scales of their scores, and files that do not fit."""

import operator

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers.neural import fast_vqa, minimalistic, weights, windows
from vqa_jax.teachers.neural.convnext3d import ConvNext3d, ConvNext3dConfig
from vqa_jax.teachers.neural.dover import FUSION, FUSION_BY_BRANCH, Dover, DoverConfig
from vqa_jax.teachers.neural.fast_vqa import FastVqa, FastVqaConfig
from vqa_jax.teachers.neural.minimalistic import MinimalisticVqa
from vqa_jax.teachers.neural.swin3d import Swin3d, Swin3dConfig
from vqa_jax.weights.reader import WeightsError

TINY = FastVqaConfig(
    Swin3dConfig(embed_dim=4, num_layers=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)), head_dim=4
)
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


@pytest.mark.parametrize(("sizes", "window"), [((6, 9), (3, 3)), ((4, 6, 4), (2, 3, 4))])
def test_windows(sizes, window):
    grid = np.random.default_rng(0).normal(size=(2, *sizes, 5)).astype(np.float32)
    cut = windows.partition(grid, window)
    assert cut.shape[2] == np.prod(window)
    first = grid[(0, *(slice(0, w) for w in window))]
    np.testing.assert_array_equal(cut[0, 0], first.reshape(-1, 5))
    np.testing.assert_array_equal(windows.merge(cut, sizes, window), grid)


def test_only_true_neighbours_share_a_region():
    sizes, window = (8, 12), (4, 4)
    shift = windows.shift_for(sizes, window)
    assert shift == (2, 2)
    numbers = windows.regions(sizes, window, shift)
    place = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1)
    place = windows.partition(np.roll(place, [-2, -2], (0, 1))[None], window)[0]
    for number, coordinates in zip(numbers, place, strict=True):
        near = (np.abs(coordinates[:, None] - coordinates[None]) < 4).all(-1)
        np.testing.assert_array_equal(number[:, None] == number[None], near)


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


def test_constants_by_branch_rank_real_scores_better(shared):
    """The comment in dover.py: whose means and stds these are, and which order ranks better."""
    from scipy.stats import spearmanr

    for name in ("KoNViD-1k", "LIVE-VQC", "LSVQ_test", "LSVQ_1080p"):
        table = np.genfromtxt(
            shared / f"benchmarks/dover/{name}.csv", delimiter=",", names=True, usecols=(1, 2, 3)
        )
        technical, aesthetic = table["technical"], table["aesthetic"]
        by_script = spearmanr(FUSION(technical, aesthetic), table["mos"])[0]
        by_branch = spearmanr(FUSION_BY_BRANCH(technical, aesthetic), table["mos"])[0]
        assert by_branch > by_script + 0.004, name
        if name == "LIVE-VQC":
            np.testing.assert_allclose(technical.mean(), -0.08285, atol=5e-4)
            np.testing.assert_allclose(aesthetic.mean(), 0.1107, atol=5e-4)


@pytest.fixture
def official() -> dict[str, np.ndarray]:
    return weights.official_state(FastVqa(TINY, nnx.Rngs(0)), weights.FAST_VQA)


def test_weights_round_trip(official, tmp_path):
    official["fragments_backbone.layers.0.blocks.0.attn.relative_position_index"] = np.zeros(
        (392, 392), np.int64
    )
    save_file(official, tmp_path / "w.safetensors")
    model = weights.load_fast_vqa(tmp_path / "w.safetensors", TINY)
    again = weights.official_state(model, weights.FAST_VQA)
    for key, value in again.items():
        np.testing.assert_array_equal(value, official[key], err_msg=key)
    assert len(again) == len(official) - 1


def test_files_that_do_not_fit_name_every_key(official, tmp_path):
    missing, table = "vqa_head.fc_hid.bias", "fragments_backbone.layers.3.blocks.0.attn.qkv.weight"
    del official[missing]
    official[table] = np.ascontiguousarray(official[table].T)
    official["fragments_backbone.layers.0.blocks.1.norm1.weight"] = np.ones(4, np.float32)
    save_file(official, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        weights.load_fast_vqa(tmp_path / "w.safetensors", TINY)
    problems = caught.value.problems
    assert problems.keys() == {"missing", "unexpected", "misshapen"}
    assert problems["missing"] == [missing]
    assert problems["unexpected"] == ["fragments_backbone.layers.0.blocks.1.norm1.weight"]
    assert problems["misshapen"] == [f"{table}: (32, 96) instead of (96, 32)"]
