"""Students' folders that somebody damaged or forged: one line that names file and field, at once.

Each is made from one good folder by one change.
"""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.errors import VqaError
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.motion import extractor
from vqa_jax.scoring.anchors import ANCHOR_FILE, AnchorSet
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.weights import bundle

_HASHES = ("seal", "weights_sha256", "inputs_sha256")
DEEP = "[" * 100_000
PRE, VISION, LLM = "spec.preprocess.", "spec.student.vision.", "spec.student.llm."

# File, field (dots lead into objects), and the value that it gets; None takes it away.
VALUES = [
    ("student.json", "spec", None),
    ("student.json", "spec", []),
    ("student.json", "spec", "tiny"),
    ("student.json", "spec.preset", 3),
    ("student.json", "spec.student", None),
    ("student.json", "spec.student", 5),
    ("student.json", "spec.preprocess", None),
    ("student.json", "spec.preprocess", []),
    ("student.json", "spec.num_frames", 0),
    ("student.json", "spec.num_frames", -1),
    ("student.json", "spec.num_frames", 1e9),
    ("student.json", "spec.num_frames", 10**9),
    ("student.json", "spec.num_frames", "2"),
    ("student.json", "spec.extractor", None),
    ("student.json", "spec.extractor", {}),
    ("student.json", "spec.severity_simulators", "blur"),
    ("student.json", "spec.severity_simulators", [1]),
    ("student.json", "spec.colour", "red"),
    ("student.json", PRE + "num_tiles", 1e9),
    ("student.json", PRE + "num_tiles", 10**9),
    ("student.json", PRE + "num_tiles", -4),
    ("student.json", PRE + "num_tiles", True),
    ("student.json", PRE + "tile_size", 20_000),
    ("student.json", PRE + "tile_size", 4),
    ("student.json", PRE + "image_size", 0),
    ("student.json", PRE + "image_size", 10**8),
    ("student.json", PRE + "image_size", 20),
    ("student.json", PRE + "view", "circles"),
    ("student.json", PRE + "clip_len", 10**7),
    ("student.json", PRE + "motion_size", "56"),
    ("student.json", PRE + "max_clips", 10**30),
    ("student.json", PRE + "min_clips", 3),
    ("student.json", PRE + "max_key_frames", float("nan")),
    ("student.json", PRE + "unknown", 1),
    ("student.json", VISION + "num_layers", 10**9),
    ("student.json", VISION + "num_layers", [2]),
    ("student.json", VISION + "num_heads", 0),
    ("student.json", VISION + "num_heads", 5),
    ("student.json", VISION + "patch_size", 17),
    ("student.json", VISION + "patch_size", 0),
    ("student.json", VISION + "embed_dim", 10**12),
    ("student.json", VISION + "norm_eps", float("nan")),
    ("student.json", VISION[:-1], None),
    ("student.json", LLM + "num_kv_heads", 0),
    ("student.json", LLM + "num_kv_heads", 3),
    ("student.json", LLM + "head_dim", 7),
    ("student.json", LLM + "vocab_size", 1 << 40),
    ("student.json", LLM + "vocab_size", None),
    ("student.json", LLM + "rope_theta", float("inf")),
    ("student.json", LLM + "tie_embeddings", "no"),
    ("student.json", LLM + "unroll", 10**6),
    ("student.json", "spec.student.param_dtype", "float33"),
    ("student.json", "spec.student.compute_dtype", 4),
    ("student.json", "spec.student.motion_dim", 0),
    ("student.json", "spec.student.motion_scale", float("-inf")),
    ("anchors.json", "names", None),
    ("anchors.json", "names", "ab"),
    ("anchors.json", "names", ["a", "a"]),
    ("anchors.json", "names", ["a"]),
    ("anchors.json", "names", ["a", 2]),
    ("anchors.json", "scores", [1]),
    ("anchors.json", "scores", ["1", "2"]),
    ("anchors.json", "scores", [1, float("nan")]),
    ("anchors.json", "scores", [1, 1e300]),
    ("anchors.json", "scores", {}),
    ("anchors.json", "scale", None),
    ("anchors.json", "scale", 3),
    ("anchors.json", "arbitrary", "yes"),
    ("anchors.json", "extra", 1),
]
TEXTS = [
    (name, text)
    for name in ("student.json", "anchors.json", "tokenizer.json")
    for text in ("", "{", "[]", "null", DEEP, '{"a": ' + "1" * 5000 + "}")
]
TENSORS = [
    ("student.safetensors", "newline", None),
    ("student.safetensors", "newline", np.zeros(3, np.float32)),
    ("student.safetensors", "newline", np.zeros(32, np.int32)),
    ("student.safetensors", "stranger", np.zeros(1, np.float32)),
    ("anchors.safetensors", "0/frames", None),
    ("anchors.safetensors", "0/frames", np.zeros((1, 2, 16, 16, 3), np.float32)),
    ("anchors.safetensors", "0/frames", np.zeros((1, 2, 8, 8, 3), np.uint8)),
    ("anchors.safetensors", "0/frames", np.zeros((1, 0, 16, 16, 3), np.uint8)),
    ("anchors.safetensors", "0/frames", np.zeros((1, 9, 16, 16, 3), np.uint8)),
    ("anchors.safetensors", "0/frames", np.zeros((), np.uint8)),
    ("anchors.safetensors", "1/motion", np.zeros((2, 3), np.float32)),
    ("anchors.safetensors", "1/motion", np.full((1, tiny_corpus.MOTION_DIM), np.nan, np.float32)),
    ("anchors.safetensors", "9/motion", np.zeros((1, 1), np.float32)),
    ("slowfast.safetensors", "x", np.zeros(1, np.float32)),
    ("slowfast.safetensors", "blocks.0.multipathway_blocks.1.conv.weight", np.zeros((0,) * 5)),
    (
        "slowfast.safetensors",
        "blocks.0.multipathway_blocks.1.conv.weight",
        np.zeros((10**9, 0, 5, 7, 7), np.float32),
    ),
]
HEADERS = [
    b"",
    b"\xff" * 8,
    (1 << 60).to_bytes(8, "little") + b"{}",
    (20).to_bytes(8, "little") + b'{"newline": [1, 2]} ',
    (2).to_bytes(8, "little") + b"[]",
    (80).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}'.ljust(80),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> pathlib.Path:
    """A small student of a preset that brings its tokenizer; its weights are random."""
    folder = tmp_path_factory.mktemp("students") / "good"
    spec = dataclasses.replace(tiny_corpus.student_spec(), preset="own")
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        FunctionalStudent(spec.student).abstract(),
    )
    bundle.save(str(folder), spec, params, {"steps": 0})
    prompt.tiny_tokenizer().save(folder / "tokenizer.json")
    frames = np.zeros((1, 2, 16, 16, 3), np.uint8)
    video = VideoInput(frames, np.zeros((1, tiny_corpus.MOTION_DIM), np.float32))
    AnchorSet(("a", "b"), (video, video), (1.0, 2.0), "units", True).save(str(folder))
    for name in (bundle.CONFIG_FILE, ANCHOR_FILE):  # a forger takes the hashes away
        kept = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({k: v for k, v in kept.items() if k not in _HASHES}))
    loading.load(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path) -> pathlib.Path:
    """A copy to be damaged."""
    return pathlib.Path(shutil.copytree(good, tmp_path / "student"))


