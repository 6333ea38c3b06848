"""Shared towers: found by what is in their file, beside a student or in the package."""

import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.fixtures import cell_student, tiny_corpus
from vqa_jax.errors import VqaError
from vqa_jax.models.cell_tower import CellTowerConfig
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.weights import towers
from vqa_jax.weights.reader import WeightsError

SPEC = cell_student.spec()


@pytest.fixture(scope="module")
def student() -> FunctionalStudent:
    return FunctionalStudent(SPEC.student)


def _changed(folder, change) -> str:
    """Writes another tower beside a student; returns its fingerprint."""
    arrays = load_file(towers.shipped_path(0))
    change(arrays)
    path = os.path.join(folder, towers.TOWER_FILE)
    save_file(arrays, path)
    return towers.fingerprint(path)


def test_a_fingerprint_is_of_the_bytes_wherever_they_lie(tmp_path):
    copy = shutil.copyfile(towers.shipped_path(0), tmp_path / "copy")
    assert towers.fingerprint(copy) == towers.shipped(CellTowerConfig()) == SPEC.tower
    with open(copy, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(copy, ns=(0, 0))  # written within one tick of the clock, perhaps
    assert towers.fingerprint(copy) != SPEC.tower
    assert towers.shipped(tiny_corpus.student_spec().student.vision) == ""


def test_the_shipped_tower_is_read_whole(student):
    found = towers.load(student, SPEC.tower)
    stored = load_file(towers.shipped_path(0))
    network = found["vision"]["network"]
    assert len(stored) > 90
    for name in ("stem/kernel", "stages/6/0/project/bias", "head/kernel"):
        leaf = network
        for part in name.split("/"):
            leaf = leaf[int(part) if part.isdigit() else part]
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, stored[name].astype(np.float32))


def test_a_tower_beside_the_student_is_taken_if_it_is_the_one(student, tmp_path):
    def louder(arrays):
        arrays["head/bias"] = arrays["head/bias"] + np.ones_like(arrays["head/bias"])

    wanted = _changed(tmp_path, louder)
    biases = [
        towers.load(student, fingerprint, str(tmp_path))["vision"]["network"]["head"]["bias"]
        for fingerprint in (wanted, SPEC.tower)
    ]
    np.testing.assert_allclose(biases[0] - biases[1], 1, rtol=0, atol=1e-2)


def test_missing_and_misfitting_towers_say_what_to_do(student, tmp_path):
    with pytest.raises(
        WeightsError, match=r"(?s)tower\.safetensors.*none is 0123.*Put the student's"
    ):
        towers.load(student, "0123456789abcdef", str(tmp_path))
    wanted = _changed(tmp_path, lambda arrays: arrays.pop("head/bias"))
    with pytest.raises(
        VqaError, match=r"(?s)tower\.safetensors.*head/bias.*belongs to the student"
    ):
        towers.load(student, wanted, str(tmp_path))


def test_a_student_without_its_tower_and_the_tower_are_the_student(student):
    own = cell_student.params(student, tower=False)
    tower = towers.load(student, SPEC.tower)
    whole = towers.joined(own, tower)
    assert set(whole["vision"]) == {"mean", "scale", "network"}
    assert whole["vision"]["network"] is tower["vision"]["network"]
    again = towers.without(whole)
    assert set(again["vision"]) == {"mean", "scale"} and again["llm"] is own["llm"]
    assert "network" in whole["vision"]  # nothing was taken from what was given
