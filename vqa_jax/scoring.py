"""The one inference engine: encode a video once, compare it many times.

A video's visual tokens are computed once. Pairs are then decoder work only; and because the anchor
comes first in a causal prompt, the anchors' keys and values are computed once per run, and a test
video adds only its suffix (DESIGN, "The anchor is a prefix"). Batches are padded to fixed sizes, so
that nothing is compiled twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqa_jax import prompt
from vqa_jax.bundle import StudentSpec
from vqa_jax.input_pipeline import scoring_groups
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.qwen2 import KVCache, prefix_positions


@dataclasses.dataclass(frozen=True)
class VideoInput:
    """A video as the student sees it: frames uint8 [G, F, S, S, 3] and motion float32 [M, D]."""

    frames: np.ndarray
    motion: np.ndarray


@dataclasses.dataclass(frozen=True)
class EncodedVideo:
    """Visual tokens [G, T, D] of a video's groups, padded to the engine's bank, and real sizes."""

    visual: np.ndarray
    num_frames: int
    num_motion: int


class Steps(NamedTuple):
    """What the device computes, as pure functions of the parameters.

    encode(params, frames, motion): visual tokens of videos (`Student.encode_videos`).
    compare(params, first, second, tokens, answer_pos): level logits [B, 5] of whole pairs.
    prefix(params, first, tokens, lengths): KVCache of the prompts up to the second video.
    suffix(params, cache, second, tokens, positions, answer_pos): level logits [B, 5] after it.
    """

    encode: Callable[..., jax.Array]
    compare: Callable[..., jax.Array]
    prefix: Callable[..., KVCache]
    suffix: Callable[..., jax.Array]


def make_steps(student: FunctionalStudent, level_ids: Sequence[int]) -> Steps:
    """The functions of scoring, not yet jitted; `level_ids`: token ids of the five levels."""
    levels = jnp.asarray(level_ids)

    def encode(params, frames, motion):
        return student.bind(params).encode_videos(frames, motion)

    def compare(params, first, second, tokens, answer_pos):
        model = student.bind(params)
        embeds = model.merge(tokens, jnp.concatenate([first, second], axis=1))
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        hidden, _ = model.hidden(embeds, positions)
        return model.llm.logits(_at(hidden, answer_pos), levels)[:, 0]

    def prefix(params, first, tokens, lengths):
        model = student.bind(params)
        positions = prefix_positions(lengths, tokens.shape[1])
        return model.hidden(model.merge(tokens, first), positions)[1]

    def suffix(params, cache, second, tokens, positions, answer_pos):
        model = student.bind(params)
        hidden, _ = model.hidden(model.merge(tokens, second), positions, cache)
        return model.llm.logits(_at(hidden, answer_pos), levels)[:, 0]

    return Steps(encode, compare, prefix, suffix)


class Engine:
    """Compares videos with one student.

    Args:
      student: architecture.
      params: its weights.
      spec: how it sees videos.
      tokenizer: its tokenizer.
      batch_size: pairs (or groups of frames) in one call of the device.
    """

    def __init__(
        self,
        student: FunctionalStudent,
        params: Params,
        spec: StudentSpec,
        tokenizer: Any,
        batch_size: int = 32,
    ):
        self.spec, self.batch_size = spec, batch_size
        self._params = params
        self._per_frame = student.cfg.tokens_per_frame
        self._bank = prompt.Bank(
            spec.num_frames * self._per_frame, max(1, spec.preprocess.max_clips)
        )
        self._ids = prompt.scoring_ids(tokenizer)
        text = len(self._ids) - 4
        self._length = text + 2 * self._bank.stride
        self._cache: KVCache | None = None
        self._anchors: list[EncodedVideo] = []

        steps = make_steps(student, prompt.level_ids(tokenizer))
        self._encode, self._compare = jax.jit(steps.encode), jax.jit(steps.compare)
        self._prefix, self._suffix = jax.jit(steps.prefix), jax.jit(steps.suffix)

    def encode(self, videos: Iterable[VideoInput]) -> Iterator[EncodedVideo]:
        """Encodes videos one by one, in order; each group of frames is one row of a device call.

        Raises:
          ValueError: a video has more frames a group or motion clips than the student takes.
        """
        for video in videos:
            groups, count = video.frames.shape[:2]
            clips = len(video.motion)
            if count > self.spec.num_frames or clips > self._bank.motion_tokens:
                raise ValueError(
                    f"{count} frames and {clips} clips; this student takes at most "
                    f"{self.spec.num_frames} and {self._bank.motion_tokens}"
                )
            frames = np.zeros((groups, self.spec.num_frames, *video.frames.shape[2:]), np.uint8)
            frames[:, :count] = video.frames
            motion = np.zeros((groups, self._bank.motion_tokens, video.motion.shape[1]), np.float32)
            motion[:, :clips] = video.motion
            visual = np.asarray(self._encode(self._params, frames, motion))
            yield EncodedVideo(visual, count, clips)

    def _layout(self, first: EncodedVideo, second: EncodedVideo) -> prompt.Layout:
        return prompt.layout(
            self._ids,
            [v.num_frames * self._per_frame for v in (first, second)],
            [v.num_motion for v in (first, second)],
            self._bank,
        )

    def compare(self, pairs: Sequence[tuple[EncodedVideo, EncodedVideo]]) -> np.ndarray:
        """Level logits [n, 5] of pairs (first, second), averaged over their groups."""
        rows = [(i, g) for i, (a, b) in enumerate(pairs) for g in range(_num_groups(a, b))]
        sums = np.zeros((len(pairs), 5))
        counts = np.zeros((len(pairs), 1))
        for start in range(0, len(rows), self.batch_size):
            chunk = rows[start : start + self.batch_size]
            padded = chunk + [chunk[-1]] * (self.batch_size - len(chunk))
            tokens = np.zeros((self.batch_size, self._length), np.int32)
            answer_pos = np.zeros((self.batch_size, 1), np.int32)
            for r, (i, _) in enumerate(padded):
                layout = self._layout(*pairs[i])
                tokens[r, : len(layout.tokens)] = layout.tokens
                answer_pos[r] = layout.answer_pos
            first = np.stack([_group(pairs[i][0], g) for i, g in padded])
            second = np.stack([_group(pairs[i][1], g) for i, g in padded])
            logits = np.asarray(self._compare(self._params, first, second, tokens, answer_pos))
            for (i, _), row in zip(chunk, logits, strict=False):
                sums[i] += row
                counts[i] += 1
        return sums / counts

    def set_anchors(self, anchors: Sequence[EncodedVideo]) -> None:
        """Computes the anchors' keys and values; they stay for the engine's life."""
        self._anchors = list(anchors)
        rows = [(a, g) for a in self._anchors for g in range(len(a.visual))]
        layouts = [self._layout(a, a) for a, _ in rows]
        width = max(x.prefix_len for x in layouts)
        tokens = np.zeros((len(rows), width), np.int32)
        for row, layout in zip(tokens, layouts, strict=True):
            row[: layout.prefix_len] = layout.tokens[: layout.prefix_len]
        lengths = np.array([x.prefix_len for x in layouts], np.int32)
        first = np.stack([a.visual[g] for a, g in rows])
        self._cache = self._prefix(self._params, first, tokens, lengths)

    def against_anchors(self, video: EncodedVideo) -> np.ndarray:
        """Level logits [A, 5] of the video (second) against every anchor (first).

        Equals `compare` of the same pairs up to rounding; only the suffix is computed. Every
        anchor group is met by one of the video's groups, and the other way round.

        Raises:
          ValueError: no anchors were set.
        """
        if self._cache is None:
            raise ValueError("set_anchors comes before against_anchors")
        if any(len(a.visual) != len(video.visual) for a in self._anchors):
            return self.compare([(a, video) for a in self._anchors])
        owners = [i for i, a in enumerate(self._anchors) for _ in range(len(a.visual))]
        groups = [g for a in self._anchors for g in range(len(a.visual))]
        room = self._length - int(self._bank.stride)
        tokens = np.zeros((len(owners), room), np.int32)
        positions = np.zeros((len(owners), room), np.int32)
        answer_pos = np.zeros((len(owners), 1), np.int32)
        for r, i in enumerate(owners):
            layout = self._layout(self._anchors[i], video)
            start = layout.prefix_len
            tail = layout.tokens[start:]
            # The suffix's own bank is the second video's alone.
            tokens[r, : len(tail)] = np.where(tail < 0, tail + self._bank.stride, tail)
            positions[r] = start + np.arange(room)
            answer_pos[r] = layout.answer_pos - start
        second = np.stack([video.visual[g] for g in groups])
        logits = np.asarray(
            self._suffix(self._params, self._cache, second, tokens, positions, answer_pos)
        )
        return np.stack([logits[np.array(owners) == i].mean(0) for i in range(len(self._anchors))])


def _at(hidden: jax.Array, positions: jax.Array) -> jax.Array:
    return jnp.take_along_axis(hidden, positions[..., None], axis=1)


def _num_groups(first: EncodedVideo, second: EncodedVideo) -> int:
    return max(len(first.visual), len(second.visual))


def _group(video: EncodedVideo, group: int) -> np.ndarray:
    return video.visual[group % len(video.visual)]


def video_input(frames: np.ndarray, motion: np.ndarray, spec: StudentSpec) -> VideoInput:
    """Stored frames (of a video record or `frames.video_input`) as the engine's input."""
    return VideoInput(scoring_groups(frames, spec.preprocess, spec.num_frames), motion)