def _refused(folder: pathlib.Path, *words: str) -> str:
    with pytest.raises(VqaError) as caught:
        found = loading.load(folder)
        extractor.load_for(str(folder), found.spec)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "field", "value"), VALUES)
def test_a_field_that_cannot_be(name, field, value, folder):
    path = folder / name
    whole = json.loads(path.read_text())
    *outer, last = field.split(".")
    inner = whole
    for key in outer:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    path.write_text(json.dumps(whole))
    message = _refused(folder, str(path), last)
    assert "\n" not in message and len(message) < 600


@pytest.mark.parametrize(("name", "text"), TEXTS)
def test_a_text_that_is_no_object(name, text, folder):
    (folder / name).write_text(text)
    assert "\n" not in _refused(folder, str(folder / name))


@pytest.mark.parametrize(("name", "key", "value"), TENSORS)
def test_a_tensor_that_does_not_fit(name, key, value, folder):
    path = folder / name
    arrays = dict(load_file(path)) if path.exists() else {}
    arrays.pop(key, None)
    if value is not None:
        arrays[key] = value
    save_file(arrays, path)
    _refused(folder, str(path), key)


@pytest.mark.parametrize("data", HEADERS)
@pytest.mark.parametrize("name", ["student", "anchors", "slowfast"])
def test_a_header_that_lies(name, data, folder):
    path = folder / f"{name}.safetensors"
    path.write_bytes(data)
    _refused(folder, str(path))


@pytest.mark.parametrize("name", ["student.safetensors", "anchors.safetensors", "tokenizer.json"])
def test_a_file_that_is_cut_or_gone(name, folder):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-50])
    _refused(folder, str(path))
    path.unlink()
    _refused(folder, str(path))


def test_a_tokenizer_of_another_student(folder):
    whole = json.loads((folder / "student.json").read_text())
    whole["spec"]["student"]["llm"]["vocab_size"] = 20
    (folder / "student.json").write_text(json.dumps(whole))
    arrays = dict(load_file(folder / "student.safetensors"))
    for key in ("llm/embedding", "llm/head"):
        if key in arrays:
            axis = arrays[key].shape.index(64)
            arrays[key] = np.ascontiguousarray(np.take(arrays[key], range(20), axis))
    save_file(arrays, folder / "student.safetensors")
    _refused(folder, str(folder / "tokenizer.json"), "beyond the student's vocabulary of 20")
