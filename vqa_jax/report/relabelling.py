"""The page of a relabelling: agreement with the old labels, entropy, hard clips, pictures.

It reads what `relabel` left in the corpus, relabel_N.json and the rows in relabel_N/, and is
written beside the rows.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from pyarrow import parquet

from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs.files import read_json, written
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import plots
from vqa_jax.report.data import Thumbnail, corpus_thumbnails
from vqa_jax.report.document import document
from vqa_jax.report.parts import (
    NOTHING,
    count,
    figure,
    heat_cell,
    jpeg_uri,
    legend,
    percent,
    section,
    text,
    text_table,
)
from vqa_jax.report.results import confusion_table

PAGE = "relabel.html"
_UNCERTAIN = math.log(len(LEVELS))  # entropy of a student that knows nothing
_BINS = 20
_SHOWN_PAIRS = 8  # of each kind, with pictures
_SHOWN_OF_ONE = 2  # of one simulator, or of one weak model in one role
_SHOWN_FILES = 15
_ENTROPIES = (
    ("simulator_pairs", "simulator pairs asked"),
    ("misordered", "misordered ones"),
    ("gmad", "gMAD pairs"),
)

Facts = Mapping[str, Any]
Row = Mapping[str, Any]


def write(data: str, iteration: int) -> str:
    """Writes the page of an iteration's relabelling and returns its path.

    Raises:
      CorpusError: the iteration has not been relabelled.
    """
    facts = read_json(os.path.join(data, f"relabel_{iteration}.json"))
    folder = os.path.join(data, f"relabel_{iteration}")
    pairs, videos = (
        parquet.read_table(os.path.join(folder, f"{name}.parquet")).to_pylist()
        for name in ("pairs", "videos")
    )
    misordered = [p for p in pairs if p["kind"] == "misordered"]
    found = [p for p in pairs if p["kind"] == "gmad"]
    shown_misordered, shown_gmad = _confident(misordered), _widest(found)
    ids = {p[k] for p in (*shown_misordered, *shown_gmad) for k in ("first_id", "second_id")}
    pictures = corpus_thumbnails(data, ids)
    sections = (
        ("labels", "Agreement with the old labels", _agreement(facts)),
        ("entropy", "Entropy", _entropy(facts, misordered, found)),
        ("hard", "What is hard", _hard(facts) + _files(data, misordered)),
        ("misordered", "Misordered simulator pairs", _cards(shown_misordered, pictures)),
        ("gmad", "gMAD pairs", _couples(found) + _cards(shown_gmad, pictures)),
        ("failed", "Videos that failed", _failed(videos)),
    )
    title = f"Relabelling for iteration {iteration}"
    nav = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in sections)
    body = "".join(section(*part) for part in sections)
    path = os.path.join(folder, PAGE)
    with written(path) as f:
        lead = f"<p class='lead'>{_lead(facts)}</p>"
        f.write(document(title, f"<h1>{title}</h1>{lead}<nav>{nav}</nav>{body}"))
    return path


def text_table_of(facts: Facts) -> str:
    """The figures of relabel_N.json for the terminal."""
    simulators, teachers = (facts["agreement"][k] for k in ("simulators", "teachers"))
    lines = [
        f"videos looked at          {facts['pool_videos']:>9,}",
        f"  failed                  {facts['failed_videos']:>9,}",
        f"simulator pairs asked     {facts['simulator_pairs_tested']:>9,}",
        f"  misordered              {facts['misordered']:>9,}  {_share_wrong(facts)}",
        f"  taken                   {facts['misordered_taken']:>9,}",
        f"  of the simulator's level{percent(simulators['same']):>9}",
        f"gMAD pairs                {facts['gmad']:>9,}",
        f"  of the teachers' level  {percent(teachers['same']):>9}",
        f"  of their direction      {percent(teachers['direction']):>9}",
    ]
    for name, title in _ENTROPIES:
        lines.append(f"entropy, {title:22}{_of_uncertain(facts['entropy'][name]):>4}")
    lines.append(f"{'hard: share misordered':26}{'pairs':>9}")
    for kind, of in facts["hard"].items():
        for name, tally in of.items():
            share = percent(tally["wrong"] / tally["pairs"])
            lines.append(f"  {kind + ' ' + name:24}{tally['pairs']:>9,}{share:>8}")
    return "\n".join(lines)


def _of_uncertain(entropy: float | None) -> str:
    return NOTHING if entropy is None else percent(entropy / _UNCERTAIN, 0)


def _share_wrong(facts: Facts) -> str:
    tested = facts["simulator_pairs_tested"]
    return percent(facts["misordered"] / tested) if tested else NOTHING


def _lead(facts: Facts) -> str:
    return (
        f"The student looked at {count(facts['pool_videos'])} videos. It misordered "
        f"<b>{_share_wrong(facts)}</b> of {count(facts['simulator_pairs_tested'])} simulator pairs "
        f"that no earlier iteration held; {count(facts['misordered_taken'])} of these join the "
        f"training pairs, with the simulator's label, and so do {count(facts['gmad'])} gMAD pairs, "
        "on which it and a weak model disagree most."
    )


def _agreement(facts: Facts) -> str:
    simulators, teachers = (facts["agreement"][k] for k in ("simulators", "teachers"))
    whose = "by it and the teachers" if facts["labels"] == "ensemble" else "softly, by itself"
    return (
        f"<p>All simulator pairs that were asked: the student gives the simulator's level to "
        f"{percent(simulators['same'])}, and of the pairs that it does not call similar "
        f"{percent(simulators['direction'])} point the simulator's way. gMAD pairs, labelled "
        f"{whose}: it gives the level that the old teachers would (by D and s_D) to "
        f"{percent(teachers['same'])}, and {percent(teachers['direction'])} point their way. gMAD "
        "pairs were chosen for disagreement: a low share is no fault of either.</p>"
        "<p>Rows are the old label, columns the student's most probable level, both orders "
        "averaged.</p><div class='side'>"
        f"<div><h3>Simulators</h3>{confusion_table(simulators['matrix'])}</div>"
        f"<div><h3>Old teachers, gMAD pairs</h3>{confusion_table(teachers['matrix'])}</div></div>"
    )


def _entropy(facts: Facts, misordered: Sequence[Row], found: Sequence[Row]) -> str:
    means = "; ".join(f"{t} {_of_uncertain(facts['entropy'][name])}" for name, t in _ENTROPIES)
    edges = np.linspace(0, 1, _BINS + 1)
    curves, keys = [], []
    for index, (name, rows) in enumerate((("misordered", misordered), ("gMAD", found)), 1):
        if rows:
            values = np.array([r["entropy"] for r in rows]) / _UNCERTAIN
            share = np.histogram(np.clip(values, 0, 1), edges)[0] / len(rows)
            curves.append(plots.Series((edges[1:] + edges[:-1]) / 2, share, index))
            keys.append((plots.series_class(index), name))
    plot = plots.lines(curves, "entropy, 1 = knows nothing")
    return (
        "<p>Entropy of the level posterior, both orders averaged, as a share of log 5: 0 is a "
        f"certain answer. Means: {means}.</p>{legend(keys)}"
        f'<div class="panels">{figure(plot, "Share of the new pairs by entropy")}</div>'
    )


def _hard(facts: Facts) -> str:
    parts = ""
    for kind, of in facts["hard"].items():
        head = "".join(f"<th>{text(name)}</th>" for name in of)
        cells = ""
        for tally in of.values():
            share = tally["wrong"] / tally["pairs"]
            shown = f"{percent(share, 0)}<small>{count(tally['pairs'])}</small>"
            cells += heat_cell(1 - share, 0.5, shown)
        parts += f"<tr><th></th>{head}</tr><tr><th scope='row'>{text(kind)}</th>{cells}</tr>"
    return (
        "<p>Share of the asked simulator pairs that were misordered, with the number of pairs "
        "below: by simulator, by distance of the severities, and by thirds of what each built-in "
        "teacher measures on the undistorted clip (its raw score). Blue: better than a coin.</p>"
        f'<div class="scroll"><table class="heat"><tbody>{parts}</tbody></table></div>'
    )


def _files(data: str, misordered: Sequence[Row]) -> str:
    ids = {p["first_id"] for p in misordered}
    table = read_video_table(data, ("video_id", "path"))
    path_of = {
        key: path
        for key, path in zip(table.column("video_id"), table.column("path"), strict=True)
        if key in ids
    }
    tally = Counter(path_of[p["first_id"]] for p in misordered)
    worst = sorted(tally.items(), key=lambda x: (-x[1], x[0]))[:_SHOWN_FILES]
    if not worst:
        return ""
    rows = [{"file": path, "misordered pairs taken": str(n)} for path, n in worst]
    return "<h3>Files with the most of them</h3>" + text_table(rows, list(rows[0]), "pairs.csv")


def _few_of_each(rows: Sequence[Row], kind: Callable[[Row], Hashable]) -> list[Row]:
    chosen: list[Row] = []
    seen: Counter[Hashable] = Counter()
    for row in rows:
        if seen[kind(row)] < _SHOWN_OF_ONE and len(chosen) < _SHOWN_PAIRS:
            seen[kind(row)] += 1
            chosen.append(row)
    return chosen


def _confident(misordered: Sequence[Row]) -> list[Row]:
    rows = sorted(
        misordered, key=lambda p: (-abs(p["preference"] - 0.5), p["first_id"], p["second_id"])
    )
    return _few_of_each(rows, lambda p: p["label_source"])


def _widest(found: Sequence[Row]) -> list[Row]:
    """The widest gaps of each couple and role; gaps of different attackers do not compare."""
    rows = sorted(found, key=lambda p: (-p["gap"], p["first_id"], p["second_id"]))
    return _few_of_each(
        sorted(rows, key=lambda p: (p["weak_model"], p["attacker"])),
        lambda p: (p["weak_model"], p["attacker"]),
    )


def _couples(found: Sequence[Row]) -> str:
    tally = Counter((p["weak_model"], p["attacker"]) for p in found)
    body = "".join(
        f'<tr><th scope="row">{text(weak)}</th><td>{count(tally[weak, "student"])}</td>'
        f"<td>{count(tally[weak, 'weak'])}</td></tr>"
        for weak in sorted({weak for weak, _ in tally})
    )
    if not body:
        return ""
    return (
        "<p>The attacker tells the two videos apart, the other one finds them alike.</p>"
        '<div class="scroll"><table class="wide"><thead><tr><th>weak model</th>'
        "<th>student attacks</th><th>weak model attacks</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cards(rows: Sequence[Row], pictures: Mapping[str, Thumbnail]) -> str:
    if not rows:
        return "<p>None.</p>"
    cards = "".join(_card(row, pictures) for row in rows)
    return (
        "<p>A few of each kind; labels describe the second video, p is the student's probability "
        "that the second is better. Jitter and stutter show only in motion.</p>"
        f'<div class="pairs">{cards}</div>'
    )


def _card(row: Row, pictures: Mapping[str, Thumbnail]) -> str:
    if row["kind"] == "gmad":
        name = f"{row['weak_model']}: {row['attacker']} attacks"
        old = row["old_label"] or "nothing"
        verdict = f"New label <b>{row['label']}</b>; the old teachers say {old}."
    else:
        name = row["label_source"].split(":")[1]
        verdict = f"The simulator says <b>{row['label']}</b>, the student {row['student_label']}."
    ids = (row["first_id"], row["second_id"])
    shown = ""
    for order, key in zip(("First", "Second"), ids, strict=True):
        found = pictures.get(key)
        picture = '<div class="none">no picture: its frames are not in the corpus</div>'
        if found is not None and found.jpeg is not None:
            picture = f'<img alt="{order} video" src="{jpeg_uri(found.jpeg)}">'
        shown += f"<p><b>{order}</b>, {text(key)}</p>{picture}"
    paths = dict.fromkeys(pictures[key].path for key in ids if key in pictures)
    return (
        f'<div class="pair"><h3>{text(name)}<span>p = {row["preference"]:.3f}</span></h3>{shown}'
        f'<p class="verdict">{verdict}</p><p class="muted file">{text(", ".join(paths))}</p></div>'
    )


def _failed(videos: Sequence[Row]) -> str:
    failed = [v for v in videos if v["error"]]
    if not failed:
        return "<p>None.</p>"
    return text_table(failed, ("video_id", "error"), "videos.csv")
