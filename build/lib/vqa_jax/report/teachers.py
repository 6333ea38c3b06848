"""The teachers' page: agreement, odd teachers, what their labels are worth, their scales.

`describe_tables` reads score tables (one is one set of videos), `write` makes `ensemble.json` and
`teachers.html` of them; the report of a run shows the same section if its folder holds the former.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax.benchmarks import metrics
from vqa_jax.benchmarks.score_tables import ScoresError, read_human_scores, read_scores
from vqa_jax.jobs.files import write_json
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import html, plots
from vqa_jax.report.html import (
    NOTHING,
    Cell,
    Figure,
    Table,
    correlation,
    count,
    heat_cell,
    number,
    percent,
)
from vqa_jax.teachers import agreement

FACTS = "ensemble.json"
PAGE = "teachers.html"
_SHOWN_DISPUTED = 10
_CURVE_POINTS = 80
_METHODS = {"zscore": "z-scores", "rank": "ranks", "logistic": "logistic curves"}

Facts = Mapping[str, Any]


def describe_tables(
    paths: Sequence[str], lower_is_better: Collection[str], unite: str, std_floor: float
) -> list[dict[str, Any]]:
    """Facts of each table, see `agreement.describe`; human scores are its column `mos`.

    Raises:
      ScoresError: a table that cannot be used, or a name in `lower_is_better` that none holds.
    """
    tables = [read_scores(path) for path in paths]
    unknown = set(lower_is_better) - {name for table in tables for name in table.teachers}
    if unknown:
        raise ScoresError(f"no table holds the teachers {sorted(unknown)}")
    found = []
    for path, table in zip(paths, tables, strict=True):
        human = read_human_scores(path)
        mos = np.array([human.get(video, np.nan) for video in table.videos]) if human else None
        higher = [name not in lower_is_better for name in table.teachers]
        name = os.path.splitext(os.path.basename(path))[0]
        scored = agreement.ScoredSet(
            name, list(table.videos), table.teachers, higher, table.scores, mos
        )
        found.append(agreement.describe(scored, unite, std_floor))
    return found


def write(facts: Sequence[Facts], out: str) -> str:
    """Writes both files to folder `out`; returns the page's path."""
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, PAGE)
    html.write(
        path, "teachers.html", title="Teachers: agreement and labels", teachers=contents(facts)
    )
    write_json(os.path.join(out, FACTS), {"sets": list(facts)})
    return path


def text_tables(facts: Sequence[Facts]) -> str:
    """Label precision by level, and the teachers, for the terminal."""
    lines = []
    for of in facts:
        lines.append(f"{of['name']}: {of['videos']} videos, scales united by {of['method']}")
        for teacher in of["teachers"]:
            odd = "  ODD: disagrees with the others" if teacher["odd"] else ""
            values = f"{correlation(teacher['rest_srcc']):>7}{correlation(teacher['mos_srcc']):>8}"
            lines.append(f"  {teacher['name']:24}{values}  SRCC with the others, with people{odd}")
        for entry in of.get("precision", ()):
            lines.append(
                f"  {entry['kind']:24}{percent(entry['right']):>7}  right,"
                f" {percent(entry['share'])} of random pairs"
            )
    return "\n".join(lines)


def contents(facts: Sequence[Facts]) -> dict[str, Any]:
    """Values of `teachers_sets.html`: precision of all sets, then each set's details."""
    return {"precision": _precision(facts), "sets": [_details(of) for of in facts]}


def _precision(facts: Sequence[Facts]) -> Table | None:
    rows = []
    for of in facts:
        if "precision" in of:
            cells: list[str | Cell] = [of["name"]]
            for entry in reversed(of["precision"]):
                shown, share = percent(entry["right"]), percent(entry["share"], 0)
                cells.append(heat_cell(number(entry["right"]), 0.5, shown, share))
            rows.append(cells)
    kinds = ["", *reversed(agreement.KINDS)]
    return Table("Label precision by level", kinds, rows, "heat") if rows else None


