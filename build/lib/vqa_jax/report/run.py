"""The report of a run: one HTML file for people, plain tables for the terminal.

Parts of the run that do not exist yet are named as such; nothing in the run is changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from absl import logging

from vqa_jax.report import html, run_data, run_page
from vqa_jax.report.run_results import loop_difference, loop_value

REPORT = "report.html"
_WRONG_PAIRS = 12  # shown with pictures
_WRONG_PER_SIMULATOR = 3  # so that one weak simulator does not hide the others


def build_report(run: str) -> str:
    """Writes `run`/report.html and returns its path.

    Args:
      run: folder of a run, with `corpus` and `iteration_N` below it as far as they exist.

    Raises:
      FileNotFoundError: `run` is not a folder.
    """
    data = run_data.collect(run)
    wrong = []
    if data.evaluated:
        wrong = run_data.confidently_wrong(
            data.evaluated[-1].pairs, _WRONG_PAIRS, _WRONG_PER_SIMULATOR
        )
    videos = [row.get(key, "") for row in wrong for key in ("first_id", "second_id")]
    pictures = run_data.thumbnails(run, videos) if videos else {}
    path = os.path.join(run, REPORT)
    html.write(path, "run.html", **run_page.contents(data, wrong, pictures))
    logging.info("report written to %s", path)
    return path


def evaluation_table(evaluation: Mapping[str, Any]) -> str:
    """One evaluation (see `evaluate.summarize`) as plain text, a line a simulator."""
    lines = [f"{'held-out pairs':16}{'right':>8}{'SRCC':>8}{'pairs':>8}"]
    rows = [*evaluation["by_simulator"].items(), ("all (mean)", evaluation)]
    for name, entry in rows:
        srcc = "-" if entry["srcc"] is None else f"{entry['srcc']:.3f}"
        pairs = entry.get("pairs", evaluation["num_pairs"])
        lines.append(f"{name:16}{100 * entry['accuracy']:7.1f}%{srcc:>8}{pairs:8d}")
    return "\n".join(lines)


def summary_table(run: str) -> str:
    """The loop's table as plain text: iterations side by side and their difference.

    Args:
      run: folder of a run.

    Raises:
      FileNotFoundError: `run` is not a folder.
    """
    data = run_data.collect(run)
    if not data.evaluated:
        return "No iteration has been evaluated yet."
    titles = {
        "accuracy": "Held-out pairs in the right order (50% is chance)",
        "srcc": "SRCC of score against severity (−1 is perfect)",
        "contradiction": "Consistency (0% is perfect)",
    }
    table: list[list[str]] = [["", *(f"iteration {i.number}" for i in data.iterations), "change"]]
    kind = ""
    for row in run_data.loop_rows(data):
        if row.kind != kind:
            kind = row.kind
            table.append([titles[kind]])
        values = [loop_value(row, v) for v in row.values]
        table.append([f"  {row.name}", *values, loop_difference(row)])
    full = [cells for cells in table if len(cells) > 1]
    widths = [max(len(cells[i]) for cells in full) for i in range(len(full[0]))]
    lines = []
    for cells in table:
        first, *rest = cells
        padded = [first.ljust(widths[0])]
        padded += [c.rjust(w) for c, w in zip(rest, widths[1:], strict=False)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
