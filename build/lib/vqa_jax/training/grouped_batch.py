"""Batches of groups: pairs with one first video, which is encoded and read by the decoder once.

A group's row holds the prompt up to the second video (the prefix) and, after it, what is left of
every pair's prompt (a suffix each); `attention.SharedPrefix` says what sees what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax.errors import VqaError
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.training.batch import PromptGeometry, pad_batch

_OF_PAIRS = ("answer_pos", "answer_ids", "loss_mask", "level_probs", "severity", "group")


class GroupError(VqaError, ValueError):
    """Pairs that do not form a group: they are too many, none, or differ in their first video."""


def prefix_size(geometry: PromptGeometry, num_frames: int, num_motion: int) -> int:
    """L1, tokens of the longest prefix; a suffix's most are what is left of a full pair."""
    bank = geometry.bank(num_frames, num_motion)
    full = geometry.layout(LEVELS[0], (num_frames,) * 2, (num_motion,) * 2, bank)[0]
    return full.prefix_len


def _same_first(group: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the examples have one first video, to the bit."""
    return all(
        np.array_equal(example[part][0], group[0][part][0])
        for example in group[1:]
        for part in ("frames", "motion")
    )


def pad_groups(
    groups: Sequence[Sequence[Mapping[str, Any]]],
    geometry: PromptGeometry,
    num_frames: int,
    num_motion: int,
    group_size: int,
) -> dict[str, np.ndarray]:
    """Pads groups of examples to one batch of static shape.

    Args:
      groups: unpadded examples as for `batch.pad_batch`; those of a group have the same
        first video (frames and motion).
      geometry: prompts and tokens per frame.
      num_frames: frame bucket F.
      num_motion: motion bucket M.
      group_size: g, most pairs of a group.

    Returns:
      For G groups: frames uint8 [G, 1 + g, F, S, S, 3], frame_mask f32 [G, 1 + g, F], motion f32
      [G, 1 + g, M, D], prefix_tokens i32 [G, L1], prefix_len i32 [G], tokens i32 [G, g, L2],
      answer_pos (in the suffix) and answer_ids i32 and loss_mask f32 [G, g, T], level_probs f32
      [G, g, 5], severity i32 [G, g, 2] (-1 where there is no pair), group i32 [G, g],
      example_mask f32 [G, g], 0 where there is no pair.

    Raises:
      GroupError: a group is empty, too large, or of more than one first video.
    """
    stride = geometry.bank(num_frames, num_motion).stride
    size = prefix_size(geometry, num_frames, num_motion)
    rows = [_pad_group(g, geometry, (num_frames, num_motion), group_size, size) for g in groups]
    for row in rows:
        # A pair's second bank is its group's bank 1 + j.
        shift = stride * np.arange(group_size, dtype=np.int32)[:, None]
        row["tokens"] -= np.where(row["tokens"] < 0, shift, 0)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _pad_group(
    group: Sequence[Mapping[str, Any]],
    geometry: PromptGeometry,
    buckets: tuple[int, int],
    group_size: int,
    size: int,
) -> dict[str, np.ndarray]:
    """One group's row; second videos are still numbered as in a pair."""
    if not 0 < len(group) <= group_size:
        raise GroupError(f"a group of {len(group)} pairs: 1 to {group_size} fit (group_size)")
    if not _same_first(group):
        raise GroupError("pairs of a group have different first videos: group them by first_id")
    pairs = pad_batch(group, geometry, *buckets)

    def filled(x: np.ndarray) -> np.ndarray:
        return np.pad(x, [(0, group_size - len(x))] + [(0, 0)] * (x.ndim - 1))

    first = [len(group[0][part][0]) for part in ("frames", "motion")]
    length = prefix_size(geometry, *first)
    row = {name: filled(pairs[name]) for name in (*_OF_PAIRS, "example_mask")}
    for name in ("frames", "frame_mask", "motion"):
        row[name] = np.concatenate([pairs[name][0, :1], filled(pairs[name][:, 1])])
    row["severity"][len(group) :] = -1
    row["answer_pos"][: len(group)] -= length
    row["prefix_len"] = np.array(length, np.int32)
    row["prefix_tokens"] = np.zeros(size, np.int32)
    row["prefix_tokens"][:length] = pairs["tokens"][0, :length]
    suffix = pairs["tokens"].shape[1] - size
    row["tokens"] = filled(pairs["tokens"][:, length : length + suffix])
    return row
