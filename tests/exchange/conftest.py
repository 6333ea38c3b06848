"""Students that go in, and exports that come out."""

import dataclasses
import json
import pathlib

import jax.export
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.fixtures import tiny_corpus
from tests.fixtures.foreign_student import CONFIG_JSON, tensors_of
from vqa_jax import loading
from vqa_jax.exchange import export
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.models.student import Student
from vqa_jax.weights import bundle


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """A small student's folder without anchors, with low-rank additions that are not zero."""
    spec = tiny_corpus.student_spec()
    cfg = with_additions(spec.student, 2)
    spec = dataclasses.replace(spec, student=dataclasses.replace(cfg, motion_scale=3.0))
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32),
        FunctionalStudent(spec.student).abstract(),
    )
    folder = str(tmp_path_factory.mktemp("untrained"))
    bundle.save(folder, spec, params, {"steps": 0})
    return folder


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """The shipped student as programs."""
    pytest.importorskip("flatbuffers")  # pinned: an older .venv lacks it
    out = str(tmp_path_factory.mktemp("programs"))
    export.export(loading.NAMED["tiny"], out, "stablehlo")
    return out


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """A whole student under the original names, with its config."""
    made = tmp_path / "original"
    made.mkdir()
    save_file(tensors_of("original"), made / "model.safetensors")
    (made / "config.json").write_text(json.dumps(CONFIG_JSON))
    return made


@pytest.fixture(scope="session")
def student(micro_student) -> Student:
    return micro_student
