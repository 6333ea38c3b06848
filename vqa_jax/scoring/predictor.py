"""A student as people use it: videos in, results out.

p = vqa_jax.load()                              # the shipped student
p.score("clip.mp4")                             # -> Result(path=..., score=..., std=..., ...)
p.score(frames, fps=30.0)                       # the same of uint8 [T, H, W, 3]; [B, T, ...]
p.score(data)                                   # encoded bytes, an open file, a URL
p.score(["a.mp4", "b.mkv"])                     # -> [Result, Result], batched, in order
p.compare("a.mp4", "b.mp4")                     # -> PairResult(second_better=..., ...)
async for result in p.stream(["a.mp4", ...]):   # without blocking the event loop

From top to bottom: `iter_scores` reads and encodes a batch, and `Judge.score` asks and solves.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import math
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from vqa_jax.devices.execution import Execution, executing
from vqa_jax.media import isolation
from vqa_jax.media.container import MediaError
from vqa_jax.media.sources import Source
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import Student
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.motion import extractor
from vqa_jax.pairs import levels
from vqa_jax.scoring import reading
from vqa_jax.scoring.anchors import REMEDY, AnchorError, AnchorSet
from vqa_jax.scoring.engine import EncodedVideo, Engine, VideoInput
from vqa_jax.scoring.judge import Judge
from vqa_jax.scoring.reading import Reader, Seen, Video
from vqa_jax.scoring.results import PairResult, Result
from vqa_jax.settings import DEFAULT_LIMITS, DecodeLimits, ScoreConfig
from vqa_jax.weights.bundle import BundleError, StudentSpec
from vqa_jax.weights.flaw_head import FlawHead

BATCH_SIZE = 32  # groups of frames, or pairs, in one call of the devices, unless told otherwise
W2S_SCALE = (
    "the authors' rule: percent of the range that video and anchors span, higher is better; "
    "for comparison with published numbers only"
)
Path = str | os.PathLike[str]


class Predictor:
    """A student ready to score and compare videos; made by `vqa_jax.load`.

    Attributes:
      fingerprint: of its weights, and of their dtype where that is not its own.
      spec, tokenizer: None where its folder had none.
      batch_size: groups of frames, or pairs, in one call of all devices.
    """

    def __init__(
        self,
        student: FunctionalStudent,
        params: Params,
        fingerprint: str,
        spec: StudentSpec | None = None,
        tokenizer: Tokenizer | None = None,
        anchors: AnchorSet | None = None,
        folder: str = "",
        run: Execution = Execution(),
        batch_size: int | None = None,
        cache_dtype: str | None = None,
    ):
        self.fingerprint, self.spec, self.tokenizer = fingerprint, spec, tokenizer
        self._student, self._params, self._run = student, params, run
        self._anchors, self._folder, self._cache_dtype = anchors, folder, cache_dtype
        self.batch_size = batch_size or run.ways * math.ceil(BATCH_SIZE / run.ways)
        self._lock = threading.Lock()  # streams share the engine and its anchors
        self._judge: Judge | None = None
        self._applied: dict[Callable[..., jax.Array], Callable[..., jax.Array]] = {}

    def score(
        self,
        videos: Video | Sequence[Video],
        config: ScoreConfig | None = None,
        *,
        fps: float | None = None,
    ) -> Result | list[Result]:
        """Scores one video, or several in order; arguments and errors as `iter_scores`."""
        if reading.is_one(videos):
            return self.score_many([videos], config, fps=fps)[0]
        return self.score_many(videos, config, fps=fps)

    def score_many(
        self,
        videos: Iterable[Video],
        config: ScoreConfig | None = None,
        *,
        fps: float | None = None,
    ) -> list[Result]:
        """Scores videos, batched, one Result each in order; arguments as `iter_scores`."""
        return list(self.iter_scores(videos, config, fps=fps))

    def iter_scores(
        self,
        videos: Iterable[Video],
        config: ScoreConfig | None = None,
        *,
        fps: float | None = None,
    ) -> Iterator[Result]:
        """Yields one Result a video, in order; a file that fails becomes a Result with `error`.

        Videos are read ahead until they fill a batch of the engine, and scored together.

        Args:
          videos: encoded ones (paths, URLs, open binary files, bytes), or frames uint8 RGB
            [T, H, W, 3]; an array [B, T, H, W, 3] is a batch of those. May be endless.
          config: how to score; default: every anchor, one order, solved exactly.
          fps: frames a second of all that are given as frames.

        Raises:
          AnchorError: the student has no anchors.
          BundleError: the student came without preprocessing, tokenizer or motion weights.
          view.FramesError: frames that are no video, or without fps.
        """
        config = config or ScoreConfig()
        isolation.start(config.limits)  # while the judge is made
        with self._lock:
            judge = self.judge  # a student that cannot score says so before the first file
        waiting: list[tuple[str, VideoInput | MediaError]] = []
        read = self._reader.read_all(videos, fps, config.limits, self.batch_size)
        with contextlib.closing(read):
            for named in read:
                with self._lock:
                    waiting = reading.slimmed([*waiting, named], judge.engine.tower_tokens)
                rows = [len(v.frames) if isinstance(v, VideoInput) else 1 for _, v in waiting]
                if sum(rows) >= judge.engine.batch_size:
                    yield from self._results(judge, waiting, config)
                    waiting = []
            yield from self._results(judge, waiting, config)

    def _results(
        self,
        judge: Judge,
        videos: Sequence[tuple[str, VideoInput | MediaError]],
        config: ScoreConfig,
    ) -> list[Result]:
        """Results of (path, input or why there is none)."""
        w2s = config.protocol == "w2s"
        facts = {"scale": W2S_SCALE if w2s else judge.describe(), "model": self.fingerprint}
        good = [video for _, video in videos if isinstance(video, VideoInput)]
        with self._lock:
            verdicts = iter(judge.score(list(judge.engine.encode(good)), config))
        results = []
        for path, video in videos:
            if isinstance(video, MediaError):
                results.append(Result(path, error=f"{video.reason} [{video.stage}]", **facts))
                continue
            found = next(verdicts)
            numbers = {"score": found.score.score} if w2s else dataclasses.asdict(found.score)
            counts = {"comparisons": found.comparisons, "contradictions": found.contradictions}
            notes = "; ".join(filter(None, (video.notes, found.note)))
            results.append(Result(path, **numbers, **counts, **facts, notes=notes))
        return results

    def see(self, video: Video, limits: DecodeLimits = DEFAULT_LIMITS) -> Seen:
        """Decodes an encoded video and leaves the devices alone; `score_seen` goes on from there.

        Raises:
          MediaError: the file cannot be used.
        """
        with isolation.borrowed(limits) as child:
            return self._reader.seen(video, None, limits, child)

    def score_seen(
        self, videos: Sequence[tuple[str, Seen]], config: ScoreConfig | None = None
    ) -> list[Result]:
        """Scores videos (name, of `see`) together; arguments and errors as `iter_scores`."""
        with self._lock:
            judge = self.judge
        inputs = list(self._reader.finished(videos))
        return self._results(judge, inputs, config or ScoreConfig())

    async def stream(
        self, paths: Iterable[Source] | AsyncIterable[Source], config: ScoreConfig | None = None
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

    def compare(self, first: Video, second: Video, *, fps: float | None = None) -> PairResult:
        """Tells which of two videos is better; the student is asked in both orders.

        Args:
          first, second: see `Video`.
          fps: frames a second of what is given as frames.

        Raises:
          BundleError: the student came without preprocessing, tokenizer or motion weights.
          MediaError: a file cannot be used.
          view.FramesError: frames that are no video, or without fps.
        """
        inputs = [self.read(video, fps) for video in (first, second)]
        with self._lock:
            one, other = self.engine.encode(inputs)
            return self.compare_encoded([(one, other)])[0]

    def compare_encoded(
        self, pairs: Sequence[tuple[EncodedVideo, EncodedVideo]]
    ) -> list[PairResult]:
        """As `compare`, of pairs that this engine has encoded; all are asked about together."""
        orders = [*pairs, *((second, first) for first, second in pairs)]
        forward, backward = np.split(self.engine.compare(orders), 2)
        wins = levels.preference(forward) > 0.5, levels.preference(backward) > 0.5
        return [
            PairResult(
                dict(zip(levels.LEVELS, probs.tolist(), strict=True)),
                float(probs @ np.asarray(levels.LEVEL_WEIGHTS)),
                bool(second == first),
                self.fingerprint,
            )
            for probs, second, first in zip(levels.posterior(forward, backward), *wins, strict=True)
        ]

    @functools.cached_property
    def engine(self) -> Engine:
        """The inference engine.

        Raises:
          BundleError: the student came without preprocessing or tokenizer.
        """
        if self.spec is None or self.tokenizer is None:
            raise BundleError(
                "this model's folder has no student.json or tokenizer: only level_logits works"
            )
        return Engine(
            self._student,
            self._params,
            self.spec,
            self.tokenizer,
            self.batch_size,
            self._run,
            self._cache_dtype,
        )

    @property
    def judge(self) -> Judge:
        """The student with its anchors; what evaluation, relabelling and time lines are given.

        Raises:
          AnchorError: the student has no anchors, or orders them against their scores.
        """
        if self._judge is None:
            if self._anchors is None:
                raise AnchorError(f"{self._folder or 'this student'} has no anchors: {REMEDY}")
            self._judge = Judge(self.engine, self._anchors, self.fingerprint)
        return self._judge

    @property
    def has_anchors(self) -> bool:
        """Whether it can score, and not only compare."""
        return self._anchors is not None

    def use_anchors(self, table: Path) -> None:
        """Scores against other anchors: any videos of known quality.

        Args:
          table: see `anchor_sources`.

        Raises:
          AnchorError: a table or videos that cannot be used as anchors.
        """
        from vqa_jax.scoring.anchor_sources import read_anchors  # table readers: slow to import

        self._anchors, self._judge = read_anchors(table, self.read), None

    def read(
        self, video: Video, fps: float | None = None, limits: DecodeLimits = DEFAULT_LIMITS
    ) -> VideoInput:
        """What the student sees of an encoded video, or of frames at hand.

        What is encoded is decoded in a child process, within the limits; what is no local file
        becomes one meanwhile.

        Raises:
          MediaError: the file cannot be used.
          view.FramesError: frames that are no video, or without fps.
        """
        return self._reader.read(video, fps, limits)

    @functools.cached_property
    def _reader(self) -> Reader:
        spec, devices = self.engine.spec, self._run.local_devices
        load = functools.partial(extractor.load_for, self._folder, spec, devices)
        return Reader(spec, functools.cache(load), self._run.spans_processes)

    def encode(self, video: Source) -> EncodedVideo:
        """Decodes and encodes one video.

        Raises:
          MediaError: the file cannot be used.
        """
        return next(self.engine.encode([self.read(video)]))

    def encode_views(self, views: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[EncodedVideo]:
        """Encodes (frames, motion clips) as `view.video_input` gives them, together."""
        return list(self.engine.encode(self._reader.of_views(views)))

    def anchor_probabilities(self, paths: Iterable[Source]) -> tuple[np.ndarray, list[str]]:
        """Asks about every anchor: (probabilities [n, A] that a video is preferred, reasons).

        Files that cannot be used have a reason and no row.
        """
        judge = self.judge  # a student that cannot score says so before the first file
        failed: list[str] = []

        def inputs() -> Iterator[VideoInput]:
            for _, found in self._reader.read_all(paths, None, DEFAULT_LIMITS, self.batch_size):
                if isinstance(found, VideoInput):
                    yield found
                else:
                    failed.append(str(found))

        return judge.comparisons.every(list(judge.engine.encode(inputs()))), failed

    @property
    def folder(self) -> str:
        """Of the student; "" where it came otherwise."""
        return self._folder

    @functools.cached_property
    def flaw_head(self) -> FlawHead | None:
        """The auxiliary head, among the weights or beside them; None where there is none."""
        head = FlawHead.of(self._params, self.spec) if self.spec else None
        return head or FlawHead.beside(self._folder)

    def applied(self, function: Callable[..., jax.Array], *inputs: np.ndarray) -> np.ndarray:
        """`function(student, *inputs)` on the devices; a module's function, compiled once."""
        if function not in self._applied:

            def bound(params: Params, *inputs: jax.Array) -> jax.Array:
                with executing(self._run):
                    return function(self._student.bind(params), *inputs)

            self._applied[function] = jax.jit(bound, out_shardings=self._run.told)
        return np.asarray(self._applied[function](self._params, *inputs))

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
          BundleError: ids are left out and the model has no tokenizer.
        """
        if (input_ids is None or level_ids is None) and self.tokenizer is None:
            raise BundleError("no tokenizer beside the model: give input_ids and level_ids")
        ids = list(prompt.scoring_ids(self.tokenizer) if input_ids is None else input_ids)
        level_tokens = prompt.level_ids(self.tokenizer) if level_ids is None else list(level_ids)
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
        return self.applied(
            Student.level_logits,
            np.stack(padded)[None],
            np.stack(features)[None],
            row.tokens[None],
            row.answer_pos[None],
            np.asarray(level_tokens, np.int32),
        )[0]


def _pad(values: np.ndarray, count: int) -> np.ndarray:
    padding = [(0, count - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, padding)
