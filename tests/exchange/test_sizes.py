"""Sizes of a student from the config.json of the checkpoints that it is made of."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.fixtures.foreign_student import CONFIG_JSON, SIZES
from vqa_jax.exchange.sizes import student_config
from vqa_jax.models.presets import SO400M
from vqa_jax.weights.reader import WeightsError


def _folder(path, config, **tensors):
    path.mkdir()
    save_file({"x": np.ones(1, np.float32), **tensors}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_one_checkpoint_tells_all_sizes(folder):
    assert student_config(folder) == SIZES


def test_a_tower_and_a_decoder_apart(tmp_path):
    """A whole tower has a layer that is not taken; without a projector, SlowFast's width."""
    tower = {**CONFIG_JSON["vision_config"], "model_type": "siglip_vision_model"}
    tower["num_hidden_layers"] += 1
    text = {k: v for k, v in CONFIG_JSON.items() if k != "vision_config"}
    folders = [
        _folder(tmp_path / "tower", tower),
        _folder(tmp_path / "decoder", {**text, "model_type": "qwen2"}),
    ]
    made = student_config(folders)
    assert (made.vision, made.llm, made.motion_dim) == (SIZES.vision, SIZES.llm, 256)
    with pytest.raises(WeightsError, match=r"1 vision towers(.|\n)*0 decoders"):
        student_config(folders[0])


def test_a_tower_that_is_named_only_must_be_the_known_one(tmp_path):
    text = {k: v for k, v in CONFIG_JSON.items() if k != "vision_config"}
    known = {**text, "mm_vision_tower": "google/siglip-so400m-patch14-384"}
    assert student_config(_folder(tmp_path / "known", known)).vision == SO400M
    other = _folder(tmp_path / "other", {**text, "mm_vision_tower": "clip"})
    with pytest.raises(WeightsError, match=r"clip(.|\n)*vision_config"):
        student_config(other)


TEXT = {k: v for k, v in CONFIG_JSON.items() if k != "vision_config"}
TOWER = {**CONFIG_JSON["vision_config"], "model_type": "siglip_vision_model"}
ROPE = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]}


@pytest.mark.parametrize(
    ("decoder", "qk_norm", "theta"),
    [
        # As Qwen2.5's, Qwen3's and Qwen3-VL's files write them.
        ({"model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": False}, False, 1e6),
        ({"model_type": "qwen3", "rope_theta": 1e6, "rope_scaling": None}, True, 1e6),
        ({"model_type": "qwen3", "rope_parameters": {"rope_theta": 2e6}}, True, 2e6),
        (
            {
                "model_type": "qwen3_vl",
                "vision_config": {"depth": 24, "deepstack_visual_indexes": [5]},
                "text_config": {
                    **TEXT,
                    "model_type": "qwen3_vl_text",
                    "rope_theta": 5e6,
                    "rope_scaling": ROPE,
                },
            },
            True,
            5e6,
        ),
    ],
)
def test_decoders_behind_a_tower(tmp_path, decoder, qk_norm, theta):
    decoder = decoder if "text_config" in decoder else {**TEXT, **decoder}
    folders = [_folder(tmp_path / "a", TOWER), _folder(tmp_path / "b", decoder)]
    llm = dataclasses.replace(SIZES.llm, qk_norm=qk_norm, rope_theta=theta)
    assert student_config(folders).llm == llm


@pytest.mark.parametrize(
    ("tower", "decoder", "words"),
    [
        ({"model_type": "siglip2"}, {}, "siglip2-so400m-patch14-384"),
        ({}, {"attention_bias": True}, "attention_bias"),
        ({}, {"use_sliding_window": True}, "use_sliding_window"),
        ({}, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, r"rope_scaling(.|\n)*yarn"),
        ({}, {"rope_scaling": "yarn"}, "rope_scaling is 'yarn'"),
    ],
)
def test_towers_of_any_resolution_and_other_attention_are_refused(tmp_path, tower, decoder, words):
    decoder = {**TEXT, "model_type": "qwen3", **decoder}
    folders = [_folder(tmp_path / "a", {**TOWER, **tower}), _folder(tmp_path / "b", decoder)]
    with pytest.raises(WeightsError, match=words):
        student_config(folders)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"hidden_act": "gelu"}, "Only silu"), ({"vocab_size": None}, "vocab_size")],
)
def test_what_cannot_be_computed_is_refused(tmp_path, change, words):
    config = {k: v for k, v in {**CONFIG_JSON, **change}.items() if v is not None}
    with pytest.raises(WeightsError, match=words):
        student_config(_folder(tmp_path / "a", config))
    with pytest.raises(WeightsError, match="no such file"):
        student_config(tmp_path / "none")
