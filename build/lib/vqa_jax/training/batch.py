"""Examples of pairs -> one batch of static shape: prompts laid out, everything padded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax.models import prompt
from vqa_jax.models.cell_tower import program_dtype
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.pairs.levels import LEVELS

GROUPS = ("simulator", "teachers", "student", "human")


class PromptGeometry:
    """Training prompts of the five levels, tokenized once, and the tokens that a frame takes."""

    def __init__(self, tokenizer: Tokenizer, tokens_per_frame: int, answer: str):
        self.tokens_per_frame = tokens_per_frame
        self.level_ids = prompt.level_ids(tokenizer)
        self._ids = {level: prompt.training_ids(tokenizer, level) for level in LEVELS}
        span = prompt.answer_span(tokenizer, LEVELS[0])  # level words are one token each
        self._predict = [span.level] if answer == "level" else list(range(span.start, span.stop))
        self.level_index = self._predict.index(span.level)

    def bank(self, num_frames: int, num_motion: int) -> prompt.Bank:
        """Visual tokens of one padded video."""
        return prompt.Bank(num_frames * self.tokens_per_frame, num_motion)

    def max_length(self, bank: prompt.Bank) -> int:
        """Sequence length of a pair that fills the bank."""
        return len(self._ids[LEVELS[0]]) - 4 + 2 * bank.stride

    def layout(
        self, level: str, num_frames: Sequence[int], num_motion: Sequence[int], bank: prompt.Bank
    ) -> tuple[prompt.Layout, np.ndarray]:
        """Layout of one pair and the ids [T] of its answer tokens."""
        ids = self._ids[level]
        tokens = [n * self.tokens_per_frame for n in num_frames]
        return (
            prompt.layout(ids, tokens, num_motion, bank, self._predict),
            np.asarray(ids, np.int32)[self._predict],
        )


def label_group(label_source: str) -> str:
    """Group of a pair by the source of its label, one of GROUPS."""
    return label_source.split(":")[0]


def pad_batch(
    examples: Iterable[Mapping[str, Any]],
    geometry: PromptGeometry,
    num_frames: int,
    num_motion: int,
) -> dict[str, np.ndarray]:
    """Pads examples to one batch of static shape.

    Args:
      examples: from the assembly step.
      geometry: prompts and tokens per frame.
      num_frames: frame bucket F.
      num_motion: motion bucket M.

    Returns:
      frames uint8 [B, 2, F, S, S, 3] (or a frozen tower's tokens, float32 [B, 2, F, P, W]),
      frame_mask f32 [B, 2, F], motion f32 [B, 2, M, D], tokens i32 [B, L], answer_pos and
      answer_ids i32 and loss_mask f32 [B, T], level_probs f32 [B, 5], severity i32 [B, 2], group
      i32 [B], example_mask f32 [B]. Padding follows the real tokens, so causal attention never
      sees it.
    """
    examples = list(examples)
    size = examples[0]["frames"][0].shape[1:]
    width = examples[0]["motion"][0].shape[1]
    bank = geometry.bank(num_frames, num_motion)
    kind = program_dtype(examples[0]["frames"][0].dtype)
    frames = np.zeros((len(examples), 2, num_frames, *size), kind)
    frame_mask = np.zeros((len(examples), 2, num_frames), np.float32)
    motion = np.zeros((len(examples), 2, num_motion, width), np.float32)
    tokens = np.zeros((len(examples), geometry.max_length(bank)), np.int32)
    answer_pos, answer_ids = [], []
    for i, example in enumerate(examples):
        for n in range(2):
            frames[i, n, : len(example["frames"][n])] = example["frames"][n]
            frame_mask[i, n, : len(example["frames"][n])] = 1.0
            motion[i, n, : len(example["motion"][n])] = example["motion"][n]
        row, ids = geometry.layout(
            LEVELS[int(np.argmax(example["level_probs"]))],
            [len(f) for f in example["frames"]],
            [len(m) for m in example["motion"]],
            bank,
        )
        tokens[i, : len(row.tokens)] = row.tokens
        answer_pos.append(row.answer_pos)
        answer_ids.append(ids)
    return {
        "frames": frames,
        "frame_mask": frame_mask,
        "motion": motion,
        "tokens": tokens,
        "answer_pos": np.stack(answer_pos),
        "answer_ids": np.stack(answer_ids),
        "loss_mask": np.ones((len(examples), len(answer_ids[0])), np.float32),
        "level_probs": np.stack([e["level_probs"] for e in examples]),
        "severity": np.stack([e["severity"] for e in examples]),
        "group": np.array([GROUPS.index(e["group"]) for e in examples], np.int32),
        "example_mask": np.ones(len(examples), np.float32),
    }
