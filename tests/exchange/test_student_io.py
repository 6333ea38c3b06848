"""Students from checkpoints of other programs, and misfits by name; full-size key lists."""

import collections
import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tests.fixtures.foreign_student import SIZES, header_only, tensors_of
from tests.fixtures.micro_student import MICRO, drawn
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.exchange.names import DIALECTS, guess_dialect, ignored
from vqa_jax.exchange.student_io import (
    foreign_state,
    load_student,
    match_student,
    save_student,
)
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.weights.reader import Checkpoint, WeightsError


@pytest.mark.parametrize("size", ["0_5b", "7b"])
@pytest.mark.parametrize("names", ["w2s", "original", "hf", "hf_before_4_52"])
def test_full_size_checkpoints_map_each_key_once(shared, tmp_path, size, names):
    shapes = json.loads((shared / f"checkpoints/qwen2_{size}.{names}.json").read_text())
    dialect, cfg = guess_dialect(set(shapes)), PRESETS[f"ov_{size}"]
    head = f"{DIALECTS[dialect].head}.weight"
    copies = 0
    if cfg.llm.tie_embeddings:  # its bytes are compared when loading; here there are none
        copies = len(shapes.pop(head))
        assert copies == 2
    header_only(tmp_path / "model.safetensors", shapes)
    fresh = [] if names == "w2s" else ["motion_projector"]
    source = match_student(tmp_path, cfg, fresh)
    used = collections.Counter(
        key
        for path, (_, rule) in source.found.items()
        for key in rule.keys(source.leaves[path].shape)
    )
    assert set(used.values()) == {1}
    skip = ignored(cfg, dialect)
    rest = {key for key in shapes if key not in used}
    assert rest == {key for key in shapes if skip.fullmatch(key)}
    assert all("post_layernorm" in key for key in rest)
    assert {path[0] for path in source.scratch} == set(fresh)
    assert set(source.found) | set(source.scratch) == set(source.leaves)
    assert source.nbytes == 2 * sum(int(np.prod(shapes[key])) for key in used)


def test_full_size_siglip_and_qwen2_alone(shared, tmp_path):
    lists = json.loads((shared / "checkpoints/qwen2_7b.original.json").read_text())
    tower, cfg = DIALECTS["original"].vision, PRESETS["ov_7b"]
    siglip = {
        f"vision_model.{key.removeprefix(tower)}": shape
        for key, shape in lists.items()
        if key.startswith(tower)
    }
    last = {k.replace("layers.25.", "layers.26."): v for k, v in siglip.items() if ".25." in k}
    siglip |= last | {
        "logit_scale": [1],
        "text_model.head.bias": [1152],
        "vision_model.head.probe": [1],
    }
    decoder = ("model.layers.", "model.norm.", "model.embed_tokens.", "lm_head.")
    qwen = {key: shape for key, shape in lists.items() if key.startswith(decoder)}
    header_only(tmp_path / "siglip.safetensors", siglip)
    header_only(tmp_path / "qwen2.safetensors", qwen)
    both = [tmp_path / "siglip.safetensors", tmp_path / "qwen2.safetensors"]
    fresh = ["vision_projector", "motion_projector", "newline"]
    source = match_student(both, cfg, fresh)
    assert {path[0] for path in source.found} == {"vision", "llm"}
    with pytest.raises(WeightsError) as caught:
        match_student(both, cfg, fresh[:2])
    assert caught.value.problems == {"missing": ["newline (our name), in none of them"]}
    with pytest.raises(WeightsError) as caught:
        match_student([*both, both[1]], cfg, fresh)
    assert len(caught.value.problems["duplicate"]) == 15  # arrays of an untied decoder
    siglip["text_model.head.bias2"] = siglip.pop("vision_model.embeddings.patch_embedding.bias")
    siglip["vision_model.surprise"] = [3]
    siglip["vision_model.embeddings.position_embedding.weight"] = [576, 1152]
    header_only(both[0], siglip)
    with pytest.raises(WeightsError) as caught:
        match_student(both, cfg, fresh)
    assert caught.value.problems == {
        "missing": ["vision_model.embeddings.patch_embedding.bias"],
        "unexpected": ["vision_model.surprise"],
        "misshapen": [
            "vision_model.embeddings.position_embedding.weight: (576, 1152) instead of (729, 1152)"
        ],
    }


