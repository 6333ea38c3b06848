"""Reads an export back, and refuses it if it is not what was written.

manifest.json          model card, calibration, prompt, preprocessing, hashes of all files
selftest.safetensors   inputs and the level logits that they must give
calibration/           anchors, see `vqa_jax.scoring.anchors` (orbax, safetensors)
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import load_file

from vqa_jax.errors import VqaError
from vqa_jax.exchange.student_io import load_params
from vqa_jax.jobs.files import file_sha256, read_json
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.scoring.anchors import AnchorSet
from vqa_jax.weights.bundle import StudentSpec

MANIFEST, SELFTEST, CALIBRATION, PARAMS = (
    "manifest.json",
    "selftest.safetensors",
    "calibration",
    "params",
)
INPUTS = ("frames", "motion", "tokens", "answer_pos", "level_ids")  # of the self-test, in order


class ExportError(VqaError):
    """An export cannot be made or used; the message names the file and the remedy."""


class Exported(NamedTuple):
    """A student from an export; `fingerprint` is that of the folder that it was made from."""

    spec: StudentSpec
    params: Params
    anchors: AnchorSet | None
    fingerprint: str


def is_export(folder: str) -> bool:
    """Whether the folder is a finished export."""
    return os.path.exists(os.path.join(folder, MANIFEST))


def check_files(folder: str) -> dict[str, Any]:
    """The manifest, after every file in it was found to be as it was written.

    Raises:
      ExportError: a file is missing or has changed.
    """
    manifest = read_json(os.path.join(folder, MANIFEST))
    for name, digest in manifest["files"].items():
        path = os.path.join(folder, name)
        if not os.path.exists(path) or file_sha256(path) != digest:
            raise ExportError(f"{path} is missing or damaged: copy or export it again")
    return manifest


def read(folder: str) -> Exported:
    """Loads an export of format orbax or safetensors, and runs its self-test.

    Raises:
      ExportError: a file is damaged, the self-test fails, or it is a program to be run without us.
    """
    manifest = check_files(folder)
    if manifest["format"] == "stablehlo":
        raise ExportError(f"{folder} holds programs: run launch/serve_exported.py on it")
    spec = StudentSpec.from_dict(manifest["model"]["spec"])
    student = FunctionalStudent(spec.student)
    if manifest["format"] == "orbax":
        import orbax.checkpoint as ocp  # slow to import, and other students need none of it

        with ocp.StandardCheckpointer() as reader:
            place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            like = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), student.abstract()
            )
            params = reader.restore(os.path.abspath(os.path.join(folder, PARAMS)), like)
    else:
        params = load_params(folder, spec.student)
    test = load_file(os.path.join(folder, SELFTEST))
    found = level_logits(student, params, *(test[name] for name in INPUTS))
    error = float(np.abs(found - test["logits"]).max())
    if not error <= manifest["selftest"]["atol"]:
        raise ExportError(
            f"{folder}: the self-test is {error:.3g} off: this installation does not compute what "
            "the exporting one did"
        )
    anchors = AnchorSet.beside(os.path.join(folder, CALIBRATION))
    return Exported(spec, params, anchors, manifest["model"]["fingerprint"])


def level_logits(student: FunctionalStudent, params: Params, *inputs: np.ndarray) -> np.ndarray:
    """`Student.level_logits` of INPUTS: float32 [B, 5]."""
    function = jax.jit(lambda params, *inputs: student.bind(params).level_logits(*inputs))
    return np.asarray(function(params, *inputs))
