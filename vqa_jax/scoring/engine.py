"""The one inference engine: encode a video once, compare it many times.

A video's visual tokens are computed once. Pairs are then decoder work only; and because the anchor
comes first in a causal prompt, the anchors' keys and values are computed once per run, and a test
video adds only its suffix (vqa_jax/README.md, 8 Scores). Many videos share a batch: rows of a
like length go together and are padded to a few sizes, so that little is computed for nothing and
nothing is compiled twice. On several devices the rows are split over the mesh's `data` and `fsdp`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from vqa_jax.devices import sharding
from vqa_jax.devices.execution import Execution, executing
from vqa_jax.media.crops import scoring_groups
from vqa_jax.models import prompt
from vqa_jax.models.cell_tower import program_dtype
from vqa_jax.models.frozen_tower import FrozenTower
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.qwen2 import KVCache
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.scoring.steps import make_steps
from vqa_jax.weights.bundle import StudentSpec


@dataclasses.dataclass(frozen=True)
class VideoInput:
    """A video as the student sees it: frames uint8 [G, F, H, W, 3] and motion float32 [M, D].

    What a frozen tower made of the frames, float16 [G, F, P, W], may stand in their place.
    `notes`: of its file, see `media.probe.VideoInfo`.
    """

    frames: np.ndarray
    motion: np.ndarray
    notes: str = ""

    @classmethod
    def of_view(
        cls, views: np.ndarray, motion: np.ndarray, spec: StudentSpec, notes: str = ""
    ) -> VideoInput:
        """A video as `media.view` shows it, cut and grouped for one student.

        Args:
          views: uint8 [N, H, W, 3], as of `view.view_frames` or stored in a record, or tokens.
          motion: float32 [M, D], features of its clips.
          spec: of the student.
          notes: of the file.
        """
        return cls(scoring_groups(views, spec.preprocess, spec.num_frames), motion, notes)


@dataclasses.dataclass(frozen=True)
class EncodedVideo:
    """Visual tokens [G, T, D] of a video's groups, padded to the engine's bank, and real sizes."""

    visual: np.ndarray
    num_frames: int
    num_motion: int


class _Row(NamedTuple):
    """One row of a device call: group `group` of pair `pair`, padded to `frames` frames."""

    pair: int
    group: int
    frames: int


class Engine:
    """Compares videos with one student.

    Args:
      student: architecture.
      params: its weights.
      spec: how it sees videos.
      tokenizer: its tokenizer.
      batch_size: most pairs (or groups of frames) in one call of the devices.
      execution: mesh of this process's devices and kernels; default: one device.
      cache_dtype: in which the anchors' keys and values are kept: "int8", or None, as computed.

    Raises:
      ValueError: the batch does not divide over the mesh.
    """

    def __init__(
        self,
        student: FunctionalStudent,
        params: Params,
        spec: StudentSpec,
        tokenizer: Tokenizer,
        batch_size: int = 32,
        execution: Execution | None = None,
        cache_dtype: str | None = None,
    ):
        self.spec, self.batch_size = spec, batch_size
        self._run = execution or Execution()
        self._ways = self._run.ways
        if batch_size % self._ways:
            raise ValueError(f"batch of {batch_size} does not divide over {self._ways} devices")
        if mesh := self._run.mesh:  # where they are already, nothing moves
            params = jax.device_put(params, student.shardings(mesh, self._run.rules))
        self._params = params
        self._per_frame = student.cfg.tokens_per_frame
        self._bank = spec.bank
        self._ids = prompt.scoring_ids(tokenizer)
        self._text = len(self._ids) - 4
        # The anchor's cache holds the text up to the second video's frames, the third placeholder.
        third = [i for i, token in enumerate(self._ids) if token == prompt.IMAGE_PLACEHOLDER][2]
        self._text_after = len(self._ids) - third - 2
        # Hundreds of pairs of a video have one layout.
        make = functools.partial(prompt.layout, self._ids, bank=self._bank)
        self._layout_of = functools.lru_cache(maxsize=256)(make)
        self._cache: KVCache | None = None
        self._cache_rows: list[int] = []
        self._anchors: list[EncodedVideo] = []

        steps = make_steps(student, prompt.level_ids(tokenizer), cache_dtype)

        def suffix(params, cache, rows, *inputs):
            return steps.suffix(params, cache.rows(rows), *inputs)

        # A frozen tower's programs are apart: there is one for every shape of frames.
        self._tower = (
            FrozenTower.of_student(student, self._params, self._run) if spec.tower else None
        )
        self._encode, self._compare = self._jit(steps.encode), self._jit(steps.compare)
        self._prefix, self._suffix = self._jit(steps.prefix, told=False), self._jit(suffix)

    def _jit(self, function: Callable[..., Any], told: bool = True) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*inputs):
            with executing(self._run):
                return function(*inputs)

        return jax.jit(run, out_shardings=self._run.told if told else None)

    def _padded(self, count: int) -> int:
        """Rows that `count` rows are padded to: a quarter more at most, few different ones.

        Behind a frozen tower rows cost so little that there is one size, the batch's.
        """
        if self._tower is not None:
            return max(self.batch_size, self._ways * math.ceil(count / self._ways))
        share = math.ceil(count / self._ways)
        step = 2 ** max(share.bit_length() - 3, 0)
        return self._ways * step * math.ceil(share / step)

    def _frame_bucket(self, frames: int) -> int:
        """The fewest frames, halving from the student's most, that hold `frames`."""
        size = self.spec.num_frames
        while self._tower is None and frames <= size // 2:
            size //= 2
        return size

    def _chunks(self, rows: Sequence[_Row]) -> Iterator[tuple[list[_Row], list[_Row]]]:
        """Yields (rows, the same padded with copies of the last) of one bucket a time."""
        for frames in sorted({row.frames for row in rows}):
            alike = [row for row in rows if row.frames == frames]
            for start in range(0, len(alike), self.batch_size):
                chunk = alike[start : start + self.batch_size]
                padding = self._padded(len(chunk)) - len(chunk)
                yield chunk, chunk + [chunk[-1]] * padding

    def encode(self, videos: Iterable[VideoInput]) -> Iterator[EncodedVideo]:
        """Encodes videos, in order; each group of frames is one row of a device call.

        As many videos are read ahead as fill a batch.

        Raises:
          ValueError: a video has more frames a group or motion clips than the student takes.
        """
        waiting: list[VideoInput] = []
        for video in videos:
            count, clips = video.frames.shape[1], len(video.motion)
            if count > self.spec.num_frames or clips > self._bank.motion_tokens:
                raise ValueError(
                    f"{count} frames and {clips} clips; this student takes at most "
                    f"{self.spec.num_frames} and {self._bank.motion_tokens}"
                )
            waiting.append(video)
            if sum(len(v.frames) for v in waiting) >= self.batch_size:
                yield from self._encode_all(waiting)
                waiting = []
        yield from self._encode_all(waiting)

    def tower_tokens(self, videos: Sequence[VideoInput]) -> list[VideoInput]:
        """The videos with a frozen tower's tokens in place of frames; as they are without one."""
        seen = [v for v in videos if v.frames.dtype == np.uint8]
        if self._tower is None or not seen:
            return list(videos)
        found = iter(self._tower(v.frames.reshape(-1, *v.frames.shape[2:]) for v in seen))
        return [
            v
            if v.frames.dtype != np.uint8
            else dataclasses.replace(
                v, frames=(tokens := next(found)).reshape(*v.frames.shape[:2], *tokens.shape[1:])
            )
            for v in videos
        ]

    def _encode_all(self, videos: Sequence[VideoInput]) -> list[EncodedVideo]:
        videos = self.tower_tokens(videos)
        rows = [
            _Row(i, g, self._frame_bucket(v.frames.shape[1]))
            for i, v in enumerate(videos)
            for g in range(len(v.frames))
        ]
        visual: list[list[Any]] = [[None] * len(v.frames) for v in videos]
        for chunk, padded in self._chunks(rows):
            size = chunk[0].frames
            like = videos[chunk[0].pair]
            shape, width = like.frames.shape[2:], like.motion.shape[1]
            frames = np.zeros((len(padded), size, *shape), program_dtype(like.frames.dtype))
            motion = np.zeros((len(padded), self._bank.motion_tokens, width), np.float32)
            for r, row in enumerate(padded):
                video = videos[row.pair]
                frames[r, : video.frames.shape[1]] = video.frames[row.group]
                motion[r, : len(video.motion)] = video.motion
            found = np.asarray(self._encode(self._params, *self._run.rows(frames, motion)))
            real = size * self._per_frame  # then newline and motion, as in the whole bank
            if gap := self._bank.frame_tokens - real:
                none = np.zeros((len(found), gap, found.shape[2]), found.dtype)
                found = np.concatenate([found[:, :real], none, found[:, real:]], axis=1)
            for row, tokens in zip(chunk, found, strict=False):
                visual[row.pair][row.group] = tokens
        return [
            # One group stays where it is: megabytes that need not be copied.
            EncodedVideo(
                groups[0][None] if len(groups) == 1 else np.stack(groups),
                *(video.frames.shape[1], len(video.motion)),
            )
            for groups, video in zip(visual, videos, strict=True)
        ]

    def _layout(self, first: EncodedVideo, second: EncodedVideo) -> prompt.Layout:
        sizes = [(v.num_frames * self._per_frame, v.num_motion) for v in (first, second)]
        return self._layout_of(*zip(*sizes, strict=True))

    def _rows(self, pairs: Sequence[tuple[EncodedVideo, EncodedVideo]], both: bool) -> list[_Row]:
        """Rows of pairs; their bucket holds the frames of both videos, or of the second alone."""
        return [
            _Row(i, g, self._frame_bucket(max(a.num_frames * both, b.num_frames)))
            for i, (a, b) in enumerate(pairs)
            for g in range(_num_groups(a, b))
        ]

    def _visual(self, videos: Sequence[EncodedVideo], rows: Sequence[_Row]) -> jax.Array:
        """Visual tokens [B, T, D] of the rows' groups, of one video of every pair."""
        groups = [videos[row.pair].visual for row in rows]
        return self._run.gathered([g[r.group % len(g)] for g, r in zip(groups, rows, strict=True)])

    def _length(self, frames: int) -> int:
        """Most tokens of one video of `frames` frames."""
        return frames * self._per_frame + 1 + self._bank.motion_tokens

    def compare(self, pairs: Sequence[tuple[EncodedVideo, EncodedVideo]]) -> np.ndarray:
        """Level logits [n, 5] of pairs (first, second), averaged over their groups."""
        sums, counts = np.zeros((len(pairs), 5)), np.zeros((len(pairs), 1))
        for chunk, padded in self._chunks(self._rows(pairs, both=True)):
            length = _even(self._text + 2 * self._length(chunk[0].frames))
            tokens = np.zeros((len(padded), length), np.int32)
            answer_pos = np.zeros((len(padded), 1), np.int32)
            for r, row in enumerate(padded):
                layout = self._layout(*pairs[row.pair])
                tokens[r, : len(layout.tokens)] = layout.tokens
                answer_pos[r] = layout.answer_pos
            first, second = (self._visual(videos, padded) for videos in zip(*pairs, strict=True))
            inputs = first, second, *self._run.rows(tokens, answer_pos)
            logits = np.asarray(self._compare(self._params, *inputs))
            for row, values in zip(chunk, logits, strict=False):
                sums[row.pair] += values
                counts[row.pair] += 1
        return sums / np.maximum(counts, 1)

    def set_anchors(self, anchors: Sequence[EncodedVideo]) -> None:
        """Computes the anchors' keys and values; they stay until other anchors are set.

        Every device that gets rows of a batch holds all anchors, with its share of the heads.
        """
        self._anchors = list(anchors)
        rows = [(a, g) for a in self._anchors for g in range(len(a.visual))]
        self._cache_rows = np.cumsum([0, *(len(a.visual) for a in self._anchors)]).tolist()
        rows += [rows[-1]] * (self._padded(len(rows)) - len(rows))
        layouts = [self._layout(a, a) for a, _ in rows]
        width = _even(max(x.prefix_len for x in layouts))
        tokens = np.zeros((len(rows), width), np.int32)
        for row, layout in zip(tokens, layouts, strict=True):
            row[: layout.prefix_len] = layout.tokens[: layout.prefix_len]
        lengths = np.array([x.prefix_len for x in layouts], np.int32)
        first = np.stack([a.visual[g] for a, g in rows])
        cache = self._prefix(self._params, *self._run.rows(first, tokens, lengths))
        if mesh := self._run.mesh:
            names = (None, None, None, "kv_heads", None)
            sizes = jax.tree.leaves(cache.keys)[0].shape
            heads = NamedSharding(mesh, self._run.spec(names, sizes))
            whole = sharding.replicated(mesh)
            cache = jax.device_put(cache, KVCache(heads, heads, whole))
        self._cache = cache

    def against_anchors(self, video: EncodedVideo) -> np.ndarray:
        """Level logits [A, 5] of the video (second) against every anchor (first).

        Raises:
          ValueError: no anchors were set.
        """
        return self.against([(i, video) for i in range(len(self._anchors))])

    def against(self, pairs: Sequence[tuple[int, EncodedVideo]]) -> np.ndarray:
        """Level logits [n, 5] of videos (second) against anchors (first), given by their index.

        Equals `compare` of the same pairs up to rounding; only the suffix is computed. Every
        anchor group is met by one of the video's groups, and the other way round.

        Raises:
          ValueError: no anchors were set.
        """
        if self._cache is None:
            raise ValueError("set_anchors comes before against_anchors")
        videos = [(self._anchors[i], video) for i, video in pairs]
        sums, counts = np.zeros((len(pairs), 5)), np.zeros((len(pairs), 1))
        for chunk, padded in self._chunks(self._rows(videos, both=False)):
            room = _even(self._text_after + self._length(chunk[0].frames))
            tokens = np.zeros((len(padded), room), np.int32)
            positions = np.zeros((len(padded), room), np.int32)
            answer_pos = np.zeros((len(padded), 1), np.int32)
            cached = np.zeros(len(padded), np.int32)
            for r, row in enumerate(padded):
                anchor, video = videos[row.pair]
                layout = self._layout(anchor, video)
                start = layout.prefix_len
                tail = layout.tokens[start:]
                # The suffix's own bank is the second video's alone.
                tokens[r, : len(tail)] = np.where(tail < 0, tail + self._bank.stride, tail)
                positions[r] = start + np.arange(room)
                answer_pos[r] = layout.answer_pos - start
                cached[r] = self._cache_rows[pairs[row.pair][0]] + row.group % len(anchor.visual)
            second = self._visual([video for _, video in pairs], padded)
            cached, *rest = self._run.rows(cached, tokens, positions, answer_pos)
            logits = np.asarray(self._suffix(self._params, self._cache, cached, second, *rest))
            for row, values in zip(chunk, logits, strict=False):
                sums[row.pair] += values
                counts[row.pair] += 1
        return sums / np.maximum(counts, 1)


def _even(length: int) -> int:
    """A token of padding a row, where cuDNN's kernel would be given one by every layer."""
    return length + length % 2


def _num_groups(first: EncodedVideo, second: EncodedVideo) -> int:
    return max(len(first.visual), len(second.visual))
