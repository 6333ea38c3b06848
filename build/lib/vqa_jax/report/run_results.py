"""The report's sections on what the student can do: tables, score plots, wrong pairs, confusion.

Each function takes the run and returns what its section shows, or None without an evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import plots
from vqa_jax.report.html import (
    NOTHING,
    Cell,
    Figure,
    Table,
    correlation,
    count,
    heat_cell,
    jpeg_uri,
    number,
    percent,
    signed,
)
from vqa_jax.report.run_data import (
    Iteration,
    LoopRow,
    Row,
    Run,
    Thumbnail,
    loop_rows,
    severity_curves,
)

_GROUPS = {
    "accuracy": "Held-out pairs in the right order (50% is chance)",
    "srcc": "Mean SRCC of score against severity (−1 is perfect)",
    "contradiction": "Consistency (0% is perfect)",
}


def loop_value(row: LoopRow, value: float | None) -> str:
    """A cell of the loop's table."""
    return correlation(value) if row.kind == "srcc" else percent(value)


def loop_difference(row: LoopRow) -> str:
    """The loop table's last column: points for shares, plain for correlations."""
    if row.difference is None:
        return NOTHING
    if row.kind == "srcc":
        return signed(row.difference, 3)
    return signed(100 * row.difference, 1)


def loop(run: Run) -> Table | None:
    """The loop's table: every iteration beside the others, and what changed."""
    if not run.evaluated:
        return None
    last = run.evaluated[-1].evaluation or {}
    rows: list[list[str | Cell]] = []
    kind = ""
    for row in loop_rows(run):
        if row.kind != kind:
            kind = row.kind
            rows.append([_GROUPS[kind]])
        rows.append(_loop_row(run, row, last))
    return Table(
        "Results of the iterations",
        [
            "",
            *(f"iteration {i.number}" for i in run.iterations),
            "change",
            Cell("pairs", kind="extra"),
        ],
        rows,
        note="Below the overall accuracy: its 95% interval over source videos. Changes are last "
        "minus first, in points for percentages; green is better, red worse. Overall values weigh "
        "all simulators equally.",
    )


def _loop_row(run: Run, row: LoopRow, last: Mapping[str, Any]) -> list[str | Cell]:
    overall = row.kind == "accuracy" and not row.simulator
    total = "" if row.simulator else "total"
    cells: list[str | Cell] = [Cell(row.name, kind=total)]
    for iteration, value in zip(run.iterations, row.values, strict=True):
        interval = (iteration.evaluation or {}).get("accuracy_ci") if overall else None
        ends = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
        cells.append(Cell(loop_value(row, value), ends, total))
    gain = (row.difference or 0) * (1 if row.kind == "accuracy" else -1)
    mood = "" if gain == 0 else "up" if gain > 0 else "down"
    entry = last.get("by_simulator", {}).get(row.name, {}) if row.simulator else {}
    pairs = last.get("num_pairs") if overall else entry.get("pairs")
    return [
        *cells,
        Cell(loop_difference(row), kind=f"{mood} {total}".strip()),
        Cell(count(pairs) if row.kind == "accuracy" else "", kind=f"extra {total}".strip()),
    ]


def _heat(iteration: Iteration, part: str, label: str) -> Table:
    groups = (iteration.evaluation or {}).get("by_simulator", {})

    def order(name: str) -> tuple[int, ...]:
        levels = [int(x) for x in re.findall(r"\d+", name)] or [0]
        return (levels[-1] - levels[0], *levels)

    columns = sorted({c for g in groups.values() for c in g.get(part, {})}, key=order)
    rows = []
    for simulator in sorted(groups):
        cells: list[str | Cell] = [simulator]
        for column in columns:
            cell = groups[simulator].get(part, {}).get(column)
            value = number(cell.get("accuracy")) if cell else None
            pairs = count(cell.get("pairs")) if cell else ""
            shown = NOTHING if value is None else f"{100 * value:.0f}"
            cells.append(heat_cell(value, 0.5, shown, pairs if value is not None else ""))
        rows.append(cells)
    names = [f"{c} apart" if part == "by_distance" else c.replace("-", " vs ") for c in columns]
    return Table(f"{label}, iteration {iteration.number}", ["", *names], rows, "heat")


def severity(run: Run) -> dict[str, Any] | None:
    """Heat tables of accuracy by simulator and severity, each with its iteration's number."""
    if not run.evaluated:
        return None
    *earlier, last = run.evaluated
    pairs = "Accuracy by pair of levels"
    return {
        "near": [
            (i.number, _heat(i, "by_distance", "Accuracy by distance")) for i in run.evaluated
        ],
        "last": (last.number, _heat(last, "by_levels", pairs)),
        "earlier": [(i.number, _heat(i, "by_levels", pairs)) for i in reversed(earlier)],
    }


