"""Weights of the neural teachers under the official names."""

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from vqa_jax.teachers.neural import weights
from vqa_jax.teachers.neural.fast_vqa import FastVqa, FastVqaConfig
from vqa_jax.teachers.neural.swin3d import Swin3dConfig
from vqa_jax.weights import named
from vqa_jax.weights.reader import WeightsError

TINY = FastVqaConfig(
    Swin3dConfig(embed_dim=4, num_layers=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)), head_dim=4
)


@pytest.fixture
def official() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    model = nnx.eval_shape(lambda: FastVqa(TINY, nnx.Rngs(0)))
    shapes = {name: leaf.shape for name, leaf in named.parameters(model).items()}
    named.assign(model, {k: np.float32(rng.normal(size=shape)) for k, shape in shapes.items()})
    return weights.official_state(model, weights.FAST_VQA)


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
