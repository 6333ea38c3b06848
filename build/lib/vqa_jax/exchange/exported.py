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
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vqa_jax.devices.execution import Execution, executing
from vqa_jax.errors import VqaError
from vqa_jax.exchange import student_io
from vqa_jax.jobs import fields
from vqa_jax.jobs.files import file_sha256
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
    """A student in an export, its parameters not yet read.

    `fingerprint` is that of the folder that it was made from, `tolerance` of its self-test.
    """

    folder: str
    form: str
    spec: StudentSpec
    anchors: AnchorSet | None
    fingerprint: str
    tolerance: float


def is_export(folder: str) -> bool:
    """Whether the folder is a finished export."""
    return os.path.exists(os.path.join(folder, MANIFEST))


def check_files(folder: str) -> dict[str, Any]:
    """The manifest, after every file in it was found to be as it was written.

    Raises:
      ExportError: a file is missing or has changed.
    """
    place = os.path.join(folder, MANIFEST)
    manifest = fields.read_object(place, ExportError)
    for name, digest in fields.part(manifest, "files", dict, place, ExportError).items():
        path = os.path.join(folder, name)
        if os.path.isabs(name) or ".." in name.split("/"):
            raise ExportError(f"{place}: files names {name[:80]!r}, which is not in the export")
        if not os.path.exists(path) or file_sha256(path) != digest:
            raise ExportError(f"{path} is missing or damaged: copy or export it again")
    return manifest


def read(folder: str) -> Exported:
    """Opens an export of format orbax or safetensors; `load_params` reads its parameters.

    Raises:
      ExportError: a file is damaged, or it is a program to be run without us.
    """
    manifest, place = check_files(folder), os.path.join(folder, MANIFEST)

    def part(raw: Any, name: str, kind: type) -> Any:
        return fields.part(raw, name, kind, place, ExportError)

    kind = part(manifest, "format", str)
    if kind == "stablehlo":
        raise ExportError(f"{folder} holds programs: run launch/serve_exported.py on it")
    model = part(manifest, "model", dict)
    tolerance = part(part(manifest, "selftest", dict), "selftest.atol", float)
    fingerprint = part(model, "model.fingerprint", str)
    spec = StudentSpec.from_dict(part(model, "model.spec", dict), place)
    anchors = AnchorSet.beside(os.path.join(folder, CALIBRATION), spec)
    return Exported(folder, kind, spec, anchors, fingerprint, tolerance)


def load_params(
    found: Exported, student: FunctionalStudent | None = None, run: Execution = Execution()
) -> Params:
    """Streams an export's parameters to where they belong, and runs its self-test.

    Args:
      found: by `read`.
      student: the spec's in another dtype, for which there is no self-test; None: the spec's.
      run: where it computes.

    Raises:
      ExportError: the self-test fails, or int8 is wanted of Orbax's files.
      WeightsError: keys do not fit.
    """
    student = student or FunctionalStudent(found.spec.student)
    folder, like = found.folder, student.placed(run)
    if found.form == "orbax" and student.cfg.is_int8:
        raise ExportError(
            f"{folder}: int8 is made of a student's folder, or of a safetensors export"
        )
    if found.form == "orbax":
        import orbax.checkpoint as ocp  # slow to import, and other students need none of it

        with ocp.StandardCheckpointer() as reader:
            params = reader.restore(os.path.abspath(os.path.join(folder, PARAMS)), like)
    else:
        params = student_io.load_params(folder, student.cfg, like=like)
    if student.cfg != found.spec.student:
        return params
    try:
        test = load_file(os.path.join(folder, SELFTEST))
        inputs, logits = [test[name] for name in INPUTS], test["logits"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        path = os.path.join(folder, SELFTEST)
        raise ExportError(f"{path} is damaged ({error}): copy or export it again") from error
    error = float(np.abs(level_logits(student, params, *inputs, run=run) - logits).max())
    if not error <= found.tolerance:
        raise ExportError(
            f"{folder}: the self-test is {error:.3g} off: this installation does not compute what "
            "the exporting one did"
        )
    return params


def level_logits(
    student: FunctionalStudent, params: Params, *inputs: np.ndarray, run: Execution = Execution()
) -> np.ndarray:
    """`Student.level_logits` of INPUTS: float32 [B, 5]."""

    def function(params: Params, *inputs: np.ndarray) -> jax.Array:
        with executing(run):
            return student.bind(params).level_logits(*inputs)

    return np.asarray(jax.jit(function)(params, *inputs))
