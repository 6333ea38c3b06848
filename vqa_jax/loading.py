"""`load`: the forms in which a student comes, each told by what its folder holds.

`score` and `compare` are those of the shipped student. All three are names of `vqa_jax` itself.
"""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Sequence

from flax import nnx
from jax.sharding import Mesh

from vqa_jax.devices import programs
from vqa_jax.exchange import exported, student_io
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.motion import extractor
from vqa_jax.scoring.anchors import AnchorSet
from vqa_jax.scoring.predictor import Path, Predictor, Video
from vqa_jax.scoring.results import PairResult, Result
from vqa_jax.settings import ScoreConfig
from vqa_jax.weights import bundle, companions

PUBLISHED_NUM_FRAMES = 10  # key frames of a video that an official checkpoint is given at most
CONFIG_NAME = "config.json"  # of a published checkpoint
DEFAULT = "small"
NAMED = {
    name: os.path.join(os.path.dirname(__file__), "assets", f"{name}_student")
    for name in (DEFAULT, "tiny")
}
"""The students that ship, by the name that `load` and `--student` take."""
SHIPPED = NAMED[DEFAULT]


def load(
    path: Path | None = None, *, anchors: Path | None = None, mesh: Mesh | None = None
) -> Predictor:
    """Loads a student.

    Args:
      path: a folder of ours (student.json), an export of one, or a checkpoint with the names of
        LLaVA-OneVision or of the authors (config.json and safetensors); one of `NAMED`, where there
        is no folder of that name; None is the shipped student.
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


def score(
    videos: Video | Sequence[Video], config: ScoreConfig | None = None, *, fps: float | None = None
) -> Result | list[Result]:
    """Scores one video, or several in order, with the shipped student; see `Predictor.score`.

    Args:
      videos: a file or frames uint8 RGB [T, H, W, 3], or a sequence of such.
      config: how to score; default: every anchor, one order, solved exactly.
      fps: frames a second of what is given as frames.

    Returns:
      A Result, or one a video. A file that cannot be used has an `error` in place of a score.

    Raises:
      view.FramesError: frames that are no video, or without fps.
    """
    return _shipped(SHIPPED).score(videos, config, fps=fps)


def compare(first: Video, second: Video, *, fps: float | None = None) -> PairResult:
    """Tells by the shipped student which of two videos is better; see `Predictor.compare`.

    Args:
      first, second: files, or frames uint8 RGB [T, H, W, 3].
      fps: frames a second of what is given as frames.

    Raises:
      MediaError: a file cannot be used.
      view.FramesError: frames that are no video, or without fps.
    """
    return _shipped(SHIPPED).compare(first, second, fps=fps)


@functools.lru_cache(maxsize=1)
def _shipped(folder: str) -> Predictor:
    return load(folder)


def _load(path: Path | None, mesh: Mesh | None) -> Predictor:
    folder = os.fspath(path) if path is not None else SHIPPED
    if not os.path.exists(folder):
        folder = NAMED.get(folder, folder)
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
    if bundle.is_complete(folder):
        spec = bundle.load_spec(folder)
        return Predictor(
            spec.student,
            bundle.load_params(folder, FunctionalStudent(spec.student)),
            bundle.fingerprint(folder),
            spec,
            bundle.make_tokenizer(spec, folder),
            AnchorSet.beside(folder, spec),
            folder,
            mesh,
        )
    if os.path.exists(os.path.join(folder, CONFIG_NAME)):
        return _load_official(folder, mesh)
    raise bundle.BundleError(
        f"{folder} holds no student (neither {bundle.CONFIG_FILE} nor {CONFIG_NAME}): "
        "name a student's folder"
    )


def _load_official(folder: str, mesh: Mesh | None) -> Predictor:
    student = student_io.load_student(folder)
    tokenizer = None
    if os.path.exists(os.path.join(folder, companions.TOKENIZER_FILE)):
        tokenizer = Tokenizer.read(os.path.join(folder, companions.TOKENIZER_FILE))
    spec = None
    if weights := companions.motion_beside(folder):
        preprocess = Preprocess(image_size=student.cfg.vision.image_size)
        wanted = extractor.load_extractor(weights).fingerprint(preprocess)
        most = PUBLISHED_NUM_FRAMES
        spec = bundle.StudentSpec("", student.cfg, preprocess, most, wanted, ())
    params = nnx.to_pure_dict(nnx.state(student))
    fingerprint = bundle.files_fingerprint(sorted(glob.glob(os.path.join(folder, "*.safetensors"))))
    anchors = AnchorSet.beside(folder, spec)
    return Predictor(student.cfg, params, fingerprint, spec, tokenizer, anchors, folder, mesh)
