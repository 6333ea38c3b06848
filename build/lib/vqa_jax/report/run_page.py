"""What the report of a run shows: the values of each section, None where a step has not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import plots, relabelling, run_results, teachers
from vqa_jax.report.html import (
    NOTHING,
    Figure,
    bars,
    correlation,
    count,
    number,
    percent,
    settings_table,
    signed,
    text_table,
)
from vqa_jax.report.run_data import Row, Run, Thumbnail, simulators

_CURVES = (
    ("train/loss", "Loss"),
    ("train/ce", "Cross-entropy"),
    ("train/level_acc", "Level accuracy"),
    ("train/entropy", "Entropy"),
    ("train/weight", "Confidence weight"),
    ("train/severity_acc", "Severity accuracy"),
)
_MORE_CURVES = (
    ("train/lr", "Learning rate"),
    ("train/grad_norm", "Gradient norm"),
    ("perf/pairs_per_sec", "Pairs per second"),
    ("perf/input_wait_frac", "Share of time waiting for input"),
)


def contents(run: Run, wrong: Sequence[Row], pictures: Mapping[str, Thumbnail]) -> dict[str, Any]:
    """Values of the template `run.html`.

    Args:
      run: what the report shows.
      wrong: wrong pairs of the last evaluated iteration, in the order of their display.
      pictures: video id -> picture strip, of the wrong pairs' videos.
    """
    return {
        "title": "Video quality from ranked pairs: report",
        "run": run,
        "simulators": ", ".join(simulators(run.iterations)) or NOTHING,
        "summary": _summary(run),
        "tiles": _tiles(run),
        "loop_table": run_results.loop(run),
        "unevaluated": _numbers(i.number for i in run.iterations if i.evaluation is None),
        "severity": run_results.severity(run),
        "scores": run_results.scores(run),
        "wrong": run_results.wrong_pairs(run, wrong, pictures),
        "confusion": run_results.confusion(run),
        "training": _training(run),
        "labels": _labels(run),
        "relabelled": [
            (i.number, relabelling.facts_table(i.relabel)) for i in run.iterations if i.relabel
        ],
        "teachers": teachers.contents(run.ensemble["sets"]) if run.ensemble else None,
        "quarantine": text_table(
            run.quarantine or (),
            ("path", "stage", "reason"),
            "Files that could not be used",
            "corpus/quarantine.csv",
        ),
        "user_scores": text_table(
            run.user_scores, list(run.user_scores[0]), "Scored videos", "scores.csv"
        )
        if run.user_scores
        else None,
        "preparation": _preparation(run),
        "trained": _trained(run),
    }


def _numbers(found: Iterable[int]) -> str:
    return ", ".join(map(str, found))


def _summary(run: Run) -> dict[str, Any] | None:
    """The numbers of the first paragraph."""
    if not run.evaluated:
        return None
    first, last = run.evaluated[0], run.evaluated[-1]
    before, after = first.evaluation or {}, last.evaluation or {}
    a, b = number(before.get("accuracy")), number(after.get("accuracy"))
    gain = None
    if first is not last and a is not None and b is not None:
        gain = _gain(b - a, before.get("accuracy_ci"), after.get("accuracy_ci"))
    known = {
        name: value
        for name, entry in after.get("by_simulator", {}).items()
        if (value := number(entry.get("accuracy"))) is not None
    }
    ends = [f(known, key=known.__getitem__) for f in (max, min)] if len(known) > 1 else []
    return {
        "pairs": count(after.get("num_pairs")),
        "first": first.number,
        "last": last.number,
        "before": percent(a),
        "after": percent(b),
        "gain": gain,
        "srcc": None if number(after.get("srcc")) is None else correlation(after["srcc"]),
        "srcc_before": correlation(before.get("srcc")),
        "ends": [(name, percent(known[name])) for name in ends],
    }


def _gain(gain: float, before: Any, after: Any) -> str:
    points = f"{signed(100 * gain, 1)} points"
    if not (before and after):
        return f"The difference is {points}."
    if before[0] <= after[1] and after[0] <= before[1]:
        return f"The difference is {points}; the 95% intervals overlap, so it may be chance."
    return f"The difference is {points}, and the 95% intervals do not overlap."


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """(number, what it is, small print)."""
    tiles = []
    if run.evaluated:
        first, last = run.evaluated[0].evaluation or {}, run.evaluated[-1].evaluation or {}
        shown = (
            ("accuracy", "pairs in the right order", percent),
            ("srcc", "scores against severity (SRCC)", correlation),
            ("self_contradiction", "answers that change when swapped", percent),
        )
        for key, name, form in shown:
            was = f"before: {form(first.get(key))}" if len(run.evaluated) > 1 else ""
            tiles.append((form(last.get(key)), name, was))
    if run.manifest:
        counts = run.manifest.get("counts", {})
        bad = f"{count(counts.get('quarantined'))} quarantined"
        tiles.append((count(counts.get("inputs")), "input files", bad))
        tiles.append((count(counts.get("videos")), "segments, distorted ones included", ""))
    return tiles


def _curve_figures(run: Run, curves: Sequence[tuple[str, str]]) -> list[Figure]:
    figures = []
    for key, title in curves:
        series = []
        for index, iteration in enumerate(run.iterations):
            points = [
                (r["step"], value)
                for r in iteration.metrics
                if (value := number(r.get(key))) is not None
            ]
            if points:
                steps, values = zip(*points, strict=True)
                series.append(plots.Series(steps, values, index))
        if series:
            figures.append(Figure(plots.lines(series, "step"), title, alt=f"{title} by step"))
    return figures


def _training(run: Run) -> dict[str, Any] | None:
    trained = [i for i in run.iterations if i.metrics]
    if not trained:
        return None
    return {
        "missing": _numbers(i.number for i in run.iterations if not i.metrics),
        "legend": run_results.iteration_legend(trained, run),
        "figures": _curve_figures(run, _CURVES),
        "more": _curve_figures(run, _MORE_CURVES),
    }


def _labels(run: Run) -> list[dict[str, Any]]:
    """Labels of the pairs that each iteration added."""
    found = []
    for index, iteration in enumerate(run.iterations):
        if iteration.pair_manifest:
            labels = iteration.pair_manifest.get("labels", {})
            counts = iteration.pair_manifest.get("counts", {})
            values = [number(labels.get(x)) or 0.0 for x in LEVELS]
            found.append(
                {
                    "title": f"Added by iteration {iteration.number}",
                    "note": ", ".join(f"{count(v)} {k}" for k, v in counts.items()),
                    "bars": bars("Pairs by label", LEVELS, values, index),
                }
            )
    return found


def _preparation(run: Run) -> dict[str, Any] | None:
    if run.manifest is None:
        return None
    groups = (("Preparation", "settings"), ("Identity of the corpus", "identity"))
    return {
        "seed": run.manifest.get("seed", NOTHING),
        "groups": [
            (title, settings_table(values, title))
            for title, key in groups
            if (values := run.manifest.get(key))
        ],
    }


def _trained(run: Run) -> list[dict[str, Any]]:
    """Each iteration's student and settings."""
    found = []
    for i in run.iterations:
        groups = [("training", i.settings), ("pairs", (i.pair_manifest or {}).get("identity"))]
        found.append(
            {
                "number": i.number,
                "student": (i.evaluation or {}).get("student"),
                "groups": [
                    (name, settings_table(values, f"Settings of iteration {i.number}: {name}"))
                    for name, values in groups
                    if values
                ],
            }
        )
    return found
