"""Neural teachers: published sizes, scales of their scores, and files that do not fit."""

import functools
import operator

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.benchmarks.score_tables import read_scores
from vqa_jax.media.probe import probe
from vqa_jax.teachers import cards, job, views
from vqa_jax.teachers.neural import dover, fast_vqa, load, minimalistic, weights
from vqa_jax.teachers.neural.convnext3d import ConvNext3dConfig
from vqa_jax.teachers.neural.dover import Dover, DoverConfig
from vqa_jax.teachers.neural.fast_vqa import FastVqa, FastVqaConfig
from vqa_jax.teachers.neural.minimalistic import MinimalisticVqa
from vqa_jax.teachers.neural.swin3d import Swin3dConfig
from vqa_jax.weights import named

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
        pytest.param(Dover, DoverConfig(), _OFFSETS_3D, 58.06, marks=pytest.mark.slow),
        pytest.param(
            *(MinimalisticVqa, minimalistic.VII, _OFFSETS_2D, 86.93), marks=pytest.mark.slow
        ),
        pytest.param(  # the same tower, and a wider head
            *(MinimalisticVqa, minimalistic.IX, _OFFSETS_2D + _SLOWFAST_R50, 121.59),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_published_parameter_counts(kind, cfg, besides, millions):
    total = _size(_abstract(kind, cfg)) + besides
    assert round(total / 1e6, 2) == millions


def _shape(function, kind, cfg, *inputs) -> tuple[int, ...]:
    return nnx.eval_shape(lambda *x: function(kind(cfg, nnx.Rngs(0)))(*x), *inputs).shape


@pytest.mark.slow
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


# Large patches and small windows: the views are as large as published.
SWIN = Swin3dConfig(
    embed_dim=4,
    num_layers=(1, 1),
    num_heads=(1, 1),
    gated=(True, False),
    patch_size=(4, 8, 8),
    window=(2, 7, 7),
)
CONVNEXT = ConvNext3dConfig(num_layers=(1, 1, 1, 1), dims=(4, 8, 8, 8))
FAST_VQA = fast_vqa.FastVqaConfig(SWIN, 4)
DOVER = dover.DoverConfig(SWIN, CONVNEXT, 4)


@pytest.fixture(scope="module")
def networks():
    """Tiny random networks; their parameters by NumPy, as JAX compiles a program for each."""
    rng = np.random.default_rng(0)
    made = _abstract(fast_vqa.FastVqa, FAST_VQA), _abstract(dover.Dover, DOVER)
    for model in made:
        shapes = {name: leaf.shape for name, leaf in named.parameters(model).items()}
        drawn = {name: rng.normal(0, 0.2, shape) for name, shape in shapes.items()}
        named.assign(model, {name: np.float32(x) for name, x in drawn.items()})
    return made


@pytest.fixture
def folder(networks, tmp_path, monkeypatch):
    """Weights of the tiny networks under the official names, and loaders of that size."""
    fast, both = networks
    for name, model, rules in (
        ("fast_vqa", fast, weights.FAST_VQA),
        ("dover", both, weights.DOVER),
    ):
        save_file(weights.official_state(model, rules), str(tmp_path / f"{name}.safetensors"))
    monkeypatch.setattr(
        weights, "load_fast_vqa", functools.partial(weights.load_fast_vqa, cfg=FAST_VQA)
    )
    monkeypatch.setattr(weights, "load_dover", functools.partial(weights.load_dover, cfg=DOVER))
    return str(tmp_path)


def _mean(network, look) -> float:
    return float(nnx.jit(lambda network, look: network(look).mean())(network, look))


@pytest.mark.parametrize(
    "names",
    [
        ("dover", "noise"),
        pytest.param(
            ("fast_vqa", "dover_script", "dover_technical", "dover_aesthetic"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_scores_are_those_of_the_networks_on_the_views(names, shared, networks, folder, tmp_path):
    loaded = load.load_teachers(names, folder, batch_size=2, devices=jax.local_devices()[:2])
    clips = ("carphone_pristine.mp4",)
    videos = [job.Video(str(shared / "clips" / name), name) for name in clips]
    out = tmp_path / "out"
    found = job.run(videos, loaded, str(out), job.JobConfig(seed=5))
    assert found == job.TeacherOutcome(1, 0, 0)
    table = read_scores(out / "scores.csv")
    scores = dict(zip(table.teachers, table.scores.T, strict=True))
    row = list(table.videos).index(clips[0])

    info, seed = probe(videos[0].path), views.video_seed(5, clips[0])
    looks, _ = views.read_views(
        info,
        lambda info: {
            "four": views.fragment_view(info, seed, 4),
            "three": views.fragment_view(info, seed, 3),
            "spread": views.aesthetic_view(info, seed),
        },
    )
    looks = {name: x.reshape(-1, 32, 224, 224, 3) for name, x in looks.items()}
    fast, both = networks
    technical = _mean(both.technical, looks["three"])
    aesthetic = _mean(both.aesthetic, looks["spread"])
    wanted = {
        "dover_technical": technical,
        "dover_aesthetic": aesthetic,
        "dover": dover.FUSION_BY_BRANCH(technical, aesthetic),
        "dover_script": dover.FUSION_BY_SCRIPT(technical, aesthetic),
    }
    if "fast_vqa" in names:
        wanted["fast_vqa"] = fast_vqa.unit_score(_mean(fast, looks["four"]))
    for name in set(names) & set(wanted):
        np.testing.assert_allclose(
            scores[name][row], wanted[name], **TOLERANCES["scores_and_losses"], err_msg=name
        )


def test_fingerprint_follows_the_weights(folder):
    (before,) = load.load_teachers(["fast_vqa"], folder)
    path = f"{folder}/fast_vqa.safetensors"
    state = load_file(path)
    name = max(state, key=lambda name: state[name].size)
    save_file({**state, name: state[name] + 1}, path)
    (after,) = load.load_teachers(["fast_vqa"], folder)
    assert before.fingerprint != after.fingerprint
    with pytest.raises(cards.TeacherError, match=r"minimalistic_vii\.safetensors"):
        load.load_teachers(["minimalistic_vii"], folder)
