"""Weights of the pathway: loading and its inverse, wrong keys by name."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from vqa_jax.motion import weights
from vqa_jax.weights.reader import WeightsError


def test_export_is_the_inverse_of_load(tensors, tmp_path):
    save_file(tensors, tmp_path / "w.safetensors")
    back = weights.export_pathway(weights.load_features(tmp_path / "w.safetensors").model)
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(back[key], value)


def test_load_lists_every_wrong_key(tensors, tmp_path):
    broken = dict(tensors)
    fast = "blocks.3.multipathway_blocks.1.res_blocks.5.branch2"
    del broken[f"{fast}.conv_a.weight"]
    broken[f"{fast}.norm_b.weight"] = np.ones(7, np.float32)
    broken["blocks.1.multipathway_blocks.1.res_blocks.3.branch2.conv_a.weight"] = np.ones(1)
    save_file(broken, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as error:
        weights.load_features(tmp_path / "w.safetensors")
    assert "w.safetensors" in str(error.value)
    assert error.value.problems == {
        "missing": [f"{fast}.conv_a.weight"],
        "unexpected": ["blocks.1.multipathway_blocks.1.res_blocks.3.branch2.conv_a.weight"],
        "misshapen": [f"{fast}.norm_b.weight: (7,) instead of (4,)"],
    }


def test_load_ignores_what_the_motion_feature_does_not_depend_on(tensors, tmp_path):
    extra = {
        "blocks.0.multipathway_blocks.0.conv.weight": np.ones((8, 3, 1, 7, 7), np.float32),
        "blocks.2.multipathway_fusion.norm.bias": np.ones(4, np.float32),
        "blocks.6.proj.weight": np.ones((4, 4), np.float32),
        "blocks.0.multipathway_blocks.1.norm.num_batches_tracked": np.ones(1, np.int64),
    }
    save_file(tensors | extra, tmp_path / "w.safetensors")
    assert weights.load_features(tmp_path / "w.safetensors").config.stem_width == 1


def test_load_without_a_stem_says_what_to_give(tmp_path):
    save_file({"x": np.ones(1, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w.safetensors: (.|\n)*blocks\.0\.(.|\n)*convert_slow"):
        weights.load_features(tmp_path / "w.safetensors")


def test_wrong_clips_are_refused(tensors, tmp_path):
    save_file(tensors, tmp_path / "w.safetensors")
    features = weights.load_features(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"uint8 \[M,K,H,W,3\]"):
        features(np.zeros((1, 4, 16, 16, 3), np.float32))
