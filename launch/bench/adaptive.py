"""What fewer comparisons with anchors give, on a corpus of known severities, and what they cost."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

from launch.bench.scoring import published_cost
from vqa_jax import loading
from vqa_jax.corpus.store import VideoStore
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs.files import CorpusError
from vqa_jax.models import prompt
from vqa_jax.scoring import comparisons
from vqa_jax.scoring.engine import video_input


def measure(student: str | None, data: str, epsilons: Sequence[float]) -> dict[str, Any]:
    """Scores every effective held-out version of a corpus with 1..A anchors and adaptively.

    Returns:
      {"machine", "videos", "sources", "model", "rows": those of
      `comparisons.comparisons_table` with "flops_7b", the cost at published size in units of five
      full passes}.

    Raises:
      files.CorpusError: the corpus has no held-out videos.
    """
    loaded = loading.load(student)
    engine, scale = loaded.engine, loaded.scale
    rows = [r for r in read_video_table(data) if r["effective"] and r["split"] == "heldout"]
    if not rows:
        raise CorpusError(f"{data} has no held-out videos: prepare with --config evaluation")
    worst: dict[str, int] = {}
    for row in rows:
        worst[row["simulator"]] = max(worst.get(row["simulator"], 1), row["level"])
    store = VideoStore(data, engine.spec.extractor)
    stored = (store[row["video_id"]] for row in rows)
    inputs = (video_input(record["frames"], motion, engine.spec) for record, motion in stored)
    videos = list(engine.encode(inputs))
    labels = [-row["level"] / worst[row["simulator"]] for row in rows]
    table = comparisons.comparisons_table(scale, videos, labels, epsilons)
    cost = published_cost(len(prompt.scoring_ids(loaded.tokenizer)) - 4)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "videos": len(rows),
        "sources": len({row["source_id"] for row in rows}),
        "model": loaded.fingerprint,
        "rows": [{**row, "flops_7b": cost.share(row["comparisons"])} for row in table],
    }


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
