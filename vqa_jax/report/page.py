"""Renders the report: every section says what it shows, or which step has not run yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import ensemble, plots, results
from vqa_jax.report.data import Row, Run, Thumbnail, number, simulators
from vqa_jax.report.document import document
from vqa_jax.report.parts import (
    NOTHING,
    absent,
    correlation,
    count,
    facts_table,
    figure,
    percent,
    section,
    signed,
    text,
    text_table,
)

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
_SECTIONS = (
    ("loop", "Before and after"),
    ("severity", "Accuracy by severity"),
    ("scores", "Scores"),
    ("wrong", "Wrong pairs"),
    ("confusion", "Confusion"),
    ("training", "Training"),
    ("labels", "Pairs"),
    ("teachers", "Teachers"),
    ("files", "Files"),
    ("settings", "Settings"),
    ("meaning", "What the numbers mean"),
)


def _summary(run: Run) -> str:
    if not run.evaluated:
        return "<p class='lead'>No iteration has been evaluated yet: there are no results.</p>"
    first, last = run.evaluated[0], run.evaluated[-1]
    before, after = first.evaluation or {}, last.evaluation or {}
    parts = [
        f"The student was shown {count(after.get('num_pairs'))} pairs of clips that it had never "
        "seen, and asked which of the two looks better."
    ]
    a, b = number(before.get("accuracy")), number(after.get("accuracy"))
    if first is last:
        parts.append(
            f"After iteration {last.number} it was right in <b>{percent(b)}</b> of them, averaged "
            "over the simulators (a coin would be in 50%)."
        )
    else:
        parts.append(
            f"Averaged over the simulators, it was right in {percent(a)} of them after iteration "
            f"{first.number}, and in <b>{percent(b)}</b> after iteration {last.number} (a coin "
            "would be in 50%)."
        )
        if a is not None and b is not None:
            parts.append(_gain(b - a, before.get("accuracy_ci"), after.get("accuracy_ci")))
    if number(after.get("srcc")) is not None:
        was = "" if first is last else f" (before: {correlation(before.get('srcc'))})"
        parts.append(
            "The rank correlation of its scores with severity is "
            f"<b>{correlation(after.get('srcc'))}</b>{was}; −1 would be perfect."
        )
    known = {
        name: value
        for name, entry in after.get("by_simulator", {}).items()
        if (value := number(entry.get("accuracy"))) is not None
    }
    if len(known) > 1:
        best, worst = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
        parts.append(
            f"It is best at {text(best)} ({percent(known[best])}) and worst at {text(worst)} "
            f"({percent(known[worst])})."
        )
    return f"<p class='lead'>{' '.join(parts)}</p>"


def _gain(gain: float, before: Any, after: Any) -> str:
    points = f"{signed(100 * gain, 1)} points"
    if not (before and after):
        return f"The difference is {points}."
    if before[0] <= after[1] and after[0] <= before[1]:
        return f"The difference is {points}; the 95% intervals overlap, so it may be chance."
    return f"The difference is {points}, and the 95% intervals do not overlap."


def _tiles(run: Run) -> str:
    tiles = []
    if run.evaluated:
        first, last = run.evaluated[0].evaluation or {}, run.evaluated[-1].evaluation or {}
        several = len(run.evaluated) > 1
        shown = (
            ("accuracy", "pairs in the right order", percent),
            ("srcc", "scores against severity (SRCC)", correlation),
            ("self_contradiction", "answers that change when swapped", percent),
        )
        for key, name, form in shown:
            was = f"<small>before: {form(first.get(key))}</small>" if several else ""
            tiles.append((form(last.get(key)), name, was))
    if run.manifest:
        counts = run.manifest.get("counts", {})
        bad = f"<small>{count(counts.get('quarantined'))} quarantined</small>"
        tiles.append((count(counts.get("inputs")), "input files", bad))
        tiles.append((count(counts.get("videos")), "segments, distorted ones included", ""))
    cells = "".join(
        f'<div class="tile"><b>{value}</b><span>{name}</span>{note}</div>'
        for value, name, note in tiles
    )
    return f'<div class="tiles">{cells}</div>' if tiles else ""


def _curve_panels(run: Run, curves: Sequence[tuple[str, str]]) -> str:
    panels = ""
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
            panels += figure(plots.lines(series, "step"), title, alt=f"{title} by step")
    return panels


def _training(run: Run) -> str:
    trained = [i for i in run.iterations if i.metrics]
    if not trained:
        return absent("no training metrics have been written.")
    missing = [str(i.number) for i in run.iterations if not i.metrics]
    note = absent(f"no training metrics of iteration {', '.join(missing)}.") if missing else ""
    more = _curve_panels(run, _MORE_CURVES)
    details = (
        "<details><summary>Learning rate, gradients, speed</summary>"
        f'<div class="panels">{more}</div></details>'
        if more
        else ""
    )
    return (
        f"{note}{results.iteration_legend(trained, run)}"
        f'<div class="panels">{_curve_panels(run, _CURVES)}</div>{details}'
    )


def _labels(run: Run) -> str:
    panels = ""
    for index, iteration in enumerate(run.iterations):
        if iteration.pair_manifest:
            labels = iteration.pair_manifest.get("labels", {})
            counts = iteration.pair_manifest.get("counts", {})
            note = ", ".join(f"{count(v)} {k}" for k, v in counts.items())
            values = [number(labels.get(x)) or 0.0 for x in LEVELS]
            panels += figure(
                plots.bars(LEVELS, values, index),
                f"Added by iteration {iteration.number}",
                note,
                "labels: " + ", ".join(f"{x} {v:.0f}" for x, v in zip(LEVELS, values, strict=True)),
            )
    body = f'<div class="panels">{panels}</div>' if panels else absent("no pairs have been made.")
    facts = "".join(
        f"<h3>Relabelling for iteration {i.number}</h3>{facts_table(i.relabel)}"
        for i in run.iterations
        if i.relabel
    )
    return (
        "<p>Labels of the pairs that each iteration added; those of earlier ones stay in use.</p>"
        f"{body}{facts or absent('the student has not relabelled the pool yet.')}"
    )


def _teachers(run: Run) -> str:
    if not run.ensemble:
        return absent("the teachers have not been compared (run <code>teachers agree</code>).")
    return ensemble.body(run.ensemble["sets"])


def _files(run: Run) -> str:
    if run.quarantine is None:
        body = absent("preparation has not finished (no <code>corpus/quarantine.csv</code>).")
    elif not run.quarantine:
        body = "<p>Every input could be used: nothing is quarantined.</p>"
    else:
        body = f"<p>{count(len(run.quarantine))} input files could not be used.</p>" + text_table(
            run.quarantine, ("path", "stage", "reason"), "corpus/quarantine.csv"
        )
    if run.user_scores:
        columns = list(run.user_scores[0])
        body += "<h3>Scored videos</h3>" + text_table(run.user_scores, columns, "scores.csv")
    if run.damaged:
        rows = "".join(f"<li>{text(d)}</li>" for d in run.damaged)
        body += f"<h3>Files of this run that could not be read</h3><ul class='file'>{rows}</ul>"
    return body


def _settings(run: Run) -> str:
    if run.manifest is None:
        body = absent("preparation has not finished (no <code>corpus/manifest.json</code>).")
    else:
        body = f"<p>Seed {text(run.manifest.get('seed', NOTHING))}.</p>"
        groups = (("Preparation", "settings"), ("Identity of the corpus", "identity"))
        for title, key in groups:
            if values := run.manifest.get(key):
                body += f"<details><summary>{title}</summary>{facts_table(values)}</details>"
    for i in run.iterations:
        name = f"Iteration {i.number}"
        if i.evaluation and "student" in i.evaluation:
            body += f"<p>{name}: student <code>{text(i.evaluation['student'])}</code></p>"
        if i.settings:
            body += (
                f"<details><summary>{name}: training</summary>{facts_table(i.settings)}</details>"
            )
        if i.pair_manifest and (values := i.pair_manifest.get("identity")):
            body += f"<details><summary>{name}: pairs</summary>{facts_table(values)}</details>"
    return body


_MEANING = (
    (
        "Pairs in the right order",
        "Share of held-out pairs, 0 to 100%, higher is better. Both clips of a pair come from one "
        "source that was not trained on; the one with the lower severity must be preferred. The "
        "preference is averaged over both orders, an undecided pair counts as wrong, and every "
        "simulator weighs the same. The severities are known because the distortions were "
        "simulated: no person has rated these clips.",
    ),
    (
        "SRCC against severity",
        "Spearman's rank correlation between a segment's scores and its severity levels, from −1 "
        "to 1, averaged over segments. More distortion must mean a lower score: −1 is perfect, 0 "
        "is chance.",
    ),
    (
        "Score",
        "Higher is better. It is a position between the student's anchors, clips of simulated "
        "quality, so that the scale is <b>arbitrary</b>: not a mean opinion score, not bounded by "
        "0 and 100, and not comparable between students. Its std says how certain the comparisons "
        "with the anchors leave it.",
    ),
    (
        "Preference p",
        "The student's probability, 0 to 1, that the second video of a pair is better, averaged "
        "over both orders.",
    ),
    (
        "Swapped answers",
        "Share of pairs where the student prefers the same position in both orders and so "
        "contradicts itself; 0% is perfect.",
    ),
    (
        "Level and severity accuracy (training)",
        "Shares of the training batch, one order of each pair. Labels of weak teachers are among "
        "them, so that 100% is neither reached nor wanted.",
    ),
)


def render(run: Run, wrong: Sequence[Row], pictures: dict[str, Thumbnail]) -> str:
    """The whole page, self-contained.

    Args:
      run: what the report shows.
      wrong: wrong pairs of the last evaluated iteration, in the order of their display.
      pictures: video id -> picture strip, of the wrong pairs' videos.
    """
    meaning = "".join(f"<dt>{name}</dt><dd>{words}</dd>" for name, words in _MEANING)
    bodies = {
        "loop": results.loop(run),
        "severity": results.severity(run),
        "scores": results.scores(run),
        "wrong": results.wrong_pairs(run, wrong, pictures),
        "confusion": results.confusion(run),
        "training": _training(run),
        "labels": _labels(run),
        "teachers": _teachers(run),
        "files": _files(run),
        "settings": _settings(run),
        "meaning": f"<dl>{meaning}</dl>",
    }
    nav = "".join(f'<a href="#{name}">{title}</a>' for name, title in _SECTIONS)
    sections = "".join(section(name, title, bodies[name]) for name, title in _SECTIONS)
    return document(
        "Video quality from ranked pairs: report",
        "<h1>Video quality from ranked pairs</h1>"
        f'<p class="muted">Report of the run <code>{text(run.folder)}</code>, '
        f"{len(run.iterations)} iteration{'' if len(run.iterations) == 1 else 's'}, "
        f"simulators: {text(', '.join(simulators(run.iterations)) or NOTHING)}</p>"
        f"{_summary(run)}{_tiles(run)}<nav>{nav}</nav>{sections}",
    )
