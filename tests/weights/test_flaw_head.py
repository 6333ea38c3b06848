"""The auxiliary head in a file of its own."""

import dataclasses

import numpy as np
import pytest

from tests.fixtures import micro_student, tiny_corpus
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.weights import companions
from vqa_jax.weights.flaw_head import FlawHead, HeadError


def head(kinds=("a", "b"), levels=3, width=4):
    rng = np.random.default_rng(0)
    classes = 1 + len(kinds) * levels
    kernel = rng.normal(size=(width, classes)).astype(np.float32)
    return FlawHead(kernel, rng.normal(size=classes).astype(np.float32), kinds)


def test_it_comes_back_as_it_was(tmp_path):
    made = head()
    made.save(str(tmp_path))
    found = FlawHead.beside(str(tmp_path))
    assert found.simulators == ("a", "b") and found.levels == 3
    np.testing.assert_array_equal(found.kernel, made.kernel)
    np.testing.assert_array_equal(found.bias, made.bias)
    assert FlawHead.beside(str(tmp_path / "elsewhere")) is None


def test_it_is_found_among_the_weights_or_not_at_all():
    spec = tiny_corpus.student_spec()
    params = micro_student.drawn(FunctionalStudent(spec.student).abstract())
    found = FlawHead.of(params, spec)
    np.testing.assert_array_equal(found.kernel, params["severity_kernel"])
    assert (found.simulators, found.levels) == (spec.severity_simulators, 5)
    bare = dataclasses.replace(spec.student, num_severity_classes=0)
    assert FlawHead.of(params, dataclasses.replace(spec, student=bare)) is None


def test_a_damaged_file_or_one_that_does_not_fit_is_refused(tmp_path):
    head().save(str(tmp_path))
    path = tmp_path / companions.HEAD_FILE
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(HeadError, match="is damaged"):
        FlawHead.beside(str(tmp_path))
    for kinds, width in (((), 7), (("a", "b", "c", "d"), 7)):
        with pytest.raises(ValueError, match="do not fit"):
            FlawHead(np.zeros((2, width), np.float32), np.zeros(width, np.float32), kinds)
