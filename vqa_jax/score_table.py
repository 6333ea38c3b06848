"""The score command's results: progress, a terminal table, CSV and JSON."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from vqa_jax.files import write_json
from vqa_jax.predictor import Predictor, Result
from vqa_jax.score_modes import ScoreConfig

DIRECTION = "higher is better"
PARTIAL = ".partial"


def _row(result: Result) -> dict[str, Any]:
    return {**dataclasses.asdict(result), "direction": DIRECTION}


def collect(
    student: Predictor,
    paths: Sequence[str],
    csv_path: str | None,
    config: ScoreConfig | None = None,
) -> list[Result]:
    """Scores all paths with a progress bar; failures are results with an error.

    Rows go to `csv_path` + ".partial" as they come, renamed at the end: an interrupted run keeps
    what it has scored.
    """
    results = []
    columns = [f.name for f in dataclasses.fields(Result)] + ["direction"]
    with contextlib.ExitStack() as stack:
        writer = None
        if csv_path:
            file = stack.enter_context(
                open(
                    csv_path + PARTIAL, "w", newline="", encoding="utf-8", errors="surrogateescape"
                )
            )
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
        found = student.iter_scores(paths, config)
        for result in tqdm(found, total=len(paths), desc="score", unit="video"):
            results.append(result)
            if writer is not None:
                writer.writerow(_row(result))
                file.flush()
    if csv_path:
        os.replace(csv_path + PARTIAL, csv_path)
    return results


def render(results: Sequence[Result], anchors: int) -> str:
    """The table for the terminal, best first, failures last, with what the numbers mean.

    anchors: how many there are, to tell what was saved.
    """
    good = sorted((r for r in results if r.error is None), key=lambda r: -(r.score or 0.0))
    lines = [f"{'score':>8}  {'std':>6}  path"]
    for row in good:
        mark = " (beyond the anchors)" if row.extrapolated else ""
        std = "-" if row.std is None else f"{row.std:.2f}"
        lines.append(f"{row.score:8.2f}  {std:>6}  {row.path}{mark}")
    for row in results:
        if row.error is not None:
            lines.append(f"{'-':>8}  {'-':>6}  {row.path}: {row.error}")
    lines += _notes(good, anchors)
    lines.append(f"scale: {results[0].scale}")
    lines.append(
        f"model: {results[0].model}; {len(good)} scored, {len(results) - len(good)} failed"
    )
    return "\n".join(lines)


def _notes(good: Sequence[Result], anchors: int) -> list[str]:
    """What the mode has to tell: comparisons saved, answers that contradict each other."""
    made = [r.comparisons for r in good if r.comparisons is not None]
    lines = []
    if sum(made) < anchors * len(made):
        saved = 1 - sum(made) / (anchors * len(made))
        mean = sum(made) / len(made)
        lines.append(f"{mean:.2f} of {anchors} comparisons a video: {saved:.0%} saved")
    shares = [r.contradictions for r in good if r.contradictions is not None]
    if shares:
        mean = sum(shares) / len(shares)
        lines.append(f"both orders: the answers contradict each other in {mean:.1%} of the pairs")
    return lines


def write_results(results: Sequence[Result], path: str) -> None:
    """Writes the CSV's rows as JSON."""
    write_json(path, [_row(r) for r in results])
