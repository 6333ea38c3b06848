"""A student's folder: its spec, damage by name."""

import dataclasses
import json
import os
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.fixtures import cell_student, tiny_corpus
from vqa_jax import loading
from vqa_jax.errors import VqaError
from vqa_jax.jobs import files
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.weights import bundle, towers


@pytest.fixture
def saved(tmp_path) -> str:
    """A small student's folder; its weights are random."""
    spec = tiny_corpus.student_spec()
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        FunctionalStudent(spec.student).abstract(),
    )
    folder = str(tmp_path / "saved")
    bundle.save(folder, spec, params, {"steps": 0})
    return folder


def test_a_spec_comes_back_from_its_folder_and_unknown_fields_do_not(saved):
    spec = tiny_corpus.student_spec()
    assert bundle.is_complete(saved) and bundle.load_spec(saved) == spec
    with pytest.raises(bundle.BundleError, match=r"at\.json: spec\.colour is no known field"):
        bundle.StudentSpec.from_dict({**spec.to_dict(), "colour": 1}, "at.json")


def test_students_from_before_qwen3_are_told_as_they_were(saved):
    """Else their files, and the runs that go on from them, would be others."""
    spec = bundle.load_spec(saved)
    assert "qk_norm" not in spec.to_dict()["student"]["llm"]
    assert not bundle.load_spec(loading.NAMED["tiny"]).student.llm.qk_norm
    llm = dataclasses.replace(spec.student.llm, qk_norm=True)
    newer = dataclasses.replace(spec, student=dataclasses.replace(spec.student, llm=llm))
    assert newer.to_dict()["student"]["llm"]["qk_norm"] is True
    assert bundle.StudentSpec.from_dict(json.loads(json.dumps(newer.to_dict())), "x") == newer


def test_sizes_must_be_known_and_fit_the_view():
    pre = tiny_corpus.PREPROCESS
    with pytest.raises(ValueError, match="unknown student 'huge'"):
        bundle.make_spec("huge", pre, 3, "")
    with pytest.raises(ValueError, match="ov_7b sees 384 px"):
        bundle.make_spec("ov_7b", pre, 3, "")
    made = bundle.make_spec("ov_7b", Preprocess(), 3, "", ("blur", "noise"), 5)
    assert made.student.num_severity_classes == 1 + 2 * 5


def test_damaged_bundles_are_named_with_every_problem(saved, tmp_path):
    student = FunctionalStudent(tiny_corpus.student_spec().student)
    folder = str(tmp_path / "student")
    shutil.copytree(saved, folder)
    path = os.path.join(folder, bundle.WEIGHTS_FILE)
    arrays = load_file(path)
    whole = bundle.fingerprint(folder)
    arrays["stranger"] = arrays.pop("newline")
    arrays["vision/patch_bias"] = np.zeros(3, np.float32)
    save_file(arrays, path)
    with pytest.raises(bundle.BundleError) as caught:
        bundle.load_params(folder, student)
    for problem in ("missing newline", "unexpected stranger", "vision/patch_bias is (3,)"):
        assert problem in str(caught.value)
    assert bundle.fingerprint(folder) != whole
    os.remove(path)
    with pytest.raises(bundle.BundleError, match="missing"):
        bundle.load_params(folder, student)
    with pytest.raises(bundle.BundleError, match="not a student"):
        bundle.load_spec(str(tmp_path))


def test_every_flipped_bit_is_noticed_or_changes_nothing(saved):
    student = FunctionalStudent(tiny_corpus.student_spec().student)
    before = jax.tree.map(np.asarray, bundle.load_params(saved, student))
    fingerprint = bundle.fingerprint(saved)
    rng = np.random.default_rng(0)
    for name in (bundle.WEIGHTS_FILE, bundle.CONFIG_FILE):
        path = os.path.join(saved, name)
        with open(path, "rb") as file:
            whole = file.read()
        for _ in range(20):
            damaged = bytearray(whole)
            damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
            with open(path, "wb") as file:
                file.write(damaged)
            try:
                assert bundle.load_spec(saved) == tiny_corpus.student_spec()
                found = bundle.load_params(saved, student)
                jax.tree.map(np.testing.assert_array_equal, found, before)
                assert name == bundle.CONFIG_FILE
            except (bundle.BundleError, files.CorpusError) as error:
                assert name in str(error)
        with open(path, "wb") as file:
            file.write(whole)
    assert bundle.fingerprint(saved) == fingerprint


def test_students_of_earlier_versions_are_used(saved, monkeypatch):
    """Their config tells no hash of the weights."""
    path = os.path.join(saved, bundle.CONFIG_FILE)
    facts = files.read_json(path)
    del facts["weights_sha256"]
    files.write_json(path, facts)
    told = []
    monkeypatch.setattr(bundle.logging, "info", lambda text, *a: told.append(text % a))
    bundle.load_params(saved, FunctionalStudent(tiny_corpus.student_spec().student))
    assert sum("unchecked" in text for text in told) == 1


def test_a_student_behind_a_shared_tower_is_kept_without_it(tmp_path):
    spec = cell_student.spec()
    student = FunctionalStudent(spec.student)
    params = cell_student.params(student)
    folder = str(tmp_path / "student")
    bundle.save(folder, spec, params, {"steps": 0})
    assert bundle.load_spec(folder) == spec
    path = os.path.join(folder, bundle.WEIGHTS_FILE)
    stored = load_file(path)
    assert {k for k in stored if k.startswith("vision/")} == {"vision/mean", "vision/scale"}
    jax.tree.map(np.testing.assert_array_equal, bundle.load_params(folder, student), params)
    save_file({**stored, "vision/network/head/bias": np.zeros(1280, np.float32)}, path)
    with pytest.raises(bundle.BundleError, match="unexpected vision/network/head/bias"):
        bundle.load_params(folder, student)
    save_file(stored, path)
    bundle.save_spec(folder, dataclasses.replace(spec, tower="0123456789abcdef"), {})
    with pytest.raises(VqaError, match=r"(?s)tower\.safetensors.*none is 0123.*Put the student's"):
        bundle.load_params(folder, student)


def test_a_shared_tower_is_named_by_those_who_have_one(tmp_path):
    spec, other = cell_student.spec(), tiny_corpus.student_spec()
    assert "tower" not in other.to_dict()  # as students before shared towers told themselves
    assert bundle.StudentSpec.from_dict(json.loads(json.dumps(spec.to_dict())), "f") == spec
    for wrong in ({**spec.to_dict(), "tower": ""}, {**other.to_dict(), "tower": "0123"}):
        with pytest.raises(bundle.BundleError, match=r"f: spec: tower is .* pretrained towers"):
            bundle.StudentSpec.from_dict(json.loads(json.dumps(wrong)), "f")
    made = bundle.make_spec("small", Preprocess(view="fit", image_size=512), 1, "")
    assert made.tower == spec.tower and made.student.tokens_per_frame == 4
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"another network")
    made = bundle.make_spec(
        "small", Preprocess(view="fit", image_size=512), 1, "", tower=str(other)
    )
    assert made.tower == towers.fingerprint(str(other)) != spec.tower
