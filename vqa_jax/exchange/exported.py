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

from vqa_jax.errors import VqaError
from vqa_jax.exchange.student_io import load_params
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
    """Loads an export of format orbax or safetensors, and runs its self-test.

    Raises:
      ExportError: a file is damaged, the self-test fails, or it is a program to be run without us.
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
    student = FunctionalStudent(spec.student)
    if kind == "orbax":
        import orbax.checkpoint as ocp  # slow to import, and other students need none of it

        with ocp.StandardCheckpointer() as reader:
            place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            like = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), student.abstract()
            )
            params = reader.restore(os.path.abspath(os.path.join(folder, PARAMS)), like)
    else:
        params = load_params(folder, spec.student)
    try:
        test = load_file(os.path.join(folder, SELFTEST))
        inputs, logits = [test[name] for name in INPUTS], test["logits"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        path = os.path.join(folder, SELFTEST)
        raise ExportError(f"{path} is damaged ({error}): copy or export it again") from error
    found = level_logits(student, params, *inputs)
    error = float(np.abs(found - logits).max())
    if not error <= tolerance:
        raise ExportError(
            f"{folder}: the self-test is {error:.3g} off: this installation does not compute what "
            "the exporting one did"
        )
    anchors = AnchorSet.beside(os.path.join(folder, CALIBRATION), spec)
    return Exported(spec, params, anchors, fingerprint)


def level_logits(student: FunctionalStudent, params: Params, *inputs: np.ndarray) -> np.ndarray:
    """`Student.level_logits` of INPUTS: float32 [B, 5]."""
    function = jax.jit(lambda params, *inputs: student.bind(params).level_logits(*inputs))
    return np.asarray(function(params, *inputs))
