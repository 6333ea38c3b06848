"""Weights in: blocks, shards of a mesh, parts of several checkpoints, full-size key lists."""

import collections
import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import NamedSharding, PartitionSpec
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from vqa_jax.cli import main
from vqa_jax.devices import sharding as parallel
from vqa_jax.exchange.dialects import DIALECTS, guess_dialect, ignored, student_rules
from vqa_jax.exchange.student_io import load_params, match_student
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig
from vqa_jax.weights import bundle, rules, stream
from vqa_jax.weights.reader import Checkpoint, WeightsError
from vqa_jax.weights.rules import Rule
from vqa_jax.weights.writer import write_safetensors

SIZES = StudentConfig(
    vision=SiglipConfig(
        image_size=8, patch_size=4, embed_dim=8, mlp_dim=16, num_heads=2, num_layers=3
    ),
    llm=Qwen2Config(
        num_layers=2,
        embed_dim=16,
        mlp_dim=32,
        num_heads=4,
        num_kv_heads=2,
        head_dim=4,
        vocab_size=32,
    ),
    motion_dim=8,
)
CONFIG_JSON = {
    "model_type": "llava_qwen",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "vision_config": {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    },
}


def tensors_of(dialect, cfg=SIZES):
    """Random foreign tensors of a dialect, in its order, without making a student."""
    leaves = traverse_util.flatten_dict(FunctionalStudent(cfg).abstract())
    rng = np.random.default_rng(0)
    return {
        key: rng.normal(size=rule.foreign_shape(leaves[rule.path].shape)).astype(np.float32)
        for rule in student_rules(cfg, dialect)
        for key in rule.keys(leaves[rule.path].shape)
    }


@pytest.fixture
def folder(tmp_path):
    """A whole student under the original names, with its config."""
    made = tmp_path / "original"
    made.mkdir()
    save_file(tensors_of("original"), made / "model.safetensors")
    (made / "config.json").write_text(json.dumps(CONFIG_JSON))
    return made


RULES = {
    "stacked linear, two input axes": (
        Rule(("w",), "x.{layer}", "linear", 2),
        (3, 4, 5, 6),
        lambda t: np.stack([one.T.reshape(4, 5, 6) for one in t]),
    ),
    "linear, two output axes": (
        Rule(("w",), "x", "linear"),
        (7, 2, 3),
        lambda t: t[0].T.reshape(7, 2, 3),
    ),
    "conv": (Rule(("w",), "x", "conv"), (3, 3, 2, 5), lambda t: t[0].transpose(2, 3, 1, 0)),
    "stacked copy": (
        Rule(("w",), "x.{layer}"),
        (3, 4, 5),
        lambda t: np.stack([o.reshape(4, 5) for o in t]),
    ),
    "table": (Rule(("w",), "x"), (7, 3), lambda t: t[0]),
    "same": (Rule(("w",), "x", "same"), (3, 4, 5), lambda t: t[0]),
}


@pytest.mark.parametrize("limit", [1, 60, 10**6])
@pytest.mark.parametrize("name", RULES)
def test_blocks_cover_an_array_once_within_their_size(tmp_path, monkeypatch, name, limit):
    monkeypatch.setattr(rules, "BLOCK_BYTES", limit)
    rule, shape, expected = RULES[name]
    rng = np.random.default_rng(1)
    tensors = {k: rng.normal(size=rule.foreign_shape(shape)).astype("f4") for k in rule.keys(shape)}
    save_file(tensors, tmp_path / "w.safetensors")
    whole, count = np.full(shape, np.nan, np.float32), np.zeros(shape, int)
    flat = []
    for where, block in stream.read_blocks(Checkpoint(tmp_path / "w.safetensors"), rule, shape):
        one_row = block.nbytes // block.shape[1 if rule.stacked else 0]
        assert block.nbytes <= max(limit, one_row)
        whole[where] = block
        count[where] += 1
        flat.append(block.ravel())
    want = expected(list(tensors.values()))
    np.testing.assert_array_equal(count, 1)
    np.testing.assert_array_equal(whole, want)
    np.testing.assert_array_equal(np.concatenate(flat), want.ravel())  # in the order of its bytes


