"""What the engine saves over five full passes of the student, in CPU time and in operations."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import numpy as np

from vqa_jax import loading
from vqa_jax.models import prompt
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import StudentConfig
from vqa_jax.planning import scoring_cost
from vqa_jax.scoring.engine import Engine, VideoInput

_PRESET, _FRAMES, _CLIPS = "ov_7b", 10, 10  # of the published student and its videos


def _passes(engine: Engine, anchors: list[VideoInput], video: VideoInput) -> np.ndarray:
    """Level logits [A, 5] by full passes, each encoding both of its videos; one batch of all."""
    encoded = list(engine.encode([*anchors, *[video] * len(anchors)]))
    return engine.compare(list(zip(encoded[: len(anchors)], encoded[len(anchors) :], strict=True)))


def _cached(engine: Engine, video: VideoInput) -> np.ndarray:
    return engine.against_anchors(next(engine.encode([video])))


def measure(student: str | None, repeats: int, seed: int) -> dict[str, Any]:
    """Scores made-up videos of the anchors' shape both ways, in turns.

    Args:
      student: folder or name; None: `tiny`, whose tower is of the published kind.
      repeats: videos.
      seed: of their noise.

    Returns:
      {"machine", "videos", "passes_ms" and "engine_ms" (median CPU time of one video), "ratio"
      (median of the ratios), "logits_error" (largest absolute difference of level logits),
      "flops_ratio" (of this student), "flops_ratio_7b"}.

    Raises:
      ValueError: the student reads tokens of a frozen tower, which no pass computes.
    """
    loaded = loading.load(student or "tiny")
    if loaded.spec.tower:
        raise ValueError(f"{student}: a frozen tower's tokens are computed once anyway: take tiny")
    engine, anchors = loaded.engine, list(loaded.judge.anchors.inputs)
    rng = np.random.default_rng(seed)
    like = anchors[0]
    passes, cached, error = [], [], 0.0
    for turn in range(repeats + 1):  # the first turn compiles
        noise = rng.integers(-60, 60, like.frames.shape)
        mixed = anchors[turn % len(anchors)].frames + noise
        video = VideoInput(np.clip(mixed, 0, 255).astype(np.uint8), like.motion)
        begun = time.process_time()
        wanted = _passes(engine, anchors, video)
        between = time.process_time()
        found = _cached(engine, video)
        ended = time.process_time()
        error = max(error, float(np.abs(found - wanted).max()))
        if turn:
            passes.append(between - begun)
            cached.append(ended - between)
    text = len(prompt.scoring_ids(loaded.tokenizer)) - 4
    own = scoring_cost.count(
        loaded.spec.student, like.frames.shape[1], max(1, loaded.spec.preprocess.max_clips), text
    )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "videos": repeats,
        "passes_ms": 1e3 * float(np.median(passes)),
        "engine_ms": 1e3 * float(np.median(cached)),
        "ratio": float(np.median(np.array(cached) / np.array(passes))),
        "logits_error": error,
        "flops_ratio": own.share(len(anchors), len(anchors)),
        "flops_ratio_7b": published_cost(text).share(5),
    }


def published_sizes() -> tuple[StudentConfig, int, int]:
    """The published 7B student, and frames and clips of a video."""
    return PRESETS[_PRESET], _FRAMES, _CLIPS


def published_cost(text: int) -> scoring_cost.ScoringCost:
    """Counts of the published 7B student, ten frames and ten clips a video."""
    return scoring_cost.count(*published_sizes(), text)


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as text."""
    return "\n".join(
        [
            f"{found['machine']}; {found['videos']} videos, medians of CPU time, anchors ready",
            f"full passes {found['passes_ms']:.1f} ms, engine {found['engine_ms']:.1f} ms a video: "
            f"{found['ratio']:.3f}",
            f"level logits differ by at most {found['logits_error']:.1e}",
            f"operations: {found['flops_ratio']:.3f} of the full passes; 7B: "
            f"{found['flops_ratio_7b']:.3f}",
        ]
    )