def _details(of: Facts) -> dict[str, Any]:
    return {
        "title": f"{of['name']}: {count(of['complete'])} of {count(of['videos'])} videos are "
        f"scored by all; scales united by {_METHODS.get(of['method'], of['method'])}",
        "agreement": _agreement(of),
        "pairs": count(of.get("label_pairs")),
        "leave_one_out": _leave_one_out(of),
        "scales": _scales(of),
        "disputed": _disputed(of),
    }


def _agreement(of: Facts) -> Table:
    names = [teacher["name"] for teacher in of["teachers"]]
    rows = []
    for teacher, values in zip(of["teachers"], of["agreement"], strict=True):
        name = Cell(teacher["name"], "odd: disagrees with the others" if teacher["odd"] else "")
        every = (*values, teacher["rest_srcc"], teacher["mos_srcc"])
        rows.append([name, *map(_srcc_cell, every)])
    head = ["", *names, "mean of the others", "people"]
    return Table(f"Agreement of the teachers, {of['name']}", head, rows, "heat")


def _srcc_cell(value: Any) -> Cell:
    """A correlation, tinted by its sign and size."""
    known = number(value)
    return heat_cell(None if known is None else (known + 1) / 2, 0.5, correlation(value))


def _leave_one_out(of: Facts) -> Table | None:
    if "leave_one_out" not in of:
        return None

    def shares(entry: Facts) -> list[str]:
        right = [percent(e["right"]) for e in reversed(entry.get("precision", ()))]
        return [*(percent(entry["labels"][level]) for level in LEVELS), *right]

    rows = [["all teachers", "", "", *shares(of)]]
    rows += [
        [
            f"without {entry['teacher']}",
            percent(entry["changed"]),
            percent(entry["reversed"]),
            *shares(entry),
        ]
        for entry in of["leave_one_out"]
    ]
    head = ["", "labels changed", "reversed", *LEVELS]
    if "precision" in of:
        head += [f"{kind} right" for kind in reversed(agreement.KINDS)]
    lonely = len(of["teachers"]) == 2 and not of["std_floor"]
    note = (
        "One teacher alone has no deviation: without a floor of s_D it never says “similar”."
        if lonely
        else ""
    )
    return Table(f"Labels without one teacher, {of['name']}", head, rows, note=note)


def _scales(of: Facts) -> list[Figure]:
    figures = []
    for index, teacher in enumerate(of["teachers"]):
        scale = teacher["scale"]
        low, high = (number(scale["quantiles"].get(k)) for k in ("0", "100"))
        if scale["logistic"] is None or low is None or high is None:
            continue
        names = ("top", "bottom", "centre", "width")
        top, bottom, centre, width = (scale["logistic"][name] for name in names)
        x = np.linspace(low, high, _CURVE_POINTS)
        # A negative width: lower raw scores are better.
        sign = 1.0 if width > 0 else -1.0
        y = metrics.logistic(sign * x, (top, bottom, sign * centre, abs(width)))
        constants = f"centre {centre:.3g}, width {width:.3g}"
        curve = plots.lines([plots.Series(x, np.clip(y, 0, 100), index)], "raw score", (0, 100))
        name = teacher["name"]
        figures.append(Figure(curve, name, constants, f"united score of {name}"))
    return figures


def _disputed(of: Facts) -> Table | None:
    names = [teacher["name"] for teacher in of["teachers"]]
    rows = []
    for entry in of["disputed"][:_SHOWN_DISPUTED]:
        values = [number(entry["scores"].get(name)) for name in names]
        cells = [NOTHING if v is None else f"{v:.2f}" for v in values]
        rows.append([Cell(entry["video"], kind="file"), f"{entry['std']:.2f}", *cells])
    head = ["video", "deviation", *names]
    label = f"Videos that teachers disagree about most, {of['name']}"
    return Table(label, head, rows) if rows else None
