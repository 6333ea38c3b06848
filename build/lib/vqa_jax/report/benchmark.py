"""A model's results on labelled test sets: tables for the terminal, one HTML page, JSON and CSV."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vqa_jax.benchmarks import metrics, published
from vqa_jax.benchmarks.bootstrap import interval
from vqa_jax.benchmarks.run import COMPARED, BenchmarkRun, Comparison, Overall, SetResult
from vqa_jax.benchmarks.sets import GROUPS
from vqa_jax.jobs import csv_cells
from vqa_jax.jobs.files import write_json, written
from vqa_jax.report import html, plots
from vqa_jax.report.html import NOTHING, Cell, Figure

JSON, VIDEOS, PAGE = "benchmark.json", "benchmark_videos.csv", "benchmark.html"
_TITLES = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "plcc_logistic": "PLCC, logistic",
    "krcc": "KRCC",
    "rmse": "RMSE",
}
_CURVE_POINTS = 60
Table = list[list[str]]

NOTES = {
    "sets": "In brackets: 95% intervals, contents drawn with replacement, each with all its videos "
    "(percentiles, widened where contents are few). A question mark after their number: nothing "
    "tells which videos show the same, so each was taken for a content of its own; if contents "
    "repeat, the intervals are too narrow. Within: mean SRCC of the videos of one content, where "
    "it has three or more. Logistic: after a least-squares fit of b2 + (b1 - b2) / (1 + "
    "exp(-(x - b3) / |b4|)) to the MOS, fitted anew in every draw. RMSE after that fit, in units "
    "of the set's MOS. Overall: weighted by videos; mean of sets: each set counts once.",
    "published": "SRCC / PLCC. The PLCC of the evaluated model is after the logistic fit, as is "
    "usual. An asterisk: another list of videos than the published one, videos without a score, or "
    "an average over fewer sets; the number cannot be compared as it stands.",
    "differences": "First minus second on the videos that both scored. Interval and p: paired "
    "bootstrap over contents, two-sided; in brackets p after Holm's correction over the sets. "
    "Williams: his t test of two dependent Pearson correlations (raw PLCC), which takes videos for "
    "independent; p not corrected.",
}


def number(value: float, digits: int = 4) -> str:
    """A number of a table; NaN is a dash."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def _with_interval(result: SetResult | Overall, metric: str) -> str:
    if metric not in result.values:
        return NOTHING
    low, high = interval(result.draws[metric], units=result.num_contents)
    shown = number(result.values[metric])
    return f"{shown} [{number(low, 3)}, {number(high, 3)}]" if math.isfinite(low) else shown


def _group(overall: Overall) -> str:
    known, mine = overall.sets
    part = "" if known == mine else f" ({mine} of {known} sets)"
    return f"overall, {GROUPS[overall.group]}{part}"


def sets_table(run: BenchmarkRun) -> Table:
    """One row a set and average, header first."""
    table = [["set", "videos", "contents", *_TITLES.values(), "within", "MOS"]]
    for s in run.sets:
        count = f"{s.num_scored}" + ("" if s.scored.all() else f" of {len(s.videos)}")
        cells = [_with_interval(s, metric) for metric in metrics.METRICS]
        contents = f"{s.num_contents}" + "?" * (not s.contents_rule)
        span = f"{s.mos.min():.4g} to {s.mos.max():.4g}"
        within = number(s.srcc_within)
        table.append([s.benchmark.name, count, contents, *cells, within, span])
    for overall in run.overall:
        count = sum(s.num_scored for s in run.sets if s.benchmark.group == overall.group)
        cells = [_with_interval(overall, metric) for metric in metrics.METRICS]
        contents = str(overall.num_contents)
        table.append([_group(overall), str(count), contents, *cells, NOTHING, ""])
        cells = [number(overall.macro.get(metric, math.nan)) for metric in metrics.METRICS]
        name = f"mean of sets, {GROUPS[overall.group]}"
        table.append([name, str(count), contents, *cells, NOTHING, ""])
    return table


