"""A student under LLaVA-OneVision's names: what is in which file, and that the index has it all."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.fixtures.foreign_student import SIZES
from tests.fixtures.micro_student import MICRO
from vqa_jax.exchange import llava_folder
from vqa_jax.models.functional import FunctionalStudent


@pytest.mark.parametrize("form", llava_folder.NAMES)
def test_every_tensor_is_in_the_file_that_the_index_says(tmp_path, form):
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        FunctionalStudent(SIZES).abstract(),
    )
    llava_folder.write(str(tmp_path), SIZES, params, form)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    model, other = llava_folder.NAMES[form].model, llava_folder.NAMES[form].other
    held = {name: load_file(tmp_path / name) for name in (model, other)}
    where = {key: name for name, tensors in held.items() for key in tensors}
    assert index["weight_map"] == where
    total = sum(array.nbytes for tensors in held.values() for array in tensors.values())
    assert index["metadata"]["total_size"] == total
    config = json.loads((tmp_path / model).with_name("config.json").read_text())
    if form == "decoder":
        wanted = {name for name in where if name.startswith(("model.", "lm_head."))}
        assert set(held[model]) == {n for n in wanted if "slowfast" not in n}
        assert config["architectures"] == ["Qwen2ForCausalLM"]
    else:
        assert all("slowfast" in key for key in held[other])
        assert not any("slowfast" in key for key in held[model])
    # Ours, and the tower's unused last norm, which does nothing.
    unused = {key: value for key, value in held[model].items() if "post_lay" in key}
    unused_means = [] if form == "decoder" else [0.0, 1.0]
    assert sorted(value.mean() for value in unused.values()) == unused_means
    ours = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert total == ours + sum(value.nbytes for value in unused.values())


def test_what_only_training_needs_is_left_out():
    params = FunctionalStudent(MICRO).abstract()
    cfg, kept = llava_folder.without_training_parts(MICRO, params)
    assert cfg.num_severity_classes == 0
    assert kept == FunctionalStudent(cfg).abstract()
    assert params.keys() - kept.keys() == {"severity_kernel", "severity_bias"}
