"""Scores for videos, from Python.

from vqa_jax import predictor
p = predictor.load()                # the shipped tiny student
p.score("clip.mp4")                 # -> Result(path=..., score=..., std=..., ...)
"""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from vqa_jax import anchors as anchors_lib
from vqa_jax import bundle, exported, prompt
from vqa_jax import frames as frames_lib
from vqa_jax import motion as motion_lib
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import StudentConfig
from vqa_jax.scoring import EncodedVideo, Engine, video_input
from vqa_jax.weights import student_io

MOTION_WEIGHTS = "slowfast.safetensors"
PUBLISHED_NUM_FRAMES = 10  # key frames of a video that an official checkpoint is given at most
CONFIG_NAME = "config.json"  # of a published checkpoint
SHIPPED = os.path.join(os.path.dirname(__file__), "assets", "tiny_student")


@dataclasses.dataclass(frozen=True)
class Result:
    """One video's score, or the reason why there is none (never both).

    Attributes:
      path: as given.
      score: on the anchors' scale, higher is better.
      std: posterior standard deviation, in the score's units.
      q, q_std: Thurstone score and its std.
      extrapolated: the video lies beyond the anchors, the score continues linearly.
      scale: what the scale is, its direction, and whether it is arbitrary.
      model: fingerprint of the student.
      error: why the file cannot be scored.
    """

    path: str
    score: float | None = None
    std: float | None = None
    q: float | None = None
    q_std: float | None = None
    extrapolated: bool | None = None
    scale: str = ""
    model: str = ""
    error: str | None = None