def published_table(runs: Sequence[BenchmarkRun]) -> Table:
    """The evaluated models and the published ones on the sets evaluated, header first."""
    names = [s.benchmark.name for s in runs[0].sets]
    groups = [overall.group for overall in runs[0].overall]
    table = [["model", *names, *(f"overall {g}" for g in groups), "source"]]
    for run in runs:
        by_name = {s.benchmark.name: s for s in run.sets}
        by_group = {overall.group: overall for overall in run.overall}
        odd = {s.benchmark.group for s in run.sets if _differs(s)}
        cells = [_own_cell(s, s is not None and _differs(s)) for s in map(by_name.get, names)]
        for overall in map(by_group.get, groups):
            differs = overall is not None and (
                overall.group in odd or overall.sets[0] != overall.sets[1]
            )
            cells.append(_own_cell(overall, differs))
        table.append([run.model, *cells, "this evaluation"])
    for row in published.published():
        cells = [
            _pair(row.srcc.get(key, float("nan")), row.plcc.get(key, float("nan")))
            for key in (*names, *(f"overall {g}" for g in groups))
        ]
        if any(cell != NOTHING for cell in cells):
            table.append([row.model, *cells, row.source])
    return table


def _pair(srcc: float, plcc: float) -> str:
    if math.isnan(srcc) and math.isnan(plcc):
        return NOTHING
    return f"{number(srcc, 3)} / {number(plcc, 3)}"


def _differs(result: SetResult) -> bool:
    """Whether the videos are others than those of the published rows."""
    sizes = result.benchmark.sizes
    return not result.scored.all() or bool(sizes and len(result.videos) != sizes[0])


def _own_cell(result: SetResult | Overall | None, differs: bool) -> str:
    if result is None:
        return NOTHING
    shown = _pair(result.values["srcc"], result.values["plcc_logistic"])
    return shown + "*" * differs


def differences_table(comparisons: Sequence[Comparison]) -> Table:
    """One row a set and average, header first."""
    head = ["set", "videos", "contents"]
    for metric in COMPARED:
        head += [f"{_TITLES[metric]} difference", "p"]
    table = [[*head, "Williams t", "p"]]
    for row in comparisons:
        cells = []
        for metric in COMPARED:
            d = row.differences[metric]
            cells.append(f"{number(d.value)} [{number(d.low)}, {number(d.high)}]")
            corrected = row.corrected[metric]
            holm = f" ({corrected:.2g})" if math.isfinite(corrected) else ""
            cells.append((f"{d.p:.2g}" if math.isfinite(d.p) else NOTHING) + holm)
        t, p = row.williams
        cells += [number(t, 2), f"{p:.2g}" if math.isfinite(p) else NOTHING]
        table.append([row.name, str(row.videos), str(row.contents), *cells])
    return table


def plain(table: Table) -> str:
    """A table for the terminal."""
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def render(runs: Sequence[BenchmarkRun], comparisons: Sequence[Comparison]) -> str:
    """All tables for the terminal."""
    parts = [f"{run.model}\n{plain(sets_table(run))}" for run in runs]
    parts[-1] += "\n" + NOTES["sets"]
    parts.append(plain(published_table(runs)) + "\n" + NOTES["published"])
    if comparisons:
        title = f"{runs[0].model} minus {runs[1].model}"
        parts.append(f"{title}\n{plain(differences_table(comparisons))}\n{NOTES['differences']}")
    return "\n\n".join(parts)


