"""Checkpoints as one table of keys: shards, what an index promises, parts of a tensor."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from vqa_jax.weights.reader import INDEX_NAME, Checkpoint, WeightsError


@pytest.fixture
def folder(tmp_path):
    """Three tensors in two shards, one of them in both."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    save_file({"x": x, "y": x[0]}, tmp_path / "1.safetensors")
    save_file({"z": x.astype(ml_dtypes.bfloat16), "y": x[0]}, tmp_path / "2.safetensors")
    return tmp_path


def test_shards_of_a_folder_are_one_table(folder):
    checkpoint = Checkpoint(folder)
    assert checkpoint.shapes == {"x": (3, 4), "y": (4,), "z": (3, 4)}
    assert checkpoint.duplicates == ["y"] and checkpoint.absent == checkpoint.unindexed == []
    assert [checkpoint.nbytes(key) for key in "xyz"] == [48, 16, 24]
    assert checkpoint.read("z").dtype == ml_dtypes.bfloat16
    part = checkpoint.read("x", (slice(1, 3), slice(0, 2)))
    np.testing.assert_array_equal(part, [[4, 5], [8, 9]])


def test_an_index_says_which_keys_there_must_be(folder):
    where = {"x": "1.safetensors", "z": "2.safetensors", "w": "2.safetensors"}
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": where}))
    checkpoint = Checkpoint(folder)
    assert (checkpoint.absent, checkpoint.unindexed) == (["w"], ["y"])
    where["w"] = "3.safetensors"
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": where}))
    with pytest.raises(WeightsError, match=r"3\.safetensors"):
        Checkpoint(folder)


def test_what_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"not a checkpoint")
    for path, words in (
        (tmp_path / "model.pth", "pickle"),
        (tmp_path / "a.safetensors", "unreadable"),
        (tmp_path / "none.safetensors", "missing files"),
        (tmp_path / "empty", r"no \*\.safetensors file"),
    ):
        if path.name == "empty":
            path.mkdir()
        with pytest.raises(WeightsError, match=words) as caught:
            Checkpoint(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ([], "no object"),
        ({}, "weight_map is missing"),
        ({"weight_map": []}, "weight_map is a list of 0"),
        ({"weight_map": {"x": 3}}, r"weight_map\.x names no file"),
        ({"weight_map": {"x": "../1.safetensors"}}, r"weight_map\.x names no file"),
        ({"weight_map": {"x": "/1.safetensors"}}, r"weight_map\.x names no file"),
    ],
)
def test_an_index_that_names_no_files_of_its_folder(folder, index, words):
    (folder / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=words) as caught:
        Checkpoint(folder)
    assert INDEX_NAME in str(caught.value) and "\n" not in str(caught.value)
