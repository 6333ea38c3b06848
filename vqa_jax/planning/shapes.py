"""Inputs of the real steps as shapes: what a batch of published size looks like, with no corpus,
no tokenizer files and no memory."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vqa_jax.devices import sharding as parallel
from vqa_jax.models import prompt
from vqa_jax.models.flops import PairShape
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.weights import bundle


@dataclasses.dataclass(frozen=True)
class PromptSize:
    """What a tokenizer makes of the prompt: tokens of text (prefix: before the second video),
    answer tokens, the level words."""

    training: int
    scoring: int
    prefix: int
    sentence: int
    level_index: int
    level_ids: tuple[int, ...]


# Of Qwen2's tokenizer, which the published sizes use (method 4), and of Qwen3's, which has more
# special tokens; no files are needed to plan.
QWEN2_PROMPT = PromptSize(84, 78, 32, 14, 7, (37179, 10960, 4428, 2664, 16353))


def prompt_size(spec: bundle.StudentSpec) -> PromptSize:
    """Sizes of the prompt with the student's tokenizer."""
    if spec.preset not in bundle.OWN_TOKENIZER:
        return QWEN2_PROMPT
    tokenizer = bundle.make_tokenizer(spec)
    geometry = PromptGeometry(tokenizer, spec.student.tokens_per_frame, "sentence")
    span = prompt.answer_span(tokenizer, LEVELS[0])
    bank = geometry.bank(1, 1)
    prefix = geometry.layout(LEVELS[0], (1, 1), (1, 1), bank)[0].prefix_len - bank.stride
    return PromptSize(
        training=len(prompt.training_ids(tokenizer, LEVELS[0])) - 4,
        scoring=len(prompt.scoring_ids(tokenizer)) - 4,
        prefix=prefix,
        sentence=span.stop - span.start,
        level_index=geometry.level_index,
        level_ids=tuple(geometry.level_ids),
    )


def pair_shape(
    spec: bundle.StudentSpec,
    text: PromptSize,
    pairs: int,
    answer: str,
    tokens: int | None = None,
    group_size: int = 1,
) -> PairShape:
    """Sizes of a batch whose videos all have the most frames and clips.

    Args:
      spec: the student.
      text: sizes of its prompt.
      pairs: global batch size.
      answer: "level" or "sentence".
      tokens: length to pad sequences to; None: as long as such a pair is.
      group_size: pairs that share their first video.

    Raises:
      ValueError: `tokens` is too few, or `pairs` are no whole groups.
    """
    clips = max(1, spec.preprocess.max_clips)
    bank = spec.bank
    needed = text.training + 2 * bank.stride
    if tokens is not None and tokens < needed:
        raise ValueError(f"{tokens} tokens: a pair of {spec.num_frames} frames needs {needed}")
    if pairs % group_size:
        raise ValueError(f"{pairs} pairs are no whole groups of {group_size}")
    answers = 1 if answer == "level" else text.sentence
    prefix = text.prefix + bank.stride if group_size > 1 else 0
    frames = spec.num_frames
    return PairShape(pairs, frames, clips, tokens or needed, answers, group_size, prefix)


def abstract_batch(
    spec: bundle.StudentSpec, shape: PairShape, mesh: Mesh
) -> dict[str, jax.ShapeDtypeStruct]:
    """A training batch as shapes on a mesh: `batch.pad_batch`'s, or
    `grouped_batch.pad_groups`'s where pairs share their first video."""
    size, sharding = spec.student.vision.image_size, parallel.batch_sharding(mesh)
    grouped = shape.group_size > 1
    each = (shape.group_size,) if grouped else ()  # of what there is one a pair
    videos = 1 + shape.group_size

    def make(dtype: Any, *dims: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((shape.groups, *dims), dtype, sharding=sharding)

    frames = make(jnp.uint8, videos, shape.frames, size, size, 3)
    if spec.tower:
        vision = spec.student.vision
        frames = make(jnp.float32, videos, shape.frames, vision.grid**2, vision.embed_dim)
    batch = {
        "frames": frames,
        "frame_mask": make(jnp.float32, videos, shape.frames),
        "motion": make(jnp.float32, videos, shape.clips, spec.student.motion_dim),
        "tokens": make(jnp.int32, *each, shape.tokens - shape.prefix),
        "answer_pos": make(jnp.int32, *each, shape.answers),
        "answer_ids": make(jnp.int32, *each, shape.answers),
        "loss_mask": make(jnp.float32, *each, shape.answers),
        "level_probs": make(jnp.float32, *each, len(LEVELS)),
        "severity": make(jnp.int32, *each, 2),
        "group": make(jnp.int32, *each),
        "example_mask": make(jnp.float32, *each),
    }
    if grouped:
        batch["prefix_tokens"] = make(jnp.int32, shape.prefix)
        batch["prefix_len"] = make(jnp.int32)
    return batch


def shard_bytes(tree: Any) -> int:
    """Bytes of one device's shards of a tree of shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
