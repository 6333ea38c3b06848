"""bfloat16 and int8 beside float32: what they change in answers and scores, and what they take."""

from __future__ import annotations

import dataclasses
import os
import platform
from typing import Any

import numpy as np

from launch.bench import heldout
from launch.bench.scoring import published_sizes
from vqa_jax import loading
from vqa_jax.benchmarks import metrics
from vqa_jax.devices.execution import executing
from vqa_jax.models import prompt
from vqa_jax.pairs.levels import preference
from vqa_jax.planning import scoring as planned
from vqa_jax.planning import scoring_cost
from vqa_jax.planning.scoring_search import OnTpu
from vqa_jax.scoring import placement
from vqa_jax.scoring.predictor import Predictor

WHOLE = ("float32", None)
OTHERS = (("bfloat16", None), ("int8", None), ("float32", "int8"))  # dtype, cache_dtype


def measure(student: str | None, data: str, num: int) -> dict[str, Any]:
    """Asks about held-out versions of a corpus and every anchor in each arithmetic.

    Args:
      student: folder or name; None: the shipped one.
      data: corpus of versions that it was not trained on.
      num: of these, from all over the corpus; all if there are fewer.

    Returns:
      {"machine", "videos", "model" (in float32), "rows": one an arithmetic, float32 first:
      {"dtype", "cache_dtype", "logits": largest and mean absolute difference of the level logits,
      "srcc", "score": largest difference of a score, "bytes" (weights, and the anchors' keys and
      values), and "published": {"bytes", "flops", "int8"} of the 7B student}}.
    """
    versions = heldout.rows(data)
    places = np.linspace(0, len(versions) - 1, min(num, len(versions))).round().astype(int)
    versions = [versions[place] for place in places]
    found, whole = [], None
    for dtype, cache_dtype in (WHOLE, *OTHERS):
        loaded = loading.load(student, dtype=dtype, cache_dtype=cache_dtype)
        logits, scores = _answers(loaded, data, versions)
        whole = whole or (loaded.fingerprint, logits, scores)
        difference = np.abs(logits - whole[1])
        found.append(
            {
                "dtype": dtype,
                "cache_dtype": cache_dtype,
                "logits": [float(difference.max()), float(difference.mean())],
                "srcc": metrics.correlate(scores, whole[2], ("srcc",))["srcc"],
                "score": float(np.abs(scores - whole[2]).max()),
                "bytes": dataclasses.astuple(_need(loaded, cache_dtype)),
                "published": _published(loaded, dtype, cache_dtype),
            }
        )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "videos": len(versions),
        "model": whole[0],
        "rows": found,
    }


def _answers(student: Predictor, data: str, versions: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Level logits [n, A, 5] of versions against anchors, and scores [n]."""
    engine, judge = student.engine, student.judge
    videos = list(engine.encode(heldout.inputs(data, versions, engine.spec)))
    count = len(judge.anchors.names)
    logits = engine.against([(a, video) for video in videos for a in range(count)])
    logits = logits.reshape(len(videos), count, -1)
    return logits, np.array([one.score for one in judge.scale.solve(preference(logits))])


def _need(student: Predictor, cache_dtype: str | None) -> placement.Need:
    spec, anchors = student.spec, student.judge.anchors
    return placement.need(spec.student, spec, student.tokenizer, anchors, cache_dtype)


def _published(student: Predictor, dtype: str, cache_dtype: str | None) -> dict[str, Any]:
    """Of the published 7B student: bytes of weights and of five anchors' keys and values;
    operations of a scored video, and how many of them are in int8."""
    preset, frames, clips = published_sizes()
    cfg = planned.scoring_config(preset, dtype)
    text = len(prompt.scoring_ids(student.tokenizer)) - 4
    with executing(OnTpu(attention="splash")):  # a CPU multiplies whole numbers as floats
        encode, _, suffix = scoring_cost.counts(cfg, frames, clips, text, cache_dtype=cache_dtype)
    tokens = planned.NUM_ANCHORS * (prompt.Bank(frames * cfg.tokens_per_frame, clips).stride + text)
    return {
        "bytes": [
            placement.weight_bytes(cfg),
            placement.cache_bytes(cfg, tokens, cache_dtype),
        ],
        "flops": encode.total + planned.NUM_ANCHORS * suffix.total,
        "int8": encode.int8 + planned.NUM_ANCHORS * suffix.int8,
    }


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as text."""
    lines = [
        f"{found['videos']} versions, model {found['model']}, {found['machine']}; beside float32",
        "arithmetic, anchors   logits: most, mean      SRCC  score: most   MB: weights, anchors  "
        "7B: GB weights, anchors  TFLOP, in int8",
    ]
    for row in found["rows"]:
        name = f"{row['dtype']}, {row['cache_dtype'] or 'as computed'}"
        most, mean = row["logits"]
        weights, cache = (size / 1e6 for size in row["bytes"])
        published = row["published"]
        large, kept = (size / 1e9 for size in published["bytes"])
        flops, int8 = published["flops"] / 1e12, published["int8"] / 1e12
        lines.append(
            f"{name:<20}  {most:12.2g}, {mean:.2g}  {row['srcc']:.7f}  {row['score']:11.3f}  "
            f"{weights:12.1f}, {cache:.2f}  {large:14.2f}, {kept:.2f}  {flops:14.1f}, {int8:.1f}"
        )
    return "\n".join(lines)
