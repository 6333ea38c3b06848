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

DIRECTION = "higher is better"
PARTIAL = ".partial"


def _row(result: Result) -> dict[str, Any]:
    return {**dataclasses.asdict(result), "direction": DIRECTION}


def collect(student: Predictor, paths: Sequence[str], csv_path: str | None) -> list[Result]:
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
        found = student.iter_scores(paths)
        for result in tqdm(found, total=len(paths), desc="score", unit="video"):
            results.append(result)
            if writer is not None:
                writer.writerow(_row(result))
                file.flush()
    if csv_path:
        os.replace(csv_path + PARTIAL, csv_path)
    return results


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


def write_results(results: Sequence[Result], path: str) -> None:
    """Writes the CSV's rows as JSON."""
    write_json(path, [_row(r) for r in results])
