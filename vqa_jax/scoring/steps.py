"""What scoring computes on devices, as pure functions of a student's parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vqa_jax.models import int8
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.qwen2 import KVCache, prefix_positions


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


def make_steps(
    student: FunctionalStudent, level_ids: Sequence[int], cache_dtype: str | None = None
) -> Steps:
    """The functions of scoring, not yet jitted.

    Args:
      student: architecture.
      level_ids: token ids of the five levels.
      cache_dtype: in which `prefix` gives keys and values: "int8", or None, as computed.
    """
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
        cache = model.hidden(model.merge(tokens, first), positions)[1]
        return cache.quantized() if cache_dtype == int8.DTYPE else cache

    def suffix(params, cache, second, tokens, positions, answer_pos):
        model = student.bind(params)
        hidden, _ = model.hidden(model.merge(tokens, second), positions, cache)
        return model.llm.logits(_at(hidden, answer_pos), levels)[:, 0]

    return Steps(encode, compare, prefix, suffix)


def _at(hidden: jax.Array, positions: jax.Array) -> jax.Array:
    return jnp.take_along_axis(hidden, positions[..., None], axis=1)