def test_unknown_names_parts_and_pickles_are_refused(tmp_path, folder):
    save_file({"encoder_q.weight": np.ones(2, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"encoder_q\.weight(.|\n)*hf_before_4_52"):
        match_student(tmp_path / "x.safetensors", SIZES)
    with pytest.raises(ValueError, match=r"tower.*vision_projector"):
        match_student(folder, SIZES, ["tower"])
    with pytest.raises(WeightsError, match=r"model\.bin(.|\n)*pickle"):
        Checkpoint(tmp_path / "model.bin")


def test_a_tied_head_of_another_shape_is_listed_with_the_rest(tmp_path):
    tied = dataclasses.replace(SIZES, llm=dataclasses.replace(SIZES.llm, tie_embeddings=True))
    tensors = tensors_of("qwen2", tied) | {"lm_head.weight": np.ones((30, 16), np.float32)}
    save_file(tensors | tensors_of("siglip"), tmp_path / "both.safetensors")
    save_file(tensors_of("siglip"), tmp_path / "tower.safetensors")
    save_file(tensors, tmp_path / "qwen2.safetensors")
    paths = [tmp_path / "tower.safetensors", tmp_path / "qwen2.safetensors"]
    with pytest.raises(WeightsError) as caught:
        match_student(paths, tied, ["vision_projector", "motion_projector", "newline"])
    assert caught.value.problems["misshapen"] == ["lm_head.weight: (30, 16) instead of (32, 16)"]


def _same(a, b):
    jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))


@pytest.mark.parametrize("tied", [False, True])
def test_weights_round_trip_in_one_file_and_in_shards(tmp_path, tied):
    cfg = dataclasses.replace(MICRO, llm=dataclasses.replace(MICRO.llm, tie_embeddings=tied))
    saved = FunctionalStudent(cfg)
    saved = saved.bind(drawn(saved.abstract()))
    save_student(saved, tmp_path / "one.safetensors")
    _same(load_student(tmp_path / "one.safetensors", cfg), saved)

    shards = tmp_path / "shards"
    shards.mkdir()
    tensors = foreign_state(saved, "hf")
    if tied:
        tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"]
    names = sorted(tensors)
    for number, keys in enumerate((names[::2], names[1::2])):
        save_file({key: tensors[key] for key in keys}, shards / f"{number}.safetensors")
    index = {key: f"{position % 2}.safetensors" for position, key in enumerate(names)}
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    _same(load_student(shards, cfg), saved)


def test_every_misfit_is_listed_and_known_extras_are_ignored(tmp_path, student):
    file = tmp_path / "student.safetensors"
    save_student(student, file)
    good = load_file(file)
    vision = DIALECTS["original"].vision
    extras = {
        key: np.zeros(2, np.float32)
        for key in (
            f"{vision}post_layernorm.weight",
            f"{vision}head.probe",
            f"{vision}encoder.layers.2.mlp.fc1.bias",
            "model.slowfast.blocks.0.weight",
        )
    }
    save_file(good | extras, file)
    _same(load_student(file, MICRO), student)

    bad = good | {"model.layers.2.mlp.up_proj.weight": good["model.norm.weight"]}
    del bad["model.image_newline"]
    bad["model.mm_projector.0.weight"] = np.ascontiguousarray(bad["model.mm_projector.0.weight"].T)
    save_file(bad, file)
    with pytest.raises(WeightsError) as caught:
        load_student(file, MICRO)
    assert caught.value.problems == {
        "missing": ["model.image_newline"],
        "unexpected": ["model.layers.2.mlp.up_proj.weight"],
        "misshapen": ["model.mm_projector.0.weight: (16, 24) instead of (24, 16)"],
    }
    assert str(file) in str(caught.value)


def test_duplicates_broken_files_and_untied_heads_are_refused(tmp_path, student):
    folder = tmp_path / "twice"
    folder.mkdir()
    tensors = foreign_state(student)
    save_file(tensors, folder / "a.safetensors")
    save_file({"model.norm.weight": tensors["model.norm.weight"]}, folder / "b.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_student(folder, MICRO)
    assert caught.value.problems == {"duplicate": ["model.norm.weight"]}

    (folder / "b.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"b\.safetensors"):
        load_student(folder, MICRO)

    tied = dataclasses.replace(MICRO, llm=dataclasses.replace(MICRO.llm, tie_embeddings=True))
    with pytest.raises(WeightsError, match="tie_embeddings=False"):
        load_student(folder / "a.safetensors", tied)


def test_parts_start_from_scratch_only_when_asked(tmp_path, student):
    file = tmp_path / "base.safetensors"
    tensors = {
        key: value
        for key, value in foreign_state(student).items()
        if "slowfast" not in key and not key.startswith("severity")
    }
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="slowfast_projector"):
        load_student(file, MICRO)
    loaded = load_student(file, MICRO, keep_initial=["motion_projector", "severity"], seed=0)
    # The same seed drew both; whole and in parts, programs may round the last bit otherwise.
    close = functools.partial(np.testing.assert_allclose, **TOLERANCES["scores_and_losses"])
    jax.tree.map(close, nnx.state(loaded), nnx.state(student))
