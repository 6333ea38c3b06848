"""The score command's results: progress, a terminal table, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence

from tqdm import tqdm

from vqa_jax.predictor import Predictor, Result
from vqa_jax.records import write_json, written

DIRECTION = "higher is better"


def collect(student: Predictor, paths: Sequence[str]) -> list[Result]:
    """Scores all paths with a progress bar; failures are results with an error."""
    return list(tqdm(student.iter_scores(paths), total=len(paths), desc="score", unit="video"))


def render(results: Sequence[Result]) -> str:
    """The table for the terminal, best first, failures last, with what the numbers mean."""
    good = sorted((r for r in results if r.error is None), key=lambda r: -(r.score or 0.0))
    lines = [f"{'score':>8}  {'std':>6}  path"]
    for row in good:
        mark = " (beyond the anchors)" if row.extrapolated else ""
        lines.append(f"{row.score:8.2f}  {row.std:6.2f}  {row.path}{mark}")
    for row in results:
        if row.error is not None:
            lines.append(f"{'-':>8}  {'-':>6}  {row.path}: {row.error}")
    lines.append(f"scale: {results[0].scale}")
    lines.append(
        f"model: {results[0].model}; {len(good)} scored, {len(results) - len(good)} failed"
    )
    return "\n".join(lines)


def write(results: Sequence[Result], csv_path: str | None, json_path: str | None) -> None:
    """Writes one row a file, in the given order; a path that is None is not written."""
    rows = [{**dataclasses.asdict(r), "direction": DIRECTION} for r in results]
    if csv_path:
        with written(csv_path, newline="") as f:
            writer = csv.DictWriter(f, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if json_path:
        write_json(json_path, rows)