def scores(run: Run) -> dict[str, Any] | None:
    """Score against severity, one figure a simulator; None where nothing has been scored."""
    scored = [i for i in run.iterations if i.scores]
    curves = [(run.iterations.index(i), severity_curves(i.scores)) for i in scored]
    names = sorted({s for _, by in curves for s in by})
    if not names:
        return None
    low, high = float("inf"), float("-inf")
    series: dict[str, list[plots.Series]] = {}
    for index, by_simulator in curves:
        for simulator, levels in by_simulator.items():
            mean = [float(v.mean()) for v in levels.values()]
            spread = [float(v.std()) for v in levels.values()]
            low = min(low, *(m - s for m, s in zip(mean, spread, strict=True)))
            high = max(high, *(m + s for m, s in zip(mean, spread, strict=True)))
            series.setdefault(simulator, []).append(
                plots.Series(list(levels), mean, index, spread, markers=True)
            )
    margin = 0.05 * (high - low) or 1.0
    groups = (scored[-1].evaluation or {}).get("by_simulator", {})
    figures = [
        Figure(
            plots.lines(series[s], "severity level", (low - margin, high + margin), whole_x=True),
            s,
            f"SRCC {correlation(groups.get(s, {}).get('srcc'))}",
            f"mean score by severity level, {s}",
        )
        for s in names
    ]
    return {"legend": iteration_legend(scored, run), "figures": figures}


def iteration_legend(shown: Sequence[Iteration], run: Run) -> list[tuple[str, str]]:
    """Colour key of the iterations, the same in all plots."""
    return [(plots.series_class(run.iterations.index(i)), f"iteration {i.number}") for i in shown]


def _card(row: Row, pictures: Mapping[str, Thumbnail]) -> dict[str, Any]:
    preference = float(row["preference"])
    side, sure = ("second", preference) if preference > 0.5 else ("first", 1 - preference)
    answer = (
        "sees no difference" if preference == 0.5 else f"prefers the {side} ({percent(sure, 0)})"
    )
    keys = [row.get(f"{order}_id", "") for order in ("first", "second")]
    words = [f"level {row.get(f'{order}_level', '')}" for order in ("first", "second")]
    return {
        "title": row.get("simulator", ""),
        "preference": preference,
        "videos": videos_of(keys, words, pictures),
        # Both are versions of one input file as a rule: its name is shown once.
        "files": list(dict.fromkeys(pictures[k].path if k in pictures else k for k in keys)),
        "label": row.get("label", ""),
        "predicted": row.get("predicted", ""),
        "answer": answer,
    }


def videos_of(
    keys: Sequence[str], words: Sequence[str], pictures: Mapping[str, Thumbnail]
) -> list[dict[str, str]]:
    """The two videos of a pair's card: which they are, what is said of them, their picture."""
    found = []
    for order, key, said in zip(("First", "Second"), keys, words, strict=True):
        picture = pictures.get(key)
        jpeg = picture.jpeg if picture else None
        found.append({"order": order, "words": said, "uri": jpeg_uri(jpeg) if jpeg else ""})
    return found


def wrong_pairs(
    run: Run, wrong: Sequence[Row], pictures: Mapping[str, Thumbnail]
) -> dict[str, Any] | None:
    """Cards of `wrong` pairs of the last evaluated iteration, in the given order."""
    if not run.evaluated:
        return None
    last = run.evaluated[-1]
    return {
        "iteration": last.number,
        "pairs": len(last.pairs),
        "errors": sum(number(r.get("correct")) == 0 for r in last.pairs),
        "cards": [_card(r, pictures) for r in wrong],
    }


def confusion_table(matrix: Sequence[Sequence[Any]], label: str) -> Table:
    """Counts [5][5] of (label, answer) as percent of each row."""
    rows = []
    for i, (level, row) in enumerate(zip(LEVELS, matrix, strict=False)):
        values = [number(v) or 0.0 for v in row]
        total = sum(values)
        cells: list[str | Cell] = [level]
        for j, value in enumerate(values):
            shown = f"{100 * value / total:.0f}%" if total else NOTHING
            share = value / total if total else None
            small = count(value) if total else ""
            cells.append(heat_cell(share, 0.0, shown, small, "right" if i == j else ""))
        rows.append(cells)
    return Table(label, ["label", *LEVELS], rows, "heat")


def confusion(run: Run) -> list[tuple[int, Table]]:
    """Label against answer, one table an iteration."""
    return [
        (i.number, confusion_table(matrix, f"Label against answer, iteration {i.number}"))
        for i in run.evaluated
        if (matrix := (i.evaluation or {}).get("confusion"))
    ]
