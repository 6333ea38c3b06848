"""A student's folder: its spec, damage by name."""

import os
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.fixtures import tiny_corpus
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.weights import bundle


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
