"""`load`: the forms in which a student comes, each told by what its folder holds.

`score` and `compare` are those of the shipped student. All three are names of `vqa_jax` itself.
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jax.sharding import Mesh

from vqa_jax.devices import programs
from vqa_jax.devices.execution import Execution
from vqa_jax.exchange import exported, student_io
from vqa_jax.exchange.sizes import student_config
from vqa_jax.jobs import places
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models import int8
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import StudentConfig
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.motion import extractor
from vqa_jax.scoring import placement
from vqa_jax.scoring.anchors import AnchorSet
from vqa_jax.scoring.predictor import Path, Predictor, Video
from vqa_jax.scoring.results import PairResult, Result
from vqa_jax.settings import KEPT_DTYPES, SCORING_DTYPES, ScoreConfig, SettingsError
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
    path: Path | None = None,
    *,
    anchors: Path | None = None,
    mesh: Mesh | Sequence[int] | None = None,
    attention: str = "auto",
    dtype: str | None = None,
    batch_size: int | None = None,
    cache_dtype: str | None = None,
) -> Predictor:
    """Loads a student; its weights are streamed to the devices that hold them.

    Args:
      path: a folder of ours (student.json), an export of one, or a checkpoint with the names of
        LLaVA-OneVision or of the authors (config.json and safetensors); one of `NAMED`, where there
        is no folder of that name; None is the shipped student. At a URL (s3://, gs://): a copy of
        what it holds now (`jobs.places`).
      anchors: table of other anchors than its own (`Predictor.use_anchors`).
      mesh: how many devices share data, fsdp and tensor, or the mesh itself; None: all local
        devices, by the rule of `scoring.placement`.
      attention: "auto", the platform's kernel, or another of `settings.ATTENTION_KINDS`.
      dtype: of weights and arithmetic, one of `settings.SCORING_DTYPES`; None: the student's own.
        "int8" is for its layers, all else stays in the student's own. Scores by another one differ,
        and `Result.model` says so.
      batch_size: groups of frames, or pairs, in one call of all devices; None: 32, or the next
        number that they can share.
      cache_dtype: of the anchors' keys and values, "int8" or None, the arithmetic's; scores differ
        and say so, as with `dtype`.

    Raises:
      anchors.AnchorError: `anchors` cannot be used.
      bundle.BundleError: no student there.
      exported.ExportError: a damaged export.
      stores.PlaceError: a URL cannot be read.
      settings.SettingsError: there are no such devices, or they cannot share a batch.
      weights.WeightsError: the checkpoint's keys do not fit; all of them are listed.
    """
    programs.keep()
    if dtype not in (None, *SCORING_DTYPES):
        raise SettingsError(f"dtype {dtype!r}: one of {', '.join(SCORING_DTYPES)}")
    if cache_dtype not in (None, *KEPT_DTYPES):
        raise SettingsError(f"cache_dtype {cache_dtype!r}: one of {', '.join(KEPT_DTYPES)}")
    if batch_size is not None and batch_size < 1:
        raise SettingsError(f"batch_size {batch_size} starts at 1")
    found = _find(path)
    cfg, spec, fingerprint = found.cfg, found.spec, found.fingerprint
    compute = cfg.compute_dtype if dtype == int8.DTYPE else dtype
    if dtype and (cfg.param_dtype, cfg.compute_dtype) != (dtype, compute):
        cfg = dataclasses.replace(cfg, param_dtype=dtype, compute_dtype=compute)
        spec = dataclasses.replace(spec, student=cfg) if spec else None
        fingerprint = f"{fingerprint}-{dtype}"
    if cache_dtype:
        fingerprint = f"{fingerprint}-cache_{cache_dtype}"
    wanted = placement.need(cfg, spec, found.tokenizer, found.anchors, cache_dtype)
    run = placement.execution(mesh, attention, wanted, batch_size or 0)
    student = FunctionalStudent(cfg)
    predictor = Predictor(
        student,
        found.read(student, run),
        fingerprint,
        spec,
        found.tokenizer,
        found.anchors,
        found.folder,
        run,
        batch_size,
        cache_dtype,
    )
    if anchors is not None:
        predictor.use_anchors(anchors)
    return predictor


def score(
    videos: Video | Sequence[Video], config: ScoreConfig | None = None, *, fps: float | None = None
) -> Result | list[Result]:
    """Scores one video, or several in order, with the shipped student; see `Predictor.score`.

    Args:
      videos: one, or a sequence: encoded (a path, URL, open binary file or bytes), or frames uint8
        RGB [T, H, W, 3]; an array [B, T, H, W, 3] is a sequence of those.
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
      first, second: encoded, or frames, as for `score`.
      fps: frames a second of what is given as frames.

    Raises:
      MediaError: a file cannot be used.
      view.FramesError: frames that are no video, or without fps.
    """
    return _shipped(SHIPPED).compare(first, second, fps=fps)


@functools.lru_cache(maxsize=1)
def _shipped(folder: str) -> Predictor:
    return load(folder)


class _Found(NamedTuple):
    """A student on disk; `read(student, run)` streams its parameters to where `run` computes."""

    cfg: StudentConfig
    spec: bundle.StudentSpec | None
    tokenizer: Tokenizer | None
    anchors: AnchorSet | None
    fingerprint: str
    folder: str
    read: Callable[[FunctionalStudent, Execution], Params]


def _find(path: Path | None) -> _Found:
    folder = places.staged(os.fspath(path)) if path is not None else SHIPPED
    if not os.path.exists(folder):
        folder = NAMED.get(folder, folder)
    if not os.path.isdir(folder):
        what = "is not a folder" if path is not None else "(the shipped student) is missing"
        raise bundle.BundleError(f"{folder} {what}: name a student's folder")
    if exported.is_export(folder):
        export = exported.read(folder)
        return _Found(
            export.spec.student,
            export.spec,
            bundle.make_tokenizer(export.spec, folder),
            export.anchors,
            export.fingerprint,
            folder,
            functools.partial(exported.load_params, export),
        )
    if bundle.is_complete(folder):
        spec = bundle.load_spec(folder)
        return _Found(
            spec.student,
            spec,
            bundle.make_tokenizer(spec, folder),
            AnchorSet.beside(folder, spec),
            bundle.fingerprint(folder),
            folder,
            lambda student, run: bundle.load_params(folder, student, student.placed(run)),
        )
    if os.path.exists(os.path.join(folder, CONFIG_NAME)):
        return _find_official(folder)
    raise bundle.BundleError(
        f"{folder} holds no student (neither {bundle.CONFIG_FILE} nor {CONFIG_NAME}): "
        "name a student's folder"
    )


def _find_official(folder: str) -> _Found:
    cfg = student_config(folder)
    tokenizer = None
    if os.path.exists(os.path.join(folder, companions.TOKENIZER_FILE)):
        tokenizer = Tokenizer.read(os.path.join(folder, companions.TOKENIZER_FILE))
    spec = None
    if weights := companions.motion_beside(folder):
        preprocess = Preprocess(image_size=cfg.vision.image_size)
        wanted = extractor.load_extractor(weights).fingerprint(preprocess)
        spec = bundle.StudentSpec("", cfg, preprocess, PUBLISHED_NUM_FRAMES, wanted, ())
    return _Found(
        cfg,
        spec,
        tokenizer,
        AnchorSet.beside(folder, spec),
        bundle.files_fingerprint(sorted(glob.glob(os.path.join(folder, "*.safetensors")))),
        folder,
        lambda student, run: student_io.load_params(folder, student.cfg, like=student.placed(run)),
    )
