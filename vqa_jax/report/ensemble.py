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
from vqa_jax.jobs.files import write_json, written
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import plots
from vqa_jax.report.data import number
from vqa_jax.report.document import document
from vqa_jax.report.parts import (
    NOTHING,
    correlation,
    count,
    figure,
    heat_cell,
    percent,
    section,
    text,
)
from vqa_jax.teachers import agreement

FACTS = "ensemble.json"
PAGE = "teachers.html"
_SHOWN_DISPUTED = 10
_CURVE_POINTS = 80

Facts = Mapping[str, Any]


def describe_tables(
    paths: Sequence[str], lower_is_better: Collection[str], unite: str, std_floor: float
) -> list[dict[str, Any]]:
    """Facts of each table, see `ensemble.describe`; human scores are its column `mos`.

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
    title = "Teachers: agreement and labels"
    with written(path) as f:
        f.write(document(title, f"<h1>{title}</h1>{section('teachers', 'Sets', body(facts))}"))
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


def body(facts: Sequence[Facts]) -> str:
    """HTML of a section: label precision of all sets, then each set's details."""
    return _precision(facts) + "".join(_details(of) for of in facts)


def _table(head: Sequence[str], rows: Sequence[str], kind: str = "heat") -> str:
    cells = "".join(f"<th>{text(h)}</th>" for h in head)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _precision(facts: Sequence[Facts]) -> str:
    rows = []
    for of in facts:
        if "precision" in of:
            cells = ""
            for entry in reversed(of["precision"]):
                shown = f"{percent(entry['right'])}<small>{percent(entry['share'], 0)}</small>"
                cells += heat_cell(number(entry["right"]), 0.5, shown)
            rows.append(f'<tr><th scope="row">{text(of["name"])}</th>{cells}</tr>')
    if not rows:
        return "<p>No human scores are at hand: the labels cannot be checked against people.</p>"
    return (
        "<h3>Label precision by level</h3>"
        "<p>Teachers label random pairs by D and s_D; a label is right if the human scores of "
        "the two videos are in the order of the teachers' means. Both videos are drawn "
        "independently, equal human scores count as wrong; 50% is chance. Small: share of the "
        "pairs that get this label.</p>" + _table(["", *reversed(agreement.KINDS)], rows)
    )


def _details(of: Facts) -> str:
    complete = f"{count(of['complete'])} of {count(of['videos'])} videos are scored by all"
    return (
        f"<details open><summary>{text(of['name'])}: {complete}; united by "
        f"{text(of['method'])}</summary>"
        f"{_agreement(of)}{_leave_one_out(of)}{_scales(of)}{_disputed(of)}</details>"
    )


def _agreement(of: Facts) -> str:
    names = [teacher["name"] for teacher in of["teachers"]]
    rows = []
    for teacher, values in zip(of["teachers"], of["agreement"], strict=True):
        rest = teacher["rest_srcc"], teacher["mos_srcc"]
        cells = "".join(_srcc_cell(v) for v in (*values, *rest))
        odd = " <b class='down'>odd</b>" if teacher["odd"] else ""
        rows.append(f'<tr><th scope="row">{text(teacher["name"])}{odd}</th>{cells}</tr>')
    return "<h3>Agreement (SRCC)</h3>" + _table(["", *names, "mean of the others", "people"], rows)


def _srcc_cell(value: Any) -> str:
    """A correlation, tinted by its sign and size."""
    known = number(value)
    return heat_cell(None if known is None else (known + 1) / 2, 0.5, correlation(value))


def _leave_one_out(of: Facts) -> str:
    if "leave_one_out" not in of:
        return ""
    levels = of["labels"]
    cells = "".join(f"<td>{percent(levels[level])}</td>" for level in LEVELS)
    rows = [f'<tr><th scope="row">all teachers</th><td></td><td></td>{cells}{_right(of)}</tr>']
    for entry in of["leave_one_out"]:
        cells = "".join(f"<td>{percent(entry['labels'][level])}</td>" for level in LEVELS)
        rows.append(
            f'<tr><th scope="row">without {text(entry["teacher"])}</th>'
            f"<td>{percent(entry['changed'])}</td><td>{percent(entry['reversed'])}</td>"
            f"{cells}{_right(entry)}</tr>"
        )
    head = ["", "labels changed", "reversed", *LEVELS]
    if "precision" in of:
        head += [f"{kind} right" for kind in reversed(agreement.KINDS)]
    note = (
        "<p class='caption'>One teacher alone has no deviation: without a floor of s_D it never "
        "says <i>similar</i>.</p>"
        if len(of["teachers"]) == 2 and not of["std_floor"]
        else ""
    )
    return (
        f"<h3>Leave one out, on {count(of['label_pairs'])} random pairs</h3>"
        + _table(head, rows, "wide")
        + note
    )


def _right(of: Facts) -> str:
    return "".join(f"<td>{percent(e['right'])}</td>" for e in reversed(of.get("precision", ())))


def _scales(of: Facts) -> str:
    panels = ""
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
        panels += figure(curve, teacher["name"], constants, f"united score of {teacher['name']}")
    if not panels:
        return ""
    return (
        "<h3>Four-parameter logistic to the common scale</h3><p>From each teacher's raw score to "
        "the mean percentile rank over all of them. A teacher without a curve disagrees with the "
        "others, and its ranks would be used.</p>"
        f'<div class="panels">{panels}</div>'
    )


def _disputed(of: Facts) -> str:
    names = [teacher["name"] for teacher in of["teachers"]]
    rows = []
    for entry in of["disputed"][:_SHOWN_DISPUTED]:
        values = (number(entry["scores"].get(name)) for name in names)
        cells = "".join(f"<td>{NOTHING if v is None else f'{v:.2f}'}</td>" for v in values)
        rows.append(f"<tr><td>{text(entry['video'])}</td><td>{entry['std']:.2f}</td>{cells}</tr>")
    if not rows:
        return ""
    head = ["video", "deviation", *names]
    return "<h3>Videos that teachers disagree about most</h3>" + _table(head, rows, "wide text")