def write(runs: Sequence[BenchmarkRun], comparisons: Sequence[Comparison], out: str) -> str:
    """Writes JSON, a CSV of the videos and the HTML page to the folder `out`.

    Args:
      runs: the evaluated model, and the one it is compared with if any.
      comparisons: of `run.compare`.
      out: folder; made if it does not exist.

    Returns:
      Path of the page.
    """
    os.makedirs(out, exist_ok=True)
    write_json(os.path.join(out, JSON), _as_json(runs, comparisons))
    with written(os.path.join(out, VIDEOS), newline="") as file:
        writer = csv_cells.Writer(file)
        writer.writerow(["model", "set", "video", "mos", "score", "fitted", "residual"])
        for run in runs:
            for s in run.sets:
                for video, *values in zip(s.videos, s.mos, s.predicted, s.fitted, strict=True):
                    values.append(values[0] - values[2])
                    cells = [repr(float(v)) if math.isfinite(v) else "" for v in values]
                    writer.writerow([run.model, s.benchmark.name, video, *cells])
    path = os.path.join(out, PAGE)
    names = [run.model for run in runs]
    html.write(
        path,
        "benchmark.html",
        title="Agreement with human scores",
        names=names,
        sets=[_cells(sets_table(run), f"Results of {run.model}", NOTES["sets"]) for run in runs],
        differences=_cells(differences_table(comparisons), "Differences", NOTES["differences"])
        if comparisons
        else None,
        published=_cells(published_table(runs), "Published results", NOTES["published"]),
        figures=[_figures(run) for run in runs],
    )
    return path


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _result_json(result: SetResult | Overall) -> dict[str, Any]:
    return {
        metric: {
            "value": _finite(value),
            "interval": [
                _finite(end) for end in interval(result.draws[metric], units=result.num_contents)
            ],
        }
        for metric, value in result.values.items()
    }


def _as_json(runs: Sequence[BenchmarkRun], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    return {
        "runs": [
            {
                "model": run.model,
                "sets": {
                    s.benchmark.name: {
                        "labelled": len(s.videos),
                        "scored": s.num_scored,
                        "ambiguous": s.ambiguous,
                        "contents": s.num_contents,
                        "contents_rule": s.contents_rule or "not told: one a video",
                        "srcc_within": _finite(s.srcc_within),
                        "mos": [float(s.mos.min()), float(s.mos.max())],
                        "metrics": _result_json(s),
                    }
                    for s in run.sets
                },
                "overall": {
                    o.group: {
                        "sets": o.sets[1],
                        "of": o.sets[0],
                        "contents": o.num_contents,
                        "metrics": _result_json(o),
                        "mean_of_sets": {m: _finite(v) for m, v in o.macro.items()},
                    }
                    for o in run.overall
                },
            }
            for run in runs
        ],
        "differences": {
            row.name: {
                "videos": row.videos,
                "contents": row.contents,
                "williams": dict(zip("tp", map(_finite, row.williams), strict=True)),
                **{
                    metric: {
                        "value": _finite(d.value),
                        "interval": [_finite(d.low), _finite(d.high)],
                        "p": _finite(d.p),
                        "p_holm": _finite(row.corrected[metric]),
                    }
                    for metric, d in row.differences.items()
                },
            }
            for row in comparisons
        },
    }


def _cells(table: Table, label: str, note: str) -> html.Table:
    """The page's form of a table: numbers on one line, their intervals below."""
    head, *rows = table
    return html.Table(label, head, [[row[0], *map(_cell, row[1:])] for row in rows], note=note)


def _cell(shown: str) -> Cell:
    value, bracket, ends = shown.partition(" [")
    return Cell(value, bracket.strip() + ends)


def _figures(run: BenchmarkRun) -> list[Figure]:
    """Scatter and residuals of every set."""
    found = []
    for s in run.sets:
        rows = np.flatnonzero(s.scored & np.isfinite(s.fitted))
        if not len(rows):
            continue
        x, y, fitted = s.predicted[rows], s.mos[rows], s.fitted[rows]
        name, title = s.benchmark.name, f"SRCC {number(s.values['srcc'], 3)}, {len(rows)} videos"
        order = np.argsort(x)
        grid = np.linspace(x.min(), x.max(), _CURVE_POINTS)
        curve = (grid, np.interp(grid, x[order], fitted[order]))
        scatter = plots.points(x, y, "score", "MOS", curve)
        found.append(Figure(scatter, name, title, f"MOS against score, {name}"))
        ends = np.array([fitted.min(), fitted.max()])
        rest = plots.points(
            fitted, y - fitted, "score on the MOS scale", "residual", (ends, 0 * ends)
        )
        note = f"RMSE {number(s.values['rmse'], 3)}"
        alt = f"residual against fitted score, {name}"
        found.append(Figure(rest, f"{name}: residuals", note, alt))
    return found
