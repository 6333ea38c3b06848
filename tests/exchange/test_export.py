"""Exports: each loads again to the bit, scores as the student does, and refuses damage."""

import os

import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file

from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.exchange import export, exported, llava_folder
from vqa_jax.exchange.sizes import student_config
from vqa_jax.exchange.student_io import load_params
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.weights import bundle


def wanted(folder):
    """What an export of `folder` must hold: merged, without the auxiliary head."""
    spec = bundle.load_spec(folder)
    student = FunctionalStudent(spec.student)
    params = student.merge(bundle.load_params(folder, student))
    return {
        path: np.asarray(value)
        for path, value in traverse_util.flatten_dict(params).items()
        if not path[0].startswith("severity_")
    }


def assert_same(params, want):
    found = {k: np.asarray(v) for k, v in traverse_util.flatten_dict(params).items()}
    assert found.keys() == want.keys()
    for path, value in want.items():
        assert found[path].dtype == value.dtype
        np.testing.assert_array_equal(found[path], value, err_msg=str(path))


@pytest.mark.parametrize(
    ("form", "names"), [("orbax", "hf"), ("safetensors", "hf"), ("safetensors", "original")]
)
def test_parameters_come_back_to_the_bit(untrained, tmp_path, form, names):
    out = str(tmp_path / "out")
    export.export(untrained, out, form, names)
    assert_same(exported.read(out).params, wanted(untrained))
    if form == "safetensors":  # also without the manifest, by what the files themselves say
        cfg = student_config(out)
        assert cfg.motion_scale == 3.0 and cfg.motion_dim == tiny_corpus.MOTION_DIM
        assert_same(load_params(out), wanted(untrained))
        others = load_file(os.path.join(out, llava_folder.MODEL_FILE))
        assert not any("slowfast" in key for key in others)
    if form == "orbax":  # once: it is the sum of the additions that changes rounding
        loaded, before = loading.load(out), loading.load(untrained)
        frames = [tiny_corpus.tiles(0, level)[:1, 2:18, 2:18] for level in (0, 3)]
        features = [np.ones((1, tiny_corpus.MOTION_DIM), np.float32)] * 2
        found, want = (p.level_logits(frames, features) for p in (loaded, before))
        np.testing.assert_allclose(found, want, atol=1e-4)
        assert loaded.fingerprint == before.fingerprint