@pytest.mark.parametrize("limit", [100, 2**28])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_arrays_arrive_in_the_shards_of_a_mesh(tmp_path, monkeypatch, limit, dtype):
    """By both ways: put together on the host, or grown on the devices where it is too large."""
    monkeypatch.setattr(rules, "BLOCK_BYTES", limit)
    mesh = parallel.make_mesh((2, 2, 2))
    rule, shape = Rule(("w",), "x.{layer}", "linear"), (2, 4, 6, 5)
    rng = np.random.default_rng(2)
    tensors = {key: rng.normal(size=(30, 4)).astype(np.float32) for key in rule.keys(shape)}
    save_file(tensors, tmp_path / "w.safetensors")
    want = np.stack([one.T.reshape(4, 6, 5) for one in tensors.values()])
    sharding = NamedSharding(mesh, PartitionSpec(None, "fsdp", "tensor", None))
    leaf = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=sharding)
    found = stream.load_array(Checkpoint(tmp_path / "w.safetensors"), rule, leaf)
    assert found.sharding == sharding and found.dtype == dtype
    assert {shard.data.shape for shard in found.addressable_shards} == {(2, 2, 3, 5)}
    np.testing.assert_array_equal(np.asarray(found), want.astype(leaf.dtype))


def test_replicas_do_not_share_memory(tmp_path):
    """On the CPU a shard may be the host's memory; a donated step must not change its replica."""
    save_file({"x": np.ones((4, 64), np.float32)}, tmp_path / "w.safetensors")
    sharding = NamedSharding(parallel.make_mesh((8, 1, 1)), PartitionSpec())
    leaf = jax.ShapeDtypeStruct((4, 64), jnp.dtype("float32"), sharding=sharding)
    found = stream.load_array(Checkpoint(tmp_path / "w.safetensors"), Rule((), "x", "same"), leaf)
    addresses = {shard.data.unsafe_buffer_pointer() for shard in found.addressable_shards}
    assert len(addresses) == 8


def test_a_part_of_a_file_is_read_without_the_rest(tmp_path, monkeypatch):
    """A process reads what its own devices need: here the first of two devices is not its own."""
    monkeypatch.setattr(rules, "BLOCK_BYTES", 64)
    save_file({"x": np.arange(64, dtype=np.float32).reshape(16, 4)}, tmp_path / "w.safetensors")
    checkpoint, read = Checkpoint(tmp_path / "w.safetensors"), []
    original = checkpoint.read
    monkeypatch.setattr(checkpoint, "read", lambda *a: read.append(a[1][0]) or original(*a))
    mesh = parallel.make_mesh((1, 2, 1), jax.devices()[:2])
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    monkeypatch.setattr(
        NamedSharding,
        "addressable_devices_indices_map",
        lambda self, shape: {jax.devices()[1]: (slice(8, 16), slice(None))},
    )
    monkeypatch.setattr(jax, "make_array_from_single_device_arrays", lambda s, sh, shards: shards)
    leaf = jax.ShapeDtypeStruct((16, 4), jnp.dtype("float32"), sharding=sharding)
    (shard,) = stream.load_array(checkpoint, Rule((), "x", "same"), leaf)
    assert read == [slice(8, 12), slice(12, 16)]
    np.testing.assert_array_equal(shard, np.arange(32, 64).reshape(8, 4))


def _header_only(path, shapes):
    """A safetensors file of bfloat16 tensors with a real header and a hole instead of data."""
    header, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)


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
    _header_only(tmp_path / "model.safetensors", shapes)
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
    _header_only(tmp_path / "siglip.safetensors", siglip)
    _header_only(tmp_path / "qwen2.safetensors", qwen)
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
    _header_only(both[0], siglip)
    with pytest.raises(WeightsError) as caught:
        match_student(both, cfg, fresh)
    assert caught.value.problems == {
        "missing": ["vision_model.embeddings.patch_embedding.bias"],
        "unexpected": ["vision_model.surprise"],
        "misshapen": [
            "vision_model.embeddings.position_embedding.weight: (576, 1152) instead of (729, 1152)"
        ],
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_told_apart(dialect):
    assert guess_dialect(set(tensors_of(dialect))) == dialect


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


def test_written_file_is_what_safetensors_reads(tmp_path):
    rng = np.random.default_rng(3)
    want = {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "b/c": rng.normal(size=(5,)).astype(jnp.bfloat16),
    }
    specs = {name: (array.shape, array.dtype) for name, array in want.items()}
    write_safetensors(
        tmp_path / "w", specs, lambda name: (want[name][i : i + 2] for i in (0, 2, 4))
    )
    found = load_file(tmp_path / "w")
    assert list(found) == list(want)
    for name, array in want.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="a: 16 bytes, not 48"):
        write_safetensors(tmp_path / "v", specs, lambda name: iter([want[name][:1]]))
    assert sorted(os.listdir(tmp_path)) == ["w"]


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
from vqa_jax import convert
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
    _header_only(tmp_path / "model.safetensors", shapes)
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
