"""`load`: the forms in which a student comes, each told by what its folder holds."""

from __future__ import annotations

import glob
import os

from flax import nnx
from jax.sharding import Mesh

from vqa_jax.devices import programs
from vqa_jax.exchange import exported, student_io
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.motion import extractor as motion_lib
from vqa_jax.scoring import anchors as scoring_anchors
from vqa_jax.scoring.predictor import MOTION_WEIGHTS, Path, Predictor
from vqa_jax.weights import bundle

PUBLISHED_NUM_FRAMES = 10  # key frames of a video that an official checkpoint is given at most


CONFIG_NAME = "config.json"  # of a published checkpoint


SHIPPED = os.path.join(os.path.dirname(__file__), "assets", "tiny_student")


def load(
    path: Path | None = None, *, anchors: Path | None = None, mesh: Mesh | None = None
) -> Predictor:
    """Loads a student.

    Args:
      path: a folder of ours (student.json), an export of one, or a checkpoint with the names of
        LLaVA-OneVision or of the authors (config.json and safetensors); None is the shipped tiny
        student.
      anchors: table of other anchors than its own (`Predictor.use_anchors`).
      mesh: devices that share every batch (`sharding.make_mesh`); default: one device.

    Raises:
      anchors.AnchorError: `anchors` cannot be used.
      bundle.BundleError: no student there.
      exported.ExportError: a damaged export.
      weights.WeightsError: the checkpoint's keys do not fit; all of them are listed.
    """
    programs.keep()
    found = _load(path, mesh)
    if anchors is not None:
        found.use_anchors(anchors)
    return found


def _load(path: Path | None, mesh: Mesh | None) -> Predictor:
    folder = os.fspath(path) if path is not None else SHIPPED
    if not os.path.isdir(folder):
        what = "is not a folder" if path is not None else "(the shipped student) is missing"
        raise bundle.BundleError(f"{folder} {what}: name a student's folder")
    if exported.is_export(folder):
        found = exported.read(folder)
        tokenizer = bundle.make_tokenizer(found.spec, folder)
        return Predictor(
            found.spec.student,
            found.params,
            found.fingerprint,
            found.spec,
            tokenizer,
            found.anchors,
            folder,
            mesh,
        )
    if not any(os.path.exists(os.path.join(folder, n)) for n in (bundle.CONFIG_FILE, CONFIG_NAME)):
        raise bundle.BundleError(
            f"{folder} holds no student (neither {bundle.CONFIG_FILE} nor {CONFIG_NAME}): "
            "name a student's folder"
        )
    if os.path.exists(os.path.join(folder, bundle.CONFIG_FILE)):
        spec = bundle.load_spec(folder)
        params = bundle.load_params(folder, FunctionalStudent(spec.student))
        anchors = None
        if os.path.exists(os.path.join(folder, scoring_anchors.ANCHOR_FILE)):
            anchors = scoring_anchors.AnchorSet.load(folder)
        return Predictor(
            spec.student,
            params,
            bundle.fingerprint(folder),
            spec,
            bundle.make_tokenizer(spec, folder),
            anchors,
            folder,
            mesh,
        )
    return _load_official(folder, mesh)


def _load_official(folder: str, mesh: Mesh | None) -> Predictor:
    student = student_io.load_student(folder)
    tokenizer = None
    if os.path.exists(os.path.join(folder, bundle.TOKENIZER_FILE)):
        tokenizer = Tokenizer.read(os.path.join(folder, bundle.TOKENIZER_FILE))
    anchors = None
    if os.path.exists(os.path.join(folder, scoring_anchors.ANCHOR_FILE)):
        anchors = scoring_anchors.AnchorSet.load(folder)
    spec = None
    extractor = os.path.join(folder, MOTION_WEIGHTS)
    if os.path.exists(extractor):
        preprocess = Preprocess(image_size=student.cfg.vision.image_size)
        wanted = motion_lib.load(extractor).fingerprint(preprocess)
        most = PUBLISHED_NUM_FRAMES
        spec = bundle.StudentSpec("", student.cfg, preprocess, most, wanted, ())
    params = nnx.to_pure_dict(nnx.state(student))
    fingerprint = bundle.files_fingerprint(sorted(glob.glob(os.path.join(folder, "*.safetensors"))))
    return Predictor(student.cfg, params, fingerprint, spec, tokenizer, anchors, folder, mesh)
