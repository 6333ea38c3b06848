"""What is computed: sizes of the student and its inputs, made-up inputs, and their cost."""

from __future__ import annotations

import dataclasses

import numpy as np

from vqa_jax.models import flops, prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import StudentConfig
from vqa_jax.pairs.levels import LEVELS, level_probs
from vqa_jax.settings import EVERYTHING, Trainable
from vqa_jax.training import optim
from vqa_jax.training.batch import GROUPS, PromptGeometry, pad_batch


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of everything.

    Attributes:
      student: architecture.
      frames: key frames of a video.
      clips: motion clips of a video.
      tokens: sequence length of the pair that is trained on.
      videos: how many are scored.
      anchors: how many each is compared with.
      repeats: steps, and passes over all videos, that are timed.
    """

    student: StudentConfig
    frames: int
    clips: int
    tokens: int
    videos: int = 10
    anchors: int = 5
    repeats: int = 5


def _few_layers(cfg: StudentConfig, layers: int) -> StudentConfig:
    vision = dataclasses.replace(cfg.vision, num_layers=layers, unroll=1)
    llm = dataclasses.replace(cfg.llm, num_layers=layers, unroll=1)
    return dataclasses.replace(cfg, vision=vision, llm=llm)


def _of_decoder(cfg: StudentConfig, **sizes: int) -> StudentConfig:
    return dataclasses.replace(cfg, llm=dataclasses.replace(cfg.llm, **sizes))


_LARGE, _TINY = PRESETS["ov_0_5b"], PRESETS["tiny"]
# The tiny student in bfloat16, so that the same code runs.
_TINY = dataclasses.replace(_few_layers(_TINY, 2), compute_dtype="bfloat16")

FULL = Sizes(_LARGE, frames=10, clips=10, tokens=4096)
SMALL = Sizes(_TINY, frames=2, clips=2, tokens=192, repeats=2)
# Sizes of Qwen2-1.5B's config.json: no published student has it, but it is between the two.
_MIDDLE = _of_decoder(
    _LARGE, num_layers=28, embed_dim=1536, mlp_dim=8960, num_heads=12, head_dim=128
)
LARGER = tuple(dataclasses.replace(FULL, student=s) for s in (_MIDDLE, PRESETS["ov_7b"]))
SMALL_LARGER = (SMALL, SMALL)
# What a CPU computes too: every width as in FULL, fewer layers and frames.
SHALLOW = Sizes(_few_layers(_LARGE, 2), frames=1, clips=1, tokens=512, videos=2, anchors=2)
SMALL_SHALLOW = dataclasses.replace(SMALL, videos=2, anchors=2)


def tokenizer():
    """The tiny preset's: its ids are within every student's vocabulary, and it needs no file."""
    return prompt.tiny_tokenizer()


def made_up_videos(sizes: Sizes, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames uint8 [F, S, S, 3] and motion float32 [M, D] of videos: noise of growing contrast."""
    rng = np.random.default_rng(seed)
    side, cfg = sizes.student.vision.image_size, sizes.student
    found = []
    for i in range(count):
        noise = rng.normal(128, 10 + 60 * i / count, (sizes.frames, side, side, 3))
        motion = rng.normal(size=(sizes.clips, cfg.motion_dim)).astype(np.float32)
        found.append((np.clip(noise, 0, 255).astype(np.uint8), motion))
    return found


def training_batch(sizes: Sizes, pairs: int = 1) -> tuple[dict[str, np.ndarray], PromptGeometry]:
    """A batch of equal pairs, each padded to `sizes.tokens`, and their prompts."""
    geometry = PromptGeometry(tokenizer(), sizes.student.tokens_per_frame, "sentence")
    (frames, motion), (others, other_motion) = made_up_videos(sizes, 2, seed=0)
    example = {
        "frames": [frames, others],
        "motion": [motion, other_motion],
        "level_probs": level_probs(LEVELS[0]),
        "severity": np.full(2, -1, np.int32),
        "group": GROUPS[0],
    }
    batch = pad_batch([example] * pairs, geometry, sizes.frames, sizes.clips)
    length = batch["tokens"].shape[1]
    if length > sizes.tokens:
        raise ValueError(f"the pair takes {length} tokens, more than {sizes.tokens}")
    batch["tokens"] = np.pad(batch["tokens"], ((0, 0), (0, sizes.tokens - length)))
    return batch, geometry


def scoring_layout(sizes: Sizes) -> prompt.Layout:
    """The prompt of one comparison of two videos."""
    bank = prompt.Bank(sizes.frames * sizes.student.tokens_per_frame, sizes.clips)
    both = [[bank.frame_tokens] * 2, [bank.motion_tokens] * 2]
    return prompt.layout(prompt.scoring_ids(tokenizer()), *both, bank)


def training_flops(sizes: Sizes, answers: int, trainable: Trainable = EVERYTHING) -> float:
    """Model FLOPs of a training step of one pair."""
    shape = flops.PairShape(1, sizes.frames, sizes.clips, sizes.tokens, answers)
    abstract = FunctionalStudent(sizes.student).abstract()
    trained = optim.trained_paths(abstract, trainable)
    return flops.training_flops(sizes.student, shape, trained.__contains__).total


def encoding_flops(sizes: Sizes) -> float:
    """Model FLOPs of the visual tokens of all videos."""
    found = flops.encoding_flops(sizes.student, sizes.videos, sizes.frames, sizes.clips)
    return found.total


def decoding_flops(sizes: Sizes, cached: bool) -> float:
    """Model FLOPs of all comparisons: after a cached anchor, or of whole pairs."""
    layout = scoring_layout(sizes)
    prefix = layout.prefix_len if cached else 0
    sequences, length = sizes.videos * sizes.anchors, len(layout.tokens) - prefix
    return flops.suffix_flops(sizes.student, sequences, length, prefix).total
