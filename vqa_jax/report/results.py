"""The report's sections on what the student can do: tables, score plots, wrong pairs, confusion.

Each function takes the run and returns the section's HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import plots
from vqa_jax.report.data import Iteration, Row, Run, Thumbnail, loop_rows, number, severity_curves
from vqa_jax.report.parts import (
    NOTHING,
    absent,
    correlation,
    count,
    figure,
    heat_cell,
    jpeg_uri,
    legend,
    loop_difference,
    loop_value,
    percent,
    text,
)


def loop(run: Run) -> str:
    """The loop's table: every iteration beside the others, and what changed."""
    if not run.evaluated:
        return absent("no iteration has been evaluated (run <code>evaluate</code>).")
    head = "".join(f"<th>iteration {i.number}</th>" for i in run.iterations)
    groups = {
        "accuracy": "Held-out pairs in the right order (50% is chance)",
        "srcc": "Mean SRCC of score against severity (−1 is perfect)",
        "contradiction": "Consistency (0% is perfect)",
    }
    last = run.evaluated[-1].evaluation or {}
    body, kind = [], ""
    for row in loop_rows(run):
        if row.kind != kind:
            kind = row.kind
            span = len(run.iterations) + 3
            body.append(f'<tr class="group"><th colspan="{span}">{groups[kind]}</th></tr>')
        overall = row.kind == "accuracy" and not row.simulator
        cells = ""
        for iteration, value in zip(run.iterations, row.values, strict=True):
            interval = (iteration.evaluation or {}).get("accuracy_ci") if overall else None
            note = (
                f'<span class="interval">{100 * interval[0]:.1f} to {100 * interval[1]:.1f}</span>'
                if interval
                else ""
            )
            cells += f"<td>{loop_value(row, value)}{note}</td>"
        difference = loop_difference(row)
        gain = (row.difference or 0) * (1 if row.kind == "accuracy" else -1)
        mood = "" if gain == 0 else "up" if gain > 0 else "down"
        entry = last.get("by_simulator", {}).get(row.name, {}) if row.simulator else {}
        pairs = last.get("num_pairs") if overall else entry.get("pairs")
        pairs = count(pairs) if row.kind == "accuracy" else ""
        total = "" if row.simulator else ' class="total"'
        body.append(
            f'<tr{total}><th scope="row">{text(row.name)}</th>{cells}'
            f'<td class="{mood}">{difference}</td><td class="extra">{pairs}</td></tr>'
        )
    missing = [str(i.number) for i in run.iterations if i.evaluation is None]
    note = absent(f"iteration {', '.join(missing)} has not been evaluated.") if missing else ""
    return (
        f'{note}<div class="scroll"><table class="wide"><thead><tr><th></th>{head}'
        '<th>change</th><th class="extra">pairs</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        '<p class="caption">Below the overall accuracy: its 95% interval over source videos. '
        "Changes are last minus first, in points for percentages; green is better, red worse. "
        "Overall values weigh all simulators equally.</p>"
    )


