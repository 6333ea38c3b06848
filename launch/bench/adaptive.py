"""What fewer comparisons with anchors give, on a corpus of known severities, and what they cost."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

from launch.bench import heldout
from launch.bench.scoring import published_cost
from vqa_jax import loading
from vqa_jax.benchmarks import metrics
from vqa_jax.models import prompt
from vqa_jax.scoring.comparisons import in_rounds
from vqa_jax.scoring.engine import EncodedVideo
from vqa_jax.scoring.judge import Judge


def measure(student: str | None, data: str, epsilons: Sequence[float]) -> dict[str, Any]:
    """Scores every effective held-out version of a corpus with 1..A anchors and adaptively.

    Returns:
      {"machine", "videos", "sources", "model", "rows": those of
      `modes_table` with "flops_7b", the cost at published size in units of five full passes}.

    Raises:
      CorpusError: the corpus has no held-out videos.
    """
    loaded = loading.load(student)
    engine = loaded.engine
    rows = heldout.rows(data)
    worst: dict[str, int] = {}
    for row in rows:
        worst[row["simulator"]] = max(worst.get(row["simulator"], 1), row["level"])
    videos = list(engine.encode(heldout.inputs(data, rows, engine.spec)))
    labels = [-row["level"] / worst[row["simulator"]] for row in rows]
    found = modes_table(loaded.judge, videos, labels, epsilons)
    cost = published_cost(len(prompt.scoring_ids(loaded.tokenizer)) - 4)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "videos": len(rows),
        "sources": len({row["source_id"] for row in rows}),
        "model": loaded.fingerprint,
        "rows": [{**row, "flops_7b": cost.share(row["comparisons"])} for row in found],
    }


def modes_table(
    judge: Judge,
    videos: Sequence[EncodedVideo],
    labels: Sequence[float] | np.ndarray,
    epsilons: Sequence[float] = (),
) -> list[dict[str, float]]:
    """What k = 1..A comparisons a video give, and adaptive modes, on a labelled set.

    Every anchor is asked once; the modes then see the answers that they would ask for.

    Args:
      judge: student and anchors.
      videos: to be scored.
      labels: quality of each, higher is better.
      epsilons: of the adaptive modes.

    Returns:
      A row a k, then one an epsilon: {"epsilon" (0 for the former), "comparisons" (mean), "srcc"
      (with the labels), "srcc_full" (with all anchors' scores)}.
    """
    scale, count = judge.scale, len(judge.anchors.names)
    preferred = judge.comparisons.every(videos)

    def answer(anchors: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return preferred[rows, anchors]

    full = scale.solve_q(preferred)[0]
    modes = [(0.0, k) for k in range(1, count + 1)] + [(epsilon, count) for epsilon in epsilons]
    rows = []
    for epsilon, most in modes:
        answers = in_rounds(answer, len(videos), scale, epsilon, most)
        q = scale.solve_q(answers.preferred, answers.seen)[0]
        rows.append(
            {
                "epsilon": epsilon,
                "comparisons": float(answers.seen.sum(axis=1).mean()),
                "srcc": metrics.correlate(q, labels, ("srcc",))["srcc"],
                "srcc_full": metrics.correlate(q, full, ("srcc",))["srcc"],
            }
        )
    return rows


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as text."""
    lines = [
        f"{found['videos']} versions of {found['sources']} held-out sources, model "
        f"{found['model']}, {found['machine']}",
        "epsilon  comparisons  SRCC with all anchors  SRCC with severity  7B FLOPs of full passes",
    ]
    for row in found["rows"]:
        epsilon = f"{row['epsilon']:g}" if row["epsilon"] else "-"
        lines.append(
            f"{epsilon:>7}  {row['comparisons']:11.2f}  {row['srcc_full']:21.4f}  "
            f"{row['srcc']:18.4f}  {row['flops_7b']:23.3f}"
        )
    return "\n".join(lines)
