"""Conversion of checkpoints into a student's folder."""

import dataclasses
import errno
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.fixtures.foreign_student import CONFIG_JSON, SIZES, header_only, tensors_of
from vqa_jax.cli import main
from vqa_jax.devices import sharding as parallel
from vqa_jax.exchange import convert
from vqa_jax.exchange.names import student_rules
from vqa_jax.exchange.student_io import load_params
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.weights import bundle, rules


def test_convert_writes_a_students_folder(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rules, "BLOCK_BYTES", 300)  # several blocks a tensor
    (folder / "tokenizer.json").write_text("{}")
    want = load_params(folder, SIZES)
    out = str(tmp_path / "out")
    assert main.main(["convert", "--from", str(folder), "--to", out]) == 0
    assert "billion parameters in float32" in capsys.readouterr().out
    spec = bundle.load_spec(out)
    assert spec.student == SIZES and spec.preprocess.image_size == 8 and spec.preset == ""
    found = bundle.load_params(out, FunctionalStudent(spec.student))
    jax.tree.map(np.testing.assert_array_equal, found, want)
    assert sorted(os.listdir(out)) == [
        ".lock",
        "student.json",
        "student.safetensors",
        "tokenizer.json",
    ]

    half = ["convert", "--from", str(folder), "--to", out, "--dtype", "bfloat16"]
    assert main.main(half) == 0
    with safe_open(os.path.join(out, "student.safetensors"), framework="np") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"BF16"}  # noqa: SIM118
    student = FunctionalStudent(bundle.load_spec(out).student)
    mesh = parallel.make_mesh((2, 2, 2))
    like = jax.tree.map(  # a trainer's: float32, in shards
        lambda x, s: jax.ShapeDtypeStruct(x.shape, jnp.dtype("float32"), sharding=s),
        student.abstract(),
        student.shardings(mesh),
    )
    monkeypatch.setattr(rules, "BLOCK_BYTES", 2**20)
    found = bundle.load_params(out, student, like)
    halved = jax.tree.map(lambda x: np.asarray(x, jnp.bfloat16).astype(np.float32), want)
    jax.tree.map(np.testing.assert_array_equal, found, halved)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, c: a.sharding == c.sharding, found, like)))


def test_a_tower_and_a_decoder_of_qwen3_make_a_student(tmp_path):
    """The tokenizer is the decoder's, not the tower's; a later release's rotary base is kept."""
    llm = dataclasses.replace(SIZES.llm, qk_norm=True, rope_theta=5e6)
    cfg, folders = dataclasses.replace(SIZES, llm=llm), []
    vision = {**CONFIG_JSON["vision_config"], "num_hidden_layers": 4}
    text = {k: v for k, v in CONFIG_JSON.items() if k != "vision_config"}
    for name, dialect, config in (
        ("siglip2", "siglip", {**vision, "model_type": "siglip_vision_model"}),
        ("qwen3", "qwen2", {**text, "model_type": "qwen3", "rope_theta": 5e6}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors_of(dialect, cfg), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text(json.dumps({"of": name}))
        folders += ["--from", str(folder)]
    out = tmp_path / "out"
    fresh = ("vision_projector", "motion_projector", "newline")
    scratch = [word for part in fresh for word in ("--scratch", part)]
    assert main.main(["convert", *folders, "--to", str(out), *scratch]) == 0
    assert json.loads((out / "tokenizer.json").read_text()) == {"of": "qwen3"}
    made = bundle.load_spec(str(out)).student.llm
    assert made.qk_norm and made.rope_theta == 5e6

    published = PRESETS["qwen3_siglip2_4b"]
    later = dataclasses.replace(published.llm, rope_theta=5e6)
    later = dataclasses.replace(published, llm=later, compute_dtype="float32")
    assert convert._preset_of(later) == "qwen3_siglip2_4b"
    assert convert._preset_of(SIZES) == ""


def test_convert_names_every_misfit_and_leaves_nothing(folder, tmp_path, capsys):
    tensors = load_file(folder / "model.safetensors")
    for key in [key for key in tensors if "slowfast" in key or key == "lm_head.weight"]:
        del tensors[key]
    save_file(tensors, folder / "model.safetensors")
    out = tmp_path / "out"
    command = ["convert", "--from", str(folder), "--to", str(out)]
    assert main.main(command) == 1
    error = capsys.readouterr().err
    assert "missing (5)" in error and "slowfast_projector.2.bias" in error
    assert "lm_head.weight" in error and not out.exists()
    assert main.main([*command, "--preset", "huge"]) == 1
    assert "ov_7b" in capsys.readouterr().err
    assert main.main([*command, "--scratch", "motion_projector", "--scratch", "legs"]) == 1
    assert "legs" in capsys.readouterr().err


def test_the_student_before_stays_until_the_new_one_is_whole(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = ["convert", "--from", str(folder), "--to", str(out)]
    assert main.main(command) == 0
    (out / "notes.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(convert, "write_safetensors", full)
        assert main.main([*command, "--dtype", "bfloat16"]) == 1
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert main.main([*command, "--dtype", "bfloat16"]) == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / bundle.WEIGHTS_FILE).stat().st_size < len(before[bundle.WEIGHTS_FILE])


def test_convert_mixes_with_no_other_format(folder, capsys):
    before = sorted(os.listdir(folder))
    assert main.main(["convert", "--from", str(folder), "--to", str(folder)]) == 1
    assert "holds another format (config.json)" in capsys.readouterr().err
    assert sorted(os.listdir(folder)) == [".lock", *before]


def test_convert_draws_missing_parts_by_seed(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if "slowfast" not in k}, folder / "model.safetensors"
    )
    found = []
    for seed in ("1", "1", "2"):
        out = str(tmp_path / f"out{len(found)}")
        command = ["convert", "--from", str(folder), "--to", out, "--scratch", "motion_projector"]
        assert main.main([*command, "--seed", seed]) == 0
        found.append(load_file(os.path.join(out, "student.safetensors"))["motion_projector/w_in"])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0.01


_PEAK = """
import resource, sys
from vqa_jax.exchange import convert
from vqa_jax.weights import rules
rules.BLOCK_BYTES = 2**24
import jax
jax.devices()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert.convert([sys.argv[1]], sys.argv[2], dtype="bfloat16", scratch=["motion_projector"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_conversion_holds_a_tensor_and_a_few_blocks(tmp_path):
    """1.2 GB in shards of holes: the peak must not grow with it. Largest tensor: 67 MB."""
    layers = {**CONFIG_JSON, "hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 16384}
    layers |= {"num_hidden_layers": 9}
    (tmp_path / "config.json").write_text(json.dumps(layers))
    llm = dataclasses.replace(
        SIZES.llm, embed_dim=2048, mlp_dim=8192, vocab_size=16384, num_layers=9, head_dim=512
    )
    cfg = dataclasses.replace(SIZES, llm=llm)
    leaves = traverse_util.flatten_dict(FunctionalStudent(cfg).abstract())
    shapes = {
        key: rule.foreign_shape(leaves[rule.path].shape)
        for rule in student_rules(cfg, "original")
        if rule.path[0] != "motion_projector"
        for key in rule.keys(leaves[rule.path].shape)
    }
    header_only(tmp_path / "model.safetensors", shapes)
    total = os.path.getsize(tmp_path / "model.safetensors")
    assert total > 1.2e9
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(tmp_path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    peak = int(done.stdout.split()[-1]) * 1024
    largest = max(2 * int(np.prod(shape)) for shape in shapes.values())
    assert peak < largest + 2**28, f"{peak / 2**20:.0f} MiB"