def _heat(iteration: Iteration, part: str) -> str:
    groups = (iteration.evaluation or {}).get("by_simulator", {})

    def order(name: str) -> tuple[int, ...]:
        levels = [int(x) for x in name.split("-")]
        return (levels[-1] - levels[0], *levels)

    columns = sorted({c for g in groups.values() for c in g.get(part, {})}, key=order)
    names = [f"{c} apart" if part == "by_distance" else c.replace("-", " vs ") for c in columns]
    head = "".join(f"<th>{text(n)}</th>" for n in names)
    body = ""
    for simulator in sorted(groups):
        cells = ""
        for column in columns:
            cell = groups[simulator].get(part, {}).get(column)
            value = number(cell.get("accuracy")) if cell else None
            pairs = f"<small>{count(cell.get('pairs'))}</small>" if cell else ""
            shown = NOTHING if value is None else f"{100 * value:.0f}{pairs}"
            cells += heat_cell(value, 0.5, shown)
        body += f'<tr><th scope="row">{text(simulator)}</th>{cells}</tr>'
    return (
        '<div class="scroll"><table class="heat"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def severity(run: Run) -> str:
    """Heat tables of accuracy by simulator and severity."""
    if not run.evaluated:
        return absent("no iteration has been evaluated.")
    near = "".join(
        f"<div><h3>Iteration {i.number}: by number of levels between the two</h3>"
        f"{_heat(i, 'by_distance')}</div>"
        for i in run.evaluated
    )
    *earlier, last = run.evaluated
    old = "".join(
        f"<details><summary>Iteration {i.number}, pair by pair of levels</summary>"
        f"{_heat(i, 'by_levels')}</details>"
        for i in reversed(earlier)
    )
    return (
        "<p>Percent of pairs in the right order. Level 0 is the undistorted clip, higher levels "
        'are more distorted. <span class="key" style="background:rgb(var(--pos)/.55)"></span> '
        'above chance, <span class="key" style="background:rgb(var(--neg)/.55)"></span> below; the '
        "small number counts the pairs.</p>"
        f'<div class="side">{near}</div>'
        f"<h3>Iteration {last.number}: by pair of levels</h3>{_heat(last, 'by_levels')}{old}"
    )


def scores(run: Run) -> str:
    """Score against severity, one panel a simulator."""
    scored = [i for i in run.iterations if i.scores]
    curves = [(run.iterations.index(i), severity_curves(i.scores), i) for i in scored]
    names = sorted({s for _, by, _ in curves for s in by})
    if not names:
        return absent("no held-out segment has been scored.")
    low, high = float("inf"), float("-inf")
    series: dict[str, list[plots.Series]] = {}
    for index, by_simulator, _ in curves:
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
    panels = "".join(
        figure(
            plots.lines(series[s], "severity level", (low - margin, high + margin), whole_x=True),
            s,
            f"SRCC {correlation(groups.get(s, {}).get('srcc'))}",
            f"mean score by severity level, {s}",
        )
        for s in names
    )
    return (
        "<p>Mean score of the held-out segments at each level, and its standard deviation between "
        "segments (band). The lines should fall. The scale is arbitrary, and each iteration has "
        "its own: compare slopes, not heights.</p>"
        f'{iteration_legend(scored, run)}<div class="panels">{panels}</div>'
    )


def iteration_legend(shown: Sequence[Iteration], run: Run) -> str:
    """Colour key of the iterations, the same in all plots."""
    return legend(
        [(plots.series_class(run.iterations.index(i)), f"iteration {i.number}") for i in shown]
    )


def _video(label: str, level: str, thumbnail: Thumbnail | None) -> str:
    if thumbnail is None or thumbnail.jpeg is None:
        picture = '<div class="none">no picture: its frames are not in the corpus</div>'
    else:
        picture = f'<img alt="{label} video" src="{jpeg_uri(thumbnail.jpeg)}">'
    return f"<p><b>{label}</b>, level {text(level)}</p>{picture}"


def _pair(row: Row, pictures: dict[str, Thumbnail]) -> str:
    preference = float(row["preference"])
    side, sure = ("second", preference) if preference > 0.5 else ("first", 1 - preference)
    answer = (
        "sees no difference" if preference == 0.5 else f"prefers the {side} ({percent(sure, 0)})"
    )
    videos = [row.get("first_id", ""), row.get("second_id", "")]
    first, second = (pictures.get(v) for v in videos)
    # Both are versions of one input file as a rule: its name is shown once.
    names = dict.fromkeys(pictures[v].path if v in pictures else v for v in videos)
    label, predicted = text(row.get("label", "")), text(row.get("predicted", ""))
    return (
        f'<div class="pair"><h3>{text(row.get("simulator", ""))}'
        f"<span>p = {preference:.3f}</span></h3>"
        f"{_video('First', row.get('first_level', ''), first)}"
        f"{_video('Second', row.get('second_level', ''), second)}"
        f'<p class="verdict">Truth: the second is <b>{label}</b>. The student {answer} and calls '
        f'the second <b class="down">{predicted}</b>.</p>'
        f'<p class="muted file">{text(", ".join(names))}</p></div>'
    )


def wrong_pairs(run: Run, wrong: Sequence[Row], pictures: dict[str, Thumbnail]) -> str:
    """Cards of `wrong` pairs of the last evaluated iteration, in the given order."""
    if not run.evaluated:
        return absent("no iteration has been evaluated.")
    last = run.evaluated[-1]
    if not last.pairs:
        return absent(f"iteration {last.number} has no list of evaluated pairs.")
    errors = sum(number(r.get("correct")) == 0 for r in last.pairs)
    if not wrong:
        return "<p>None: every held-out pair is in the right order.</p>"
    return (
        f"<p>Iteration {last.number} orders {count(errors)} of {count(len(last.pairs))} held-out "
        f"pairs wrongly. These are the {len(wrong)} it is most confident about, a few per "
        "simulator; p is its probability that the second video is better. Jitter and stutter show "
        "only in motion, so that their pictures may look alike.</p>"
        f'<div class="pairs">{"".join(_pair(r, pictures) for r in wrong)}</div>'
    )


def confusion_table(matrix: Sequence[Sequence[Any]]) -> str:
    """Counts [5][5] of (label, answer) as percent of each row."""
    head = "".join(f"<th>{x}</th>" for x in LEVELS)
    body = ""
    for i, (level, row) in enumerate(zip(LEVELS, matrix, strict=False)):
        values = [number(v) or 0.0 for v in row]
        total = sum(values)
        cells = ""
        for j, value in enumerate(values):
            shown = f"{100 * value / total:.0f}%<small>{count(value)}</small>" if total else NOTHING
            share = value / total if total else None
            cells += heat_cell(share, 0.0, shown, "right" if i == j else "")
        body += f'<tr><th scope="row">{level}</th>{cells}</tr>'
    return (
        '<div class="scroll"><table class="heat"><thead><tr><th>label</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def confusion(run: Run) -> str:
    """Label against answer, one table an iteration."""
    tables = "".join(
        f"<div><h3>Iteration {i.number}</h3>{confusion_table(matrix)}</div>"
        for i in run.evaluated
        if (matrix := (i.evaluation or {}).get("confusion"))
    )
    if not tables:
        return absent("no iteration has been evaluated.")
    return (
        "<p>Rows are the label of the second video against the first, columns what the student "
        "answered (one order of each pair); percent of the row, with the number of pairs below. "
        "Simulator pairs are never labelled <i>similar</i>.</p>"
        f'<div class="side">{tables}</div>'
    )
