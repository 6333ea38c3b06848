"""Scores for videos, from Python.

from vqa_jax import predictor
p = predictor.load()                            # the shipped tiny student
p.score("clip.mp4")                             # -> Result(path=..., score=..., std=..., ...)
p.score_many(["a.mp4", "b.mkv"])                # -> [Result, Result], batched, in order
async for result in p.stream(["a.mp4", ...]):   # the same, without blocking the event loop
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from vqa_jax.devices.execution import Execution
from vqa_jax.media import container, view
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import StudentConfig
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.motion import extractor as motion_lib
from vqa_jax.pairs.levels import preference
from vqa_jax.scoring import anchor_sources
from vqa_jax.scoring import anchors as scoring_anchors
from vqa_jax.scoring import scale as anchors_lib
from vqa_jax.scoring.anchors import describe
from vqa_jax.scoring.comparisons import W2S_TAU, adaptive
from vqa_jax.scoring.engine import EncodedVideo, Engine, VideoInput, video_input
from vqa_jax.scoring.scale import Scale, Score
from vqa_jax.scoring.w2s import w2s_scores
from vqa_jax.settings import ScoreConfig
from vqa_jax.weights import bundle

MOTION_WEIGHTS = "slowfast.safetensors"
BATCH_SIZE = 32  # groups of frames, or pairs, in one call of the devices, at least
W2S_SCALE = (
    "the authors' rule: percent of the range that video and anchors span, higher is better; "
    "for comparison with published numbers only"
)
Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Result:
    """One video's score, or the reason why there is none (never both).

    Attributes:
      path: as given.
      score: on the anchors' scale, higher is better.
      std: posterior standard deviation, in the score's units (None by the authors' rule, as are q,
        q_std and extrapolated).
      q, q_std: Thurstone score and its std.
      extrapolated: the video lies beyond the anchors, the score continues linearly.
      comparisons: pairs that the student judged for it.
      contradictions: share 0..1 of the anchors about which both orders disagree, if both were
        asked for.
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
    comparisons: int | None = None
    contradictions: float | None = None
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
        tokenizer: Tokenizer | None = None,
        anchors: scoring_anchors.AnchorSet | None = None,
        folder: str = "",
        mesh: Mesh | None = None,
    ):
        self.fingerprint, self.spec = fingerprint, spec
        self._student, self._params, self.tokenizer = FunctionalStudent(cfg), params, tokenizer
        self._anchors, self._folder, self._mesh = anchors, folder, mesh
        self._lock = threading.Lock()  # streams share the engine and its anchors
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
            ways = self._mesh.shape["data"] * self._mesh.shape["fsdp"] if self._mesh else 1
            self._engine = Engine(
                self._student,
                self._params,
                self.spec,
                self.tokenizer,
                ways * math.ceil(BATCH_SIZE / ways),
                Execution(self._mesh),
            )
        return self._engine

    @property
    def scale(self) -> anchors_lib.Scale:
        """The anchors' scale.

        Raises:
          anchors_lib.AnchorError: the student has no anchors.
        """
        if self._scale is None:
            if self._anchors is None:
                raise scoring_anchors.AnchorError(
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

    def use_anchors(self, table: Path) -> None:
        """Scores against other anchors: any videos of known quality.

        Args:
          table: see `anchor_table`.

        Raises:
          anchors_lib.AnchorError: a table or videos that cannot be used as anchors.
        """
        self._anchors, self._scale = anchor_sources.read_anchors(table, self.read), None

    def read(self, path: Path) -> VideoInput:
        """Decodes one file to what the student sees of it.

        Raises:
          frames.MediaError: the file cannot be used.
        """
        return self._input(*view.video_input(path, self.engine.spec.preprocess)[:2])

    def _input(self, frames: np.ndarray, clips: np.ndarray) -> VideoInput:
        if self._extractor is None:
            self._extractor = self._load_extractor()
        return video_input(frames, self._extractor(clips), self.engine.spec)

    def encode(self, path: Path) -> EncodedVideo:
        """Decodes and encodes one file.

        Raises:
          frames.MediaError: the file cannot be used.
        """
        return next(self.engine.encode([self.read(path)]))

    def encode_frames(self, frames: np.ndarray, clips: np.ndarray) -> EncodedVideo:
        """Encodes frames and motion clips as `frames.video_input` gives them."""
        return next(self.engine.encode([self._input(frames, clips)]))

    def iter_scores(
        self, paths: Iterable[Path], config: ScoreConfig | None = None
    ) -> Iterator[Result]:
        """Yields one Result a path, in order; a file that fails becomes a Result with `error`.

        Files are read ahead until they fill a batch of the engine, and scored together.

        Args:
          paths: files; may be endless.
          config: how to score; default: every anchor, one order, solved exactly.

        Raises:
          anchors_lib.AnchorError: the student has no anchors.
          bundle.BundleError: the student came without preprocessing, tokenizer or motion weights.
        """
        config = config or ScoreConfig()
        with self._lock:
            scale = self.scale  # a student that cannot score says so before the first file
        waiting: list[tuple[str, VideoInput | str]] = []
        for path in paths:
            try:
                waiting.append((os.fspath(path), self.read(path)))
            except container.MediaError as error:
                waiting.append((os.fspath(path), f"{error.reason} [{error.stage}]"))
            groups = sum(1 if isinstance(v, str) else len(v.frames) for _, v in waiting)
            if groups >= self.engine.batch_size:
                yield from self._score_batch(scale, waiting, config)
                waiting = []
        yield from self._score_batch(scale, waiting, config)

    def _score_batch(
        self,
        scale: anchors_lib.Scale,
        videos: Sequence[tuple[str, VideoInput | str]],
        config: ScoreConfig,
    ) -> list[Result]:
        w2s = config.protocol == "w2s"
        facts = {"scale": W2S_SCALE if w2s else describe(scale.anchors), "model": self.fingerprint}
        good = [video for _, video in videos if not isinstance(video, str)]
        with self._lock:
            found = iter(score_videos(scale, list(self.engine.encode(good)), config))
        results = []
        for path, video in videos:
            if isinstance(video, str):
                results.append(Result(path, error=video, **facts))
                continue
            scored = next(found)
            values = {"score": scored.score.score} if w2s else dataclasses.asdict(scored.score)
            results.append(
                Result(
                    path,
                    **values,
                    comparisons=scored.comparisons,
                    contradictions=scored.contradictions,
                    **facts,
                )
            )
        return results

    def anchor_probabilities(self, paths: Iterable[Path]) -> tuple[np.ndarray, list[str]]:
        """Asks about every anchor: (probabilities [n, A] that a video is preferred, reasons).

        Files that cannot be used have a reason and no row.
        """
        scale = self.scale  # a student that cannot score says so before the first file
        failed: list[str] = []

        def inputs() -> Iterator[VideoInput]:
            for path in paths:
                try:
                    yield self.read(path)
                except container.MediaError as error:
                    failed.append(str(error))

        encoded = list(self.engine.encode(inputs()))
        return scale.preferences(scale.logits(encoded)), failed

    def score_many(self, paths: Iterable[Path], config: ScoreConfig | None = None) -> list[Result]:
        """Scores files, batched, one Result each in order; arguments as `iter_scores`."""
        return list(self.iter_scores(paths, config))

    def score(
        self, paths: Path | Sequence[Path], config: ScoreConfig | None = None
    ) -> Result | list[Result]:
        """Scores one file, or several in order; arguments as `iter_scores`."""
        if isinstance(paths, str | os.PathLike):
            return self.score_many([paths], config)[0]
        return self.score_many(paths, config)

    async def stream(
        self, paths: Iterable[Path] | AsyncIterable[Path], config: ScoreConfig | None = None
    ) -> AsyncIterator[Result]:
        """Yields what `iter_scores` yields, and leaves the event loop free meanwhile.

        Decoding and scoring run in a thread. Paths from an asynchronous source are scored one by
        one as they come; others are batched.
        """
        if isinstance(paths, AsyncIterable):
            async for path in paths:
                yield (await asyncio.to_thread(self.score_many, [path], config))[0]
            return
        found = self.iter_scores(paths, config)
        while (result := await asyncio.to_thread(next, found, None)) is not None:
            yield result


def _pad(values: np.ndarray, count: int) -> np.ndarray:
    padding = [(0, count - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, padding)


@dataclasses.dataclass(frozen=True)
class Scored:
    """A video's score and how it came about.

    Attributes:
      score: the score.
      comparisons: pairs that the student judged.
      contradictions: share of the anchors about which both orders disagree; None: one order.
    """

    score: Score
    comparisons: int
    contradictions: float | None = None


def score_videos(
    scale: Scale, videos: Sequence[EncodedVideo], config: ScoreConfig | None = None
) -> list[Scored]:
    """Scores videos together, in order."""
    config = config or ScoreConfig()
    if not videos:
        return []
    count = len(scale.anchors.names)
    if config.epsilon > 0:
        probs, seen = adaptive(scale, videos, config.epsilon)
        return [
            Scored(score, int(row.sum()))
            for score, row in zip(scale.solve(probs, seen), seen, strict=True)
        ]
    if config.both_orders:
        probs, disagree = scale.both_orders(videos)
        return [
            Scored(score, 2 * count, float(row.mean()))
            for score, row in zip(scale.solve(probs), disagree, strict=True)
        ]
    logits = scale.logits(videos)
    if config.protocol == "w2s":
        values = w2s_scores(preference(logits, W2S_TAU), scale.matrix, config.seed)
        nan = float("nan")
        return [Scored(Score(float(v), nan, nan, nan, False), count) for v in values]
    return [Scored(score, count) for score in scale.solve(scale.preferences(logits))]
