"""The auxiliary head of a student: kept, left out or fresh."""

import dataclasses

import jax
import numpy as np

from tests.fixtures import micro_student
from tests.fixtures.tiny_run import SPEC
from vqa_jax.models.functional import FunctionalStudent


def test_head_is_kept_left_out_or_fresh():
    heads = {classes: _with_head(classes) for classes in (0, 3, 6)}
    params = micro_student.drawn(heads[6].abstract())
    kept = heads[6].complete(params, 2)
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (kept, params)), strict=True))
    for classes, student in heads.items():
        fitted = student.complete(params, 2)
        shapes = jax.tree.map(np.shape, student.abstract())
        assert jax.tree.map(np.shape, fitted) == shapes, classes
        assert fitted["newline"] is params["newline"]


def _with_head(classes):
    return FunctionalStudent(dataclasses.replace(SPEC.student, num_severity_classes=classes))
