"""Inputs of the real steps as shapes: what a batch of published size looks like, with no corpus,
no tokenizer files and no memory."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vqa_jax import bundle, parallel, prompt
from vqa_jax.input_pipeline import PromptGeometry
from vqa_jax.levels import LEVELS
from vqa_jax.model_flops import PairShape


@dataclasses.dataclass(frozen=True)
class PromptSize:
    """What a tokenizer makes of the prompt: tokens of text, answer tokens, the level words."""

    training: int
    scoring: int
    sentence: int
    level_index: int
    level_ids: tuple[int, ...]


# Of Qwen2's tokenizer, which the published sizes use (METHOD 4); no files are needed to plan.
QWEN2_PROMPT = PromptSize(84, 78, 14, 7, (37179, 10960, 4428, 2664, 16353))


def prompt_size(spec: bundle.StudentSpec) -> PromptSize:
    """Sizes of the prompt with the student's tokenizer."""
    if spec.preset != "tiny":
        return QWEN2_PROMPT
    tokenizer = bundle.make_tokenizer(spec)
    geometry = PromptGeometry(tokenizer, spec.student.tokens_per_frame, "sentence")
    span = prompt.answer_span(tokenizer, LEVELS[0])
    return PromptSize(
        training=len(prompt.training_ids(tokenizer, LEVELS[0])) - 4,
        scoring=len(prompt.scoring_ids(tokenizer)) - 4,
        sentence=span.stop - span.start,
        level_index=geometry.level_index,
        level_ids=tuple(geometry.level_ids),
    )


def pair_shape(
    spec: bundle.StudentSpec, text: PromptSize, pairs: int, answer: str, tokens: int | None = None
) -> PairShape:
    """Sizes of a batch whose videos all have the most frames and clips.

    Args:
      spec: the student.
      text: sizes of its prompt.
      pairs: global batch size.
      answer: "level" or "sentence".
      tokens: length to pad sequences to; None: as long as such a pair is.

    Raises:
      ValueError: `tokens` is too few.
    """
    clips = max(1, spec.preprocess.max_clips)
    bank = prompt.Bank(spec.num_frames * spec.student.tokens_per_frame, clips)
    needed = text.training + 2 * bank.stride
    if tokens is not None and tokens < needed:
        raise ValueError(f"{tokens} tokens: a pair of {spec.num_frames} frames needs {needed}")
    answers = 1 if answer == "level" else text.sentence
    return PairShape(pairs, spec.num_frames, clips, tokens or needed, answers)


def abstract_batch(
    spec: bundle.StudentSpec, shape: PairShape, mesh: Mesh
) -> dict[str, jax.ShapeDtypeStruct]:
    """A training batch (`input_pipeline.pad_batch`) as shapes on a mesh."""
    size, sharding = spec.student.vision.image_size, parallel.batch_sharding(mesh)

    def make(dtype: Any, *dims: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((shape.pairs, *dims), dtype, sharding=sharding)

    return {
        "frames": make(jnp.uint8, 2, shape.frames, size, size, 3),
        "frame_mask": make(jnp.float32, 2, shape.frames),
        "motion": make(jnp.float32, 2, shape.clips, spec.student.motion_dim),
        "tokens": make(jnp.int32, shape.tokens),
        "answer_pos": make(jnp.int32, shape.answers),
        "answer_ids": make(jnp.int32, shape.answers),
        "loss_mask": make(jnp.float32, shape.answers),
        "level_probs": make(jnp.float32, len(LEVELS)),
        "severity": make(jnp.int32, 2),
        "group": make(jnp.int32),
        "example_mask": make(jnp.float32),
    }


def shard_bytes(tree: Any) -> int:
    """Bytes of one device's shards of a tree of shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