class Predictor:
    """A student ready to compare and score videos; made by `load`."""

    def __init__(
        self,
        cfg: StudentConfig,
        params: Params,
        fingerprint: str,
        spec: bundle.StudentSpec | None = None,
        tokenizer: Any = None,
        anchors: anchors_lib.AnchorSet | None = None,
        folder: str = "",
    ):
        self.fingerprint, self.spec = fingerprint, spec
        self._student, self._params, self.tokenizer = FunctionalStudent(cfg), params, tokenizer
        self._anchors, self._folder = anchors, folder
        self._scale: anchors_lib.Scale | None = None
        self._engine: Engine | None = None
        self._extractor: motion_lib.MotionExtractor | None = None
        self._level_logits = jax.jit(lambda p, *inputs: self._student.bind(p).level_logits(*inputs))

    @property
    def engine(self) -> Engine:
        """The inference engine.

        Raises:
          bundle.BundleError: the student came without preprocessing or tokenizer.
        """
        if self._engine is None:
            if self.spec is None or self.tokenizer is None:
                raise bundle.BundleError(
                    "this model's folder has no student.json or tokenizer: only level_logits works"
                )
            self._engine = Engine(self._student, self._params, self.spec, self.tokenizer)
        return self._engine

    @property
    def scale(self) -> anchors_lib.Scale:
        """The anchors' scale.

        Raises:
          anchors_lib.AnchorError: the student has no anchors.
        """
        if self._scale is None:
            if self._anchors is None:
                raise anchors_lib.AnchorError(
                    "this student has no anchors: run `python -m vqa_jax anchors` for it"
                )
            self._scale = anchors_lib.Scale(self.engine, self._anchors)
        return self._scale

    def level_logits(
        self,
        frames: tuple[np.ndarray, np.ndarray],
        motion: tuple[np.ndarray, np.ndarray],
        input_ids: Sequence[int] | None = None,
        level_ids: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Level logits [5] of one pair, inferior..superior, of the second against the first.

        Args:
          frames: two arrays uint8 [F, S, S, 3] at the model's size.
          motion: two arrays float32 [M, Dm].
          input_ids: prompt ids with four -200 placeholders; default: the scoring prompt.
          level_ids: token ids of the five levels; default: the tokenizer's.

        Raises:
          bundle.BundleError: ids are left out and the model has no tokenizer.
        """
        if (input_ids is None or level_ids is None) and self.tokenizer is None:
            raise bundle.BundleError("no tokenizer beside the model: give input_ids and level_ids")
        ids = list(prompt.scoring_ids(self.tokenizer) if input_ids is None else input_ids)
        levels = prompt.level_ids(self.tokenizer) if level_ids is None else list(level_ids)
        per_frame = self._student.cfg.tokens_per_frame
        most_frames = max(len(f) for f in frames)
        most_motion = max(len(m) for m in motion)
        row = prompt.layout(
            ids,
            [len(f) * per_frame for f in frames],
            [len(m) for m in motion],
            prompt.Bank(most_frames * per_frame, most_motion),
        )
        padded = [_pad(f, most_frames) for f in frames]
        features = [_pad(np.asarray(m, np.float32), most_motion) for m in motion]
        return np.asarray(
            self._level_logits(
                self._params,
                np.stack(padded)[None],
                np.stack(features)[None],
                row.tokens[None],
                row.answer_pos[None],
                np.asarray(levels, np.int32),
            )
        )[0]

    def _load_extractor(self) -> motion_lib.MotionExtractor:
        beside = os.path.join(self._folder, MOTION_WEIGHTS)
        extractor = motion_lib.load(beside if os.path.exists(beside) else None)
        if extractor.fingerprint(self.engine.spec.preprocess) != self.engine.spec.extractor:
            raise bundle.BundleError(
                f"{self._folder}: trained with other motion weights: put them there as "
                f"{MOTION_WEIGHTS}"
            )
        return extractor

    def encode(self, path: str | os.PathLike[str]) -> EncodedVideo:
        """Decodes and encodes one file.

        Raises:
          frames.MediaError: the file cannot be used.
        """
        frames, clips, _ = frames_lib.video_input(path, self.engine.spec.preprocess)
        return self.encode_frames(frames, clips)

    def encode_frames(self, frames: np.ndarray, clips: np.ndarray) -> EncodedVideo:
        """Encodes frames and motion clips as `frames.video_input` gives them."""
        if self._extractor is None:
            self._extractor = self._load_extractor()
        found = video_input(frames, self._extractor(clips), self.engine.spec)
        return next(self.engine.encode([found]))

    def iter_scores(self, paths: Sequence[str | os.PathLike[str]]) -> Iterator[Result]:
        """Yields one Result a path, in order; a file that fails becomes a Result with `error`."""
        facts = {"scale": describe(self.scale.anchors), "model": self.fingerprint}
        for path in paths:
            try:
                found = self.scale.score(self.encode(path))
                yield Result(os.fspath(path), **dataclasses.asdict(found), **facts)
            except frames_lib.MediaError as e:
                yield Result(os.fspath(path), error=f"{e.reason} [{e.stage}]", **facts)

    def score(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    ) -> Result | list[Result]:
        """Scores one file, or several in order."""
        if isinstance(paths, str | os.PathLike):
            return next(self.iter_scores([paths]))
        return list(self.iter_scores(paths))


def describe(anchors: anchors_lib.AnchorSet) -> str:
    """One sentence on what the scores mean."""
    low, high = min(anchors.scores), max(anchors.scores)
    kind = "arbitrary units, no human scored them" if anchors.arbitrary else "human scores"
    return f"{anchors.scale}; anchors span {low:g}..{high:g}, higher is better; {kind}"


def _pad(values: np.ndarray, count: int) -> np.ndarray:
    padding = [(0, count - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, padding)


def load(path: str | os.PathLike[str] | None = None) -> Predictor:
    """Loads a student.

    Args:
      path: a folder of ours (student.json), an export of one, or a checkpoint with the names of
        LLaVA-OneVision or of the authors (config.json and safetensors); None is the shipped tiny
        student.

    Raises:
      bundle.BundleError: no student there.
      exported.ExportError: a damaged export.
      weights.WeightsError: the checkpoint's keys do not fit; all of them are listed.
    """
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
        if os.path.exists(os.path.join(folder, anchors_lib.ANCHOR_FILE)):
            anchors = anchors_lib.AnchorSet.load(folder)
        return Predictor(
            spec.student,
            params,
            bundle.fingerprint(folder),
            spec,
            bundle.make_tokenizer(spec, folder),
            anchors,
            folder,
        )
    return _load_official(folder)


def _load_official(folder: str) -> Predictor:
    student = student_io.load_student(folder)
    tokenizer = None
    if os.path.exists(os.path.join(folder, "tokenizer.json")):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
    anchors = None
    if os.path.exists(os.path.join(folder, anchors_lib.ANCHOR_FILE)):
        anchors = anchors_lib.AnchorSet.load(folder)
    spec = None
    extractor = os.path.join(folder, MOTION_WEIGHTS)
    if os.path.exists(extractor):
        preprocess = frames_lib.Preprocess(image_size=student.cfg.vision.image_size)
        wanted = motion_lib.load(extractor).fingerprint(preprocess)
        most = PUBLISHED_NUM_FRAMES
        spec = bundle.StudentSpec("", student.cfg, preprocess, most, wanted, ())
    params = nnx.to_pure_dict(nnx.state(student))
    fingerprint = bundle.files_fingerprint(sorted(glob.glob(os.path.join(folder, "*.safetensors"))))
    return Predictor(student.cfg, params, fingerprint, spec, tokenizer, anchors, folder)
