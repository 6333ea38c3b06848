"""Sizes of a student from the config.json of the checkpoints that it is made of."""

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
