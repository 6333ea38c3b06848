"""Both branches of DOVER against the official torch code (a narrow random model)."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers.neural import weights
from vqa_jax.teachers.neural.convnext3d import ConvNext3dConfig
from vqa_jax.teachers.neural.dover import Dover, DoverConfig
from vqa_jax.teachers.neural.swin3d import Swin3dConfig

EXACT = TOLERANCES["teacher_maps"]
CONFIG = DoverConfig(
    Swin3dConfig(embed_dim=16, num_layers=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)),
    ConvNext3dConfig(dims=(16, 32, 64, 128), num_layers=(1, 2, 2, 1)),
)


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "golden" / "dover"


@pytest.fixture(scope="module")
def dover(folder) -> Dover:
    return weights.load_dover(folder / "model.safetensors", CONFIG)


def test_config_is_the_goldens(folder):
    said = json.loads((folder / "config.json").read_text())
    swin, convnext = CONFIG.technical, CONFIG.aesthetic
    assert said["swin"] == {
        "embed_dim": swin.embed_dim,
        "depths": list(swin.num_layers),
        "num_heads": list(swin.num_heads),
        "window_size": list(swin.window),
        "patch_size": list(swin.patch_size),
        "frag_biases": list(swin.gated),
    }
    assert said["convnext"] == {
        "depths": list(convnext.num_layers),
        "dims": list(convnext.dims),
        "inflate": "".join(map(str, convnext.temporal_sizes)),
    }
    assert said["head"] == {"hidden": CONFIG.head_dim}


@pytest.mark.parametrize("branch", ["technical", "aesthetic"])
def test_features_score_map_and_mean(dover, folder, branch):
    io = np.load(folder / "io.npz")

    @nnx.jit
    def outputs(model, clips):
        features = model.features(clips)
        score_map = model.head(features)
        return features, score_map, score_map.mean((1, 2, 3))

    features, score_map, mean = outputs(getattr(dover, branch), io["clip"][None])
    want = np.moveaxis(io[f"{branch}_features"], 0, -1)
    np.testing.assert_allclose(features[0], want, **EXACT)
    np.testing.assert_allclose(score_map[0], io[f"{branch}_score_map"], **EXACT)
    np.testing.assert_allclose(mean[0], io[branch], **EXACT)
    score = jax.eval_shape(getattr(dover, branch), io["clip"][None])
    assert score.shape == (1,)


def test_official_names_survive_the_round_trip(dover, folder):
    from safetensors.numpy import load_file

    want = load_file(folder / "model.safetensors")
    got = weights.official_state(dover, weights.DOVER)
    assert got.keys() == want.keys()
    for key, value in got.items():
        np.testing.assert_array_equal(value.reshape(want[key].shape), want[key], err_msg=key)
