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
from vqa_jax.jobs.files import read_json
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.report import html, plots
from vqa_jax.report.html import (
    NOTHING,
    Cell,
    Figure,
    Table,
    count,
    heat_cell,
    percent,
    text_table,
)
from vqa_jax.report.run_data import Thumbnail, corpus_thumbnails
from vqa_jax.report.run_results import confusion_table, videos_of

PAGE = "relabel.html"
_UNCERTAIN = math.log(len(LEVELS))  # entropy of a student that knows nothing
_BINS = 20
_SHOWN_PAIRS = 8  # of each kind, with pictures
_SHOWN_OF_ONE = 2  # of one simulator, or of one weak model in one role
_SHOWN_FILES = 15
_THIRDS = "low middle high"
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
    failed = [v for v in videos if v["error"]]
    path = os.path.join(folder, PAGE)
    html.write(
        path,
        "relabelling.html",
        title=f"Relabelling for iteration {iteration}",
        facts=facts,
        wrong=_share_wrong(facts),
        confusions=_confusions(facts),
        entropy=_entropy(facts, misordered, found),
        hard=_hard(facts),
        files=_files(data, misordered),
        misordered=_cards(shown_misordered, pictures),
        couples=_couples(found),
        gmad=_cards(shown_gmad, pictures),
        failed=text_table(failed, ("video_id", "error"), "Videos that failed", "videos.csv"),
    )
    return path


def _figures(facts: Facts) -> list[tuple[str, str, str]]:
    """What relabel_N.json tells, in words: (what, how many, their share); "" where there is none.

    Facts that an older version has not written are dashes.
    """
    of = facts.get("agreement", {})
    simulators, teachers = (of.get(k, {}) for k in ("simulators", "teachers"))
    rows = [
        ("videos looked at", count(facts.get("pool_videos")), ""),
        ("  failed", count(facts.get("failed_videos")), ""),
        ("simulator pairs asked", count(facts.get("simulator_pairs_tested")), ""),
        ("  misordered", count(facts.get("misordered")), _share_wrong(facts)),
        ("  taken", count(facts.get("misordered_taken")), ""),
    ]
    rows += [
        (f"    of {simulator}", count(pairs), "")
        for simulator, pairs in facts.get("misordered_by_simulator", {}).items()
    ]
    rows += [
        ("  answered as the simulator says", "", percent(simulators.get("same"))),
        ("gMAD pairs", count(facts.get("gmad")), ""),
        ("  answered as the old teachers would", "", percent(teachers.get("same"))),
        ("  in the old teachers' direction", "", percent(teachers.get("direction"))),
    ]
    for name, title in _ENTROPIES:
        mean = _of_uncertain(facts.get("entropy", {}).get(name))
        rows.append((f"entropy, {title}", "", mean))
    hard = facts.get("hard", {})
    if hard:
        rows.append(("asked by kind of clip, and misordered", "", ""))
    for kind, tallies in hard.items():
        for name, tally in _in_order(tallies):
            share = percent(tally["wrong"] / tally["pairs"])
            rows.append((f"  {kind} {name}", count(tally["pairs"]), share))
    return rows


def facts_table(facts: Facts) -> Table:
    """The same figures for the report of a run."""
    rows = [
        [Cell(what.strip(), kind=f"depth{(len(what) - len(what.lstrip())) // 2}"), many, share]
        for what, many, share in _figures(facts)
    ]
    return Table("What the relabelling found", ("", "number", "share"), rows)


def text_table_of(facts: Facts) -> str:
    """The figures of relabel_N.json for the terminal."""
    rows = _figures(facts)
    width = max(len(what) for what, *_ in rows)
    return "\n".join(f"{what:{width}}{many:>11}{share:>8}".rstrip() for what, many, share in rows)


def _of_uncertain(entropy: float | None) -> str:
    return NOTHING if entropy is None else percent(entropy / _UNCERTAIN, 0)


def _share_wrong(facts: Facts) -> str:
    tested = facts.get("simulator_pairs_tested")
    return percent(facts["misordered"] / tested) if tested else NOTHING


def _confusions(facts: Facts) -> list[tuple[str, Table]]:
    of = facts["agreement"]
    titles = (("Simulators", "simulators"), ("Old teachers, gMAD pairs", "teachers"))
    return [
        (title, confusion_table(of[key]["matrix"], f"Old label against the student's: {title}"))
        for title, key in titles
    ]


def _entropy(facts: Facts, misordered: Sequence[Row], found: Sequence[Row]) -> dict[str, Any]:
    edges = np.linspace(0, 1, _BINS + 1)
    curves, keys = [], []
    for index, (name, rows) in enumerate((("misordered", misordered), ("gMAD", found)), 1):
        if rows:
            values = np.array([r["entropy"] for r in rows]) / _UNCERTAIN
            share = np.histogram(np.clip(values, 0, 1), edges)[0] / len(rows)
            curves.append(plots.Series((edges[1:] + edges[:-1]) / 2, share, index))
            keys.append((plots.series_class(index), name))
    plot = plots.lines(curves, "entropy, 1 = knows nothing")
    return {
        "means": [(t, _of_uncertain(facts["entropy"][name])) for name, t in _ENTROPIES],
        "legend": keys,
        "figures": [Figure(plot, "Share of the new pairs by entropy")],
    }


def _hard(facts: Facts) -> list[Table]:
    """A table a property: the share of the asked pairs that was misordered, by class."""
    tables = []
    for kind, of in facts["hard"].items():
        tallies = _in_order(of)
        cells: list[str | Cell] = ["misordered"]
        for _, tally in tallies:
            share = tally["wrong"] / tally["pairs"]
            cells.append(heat_cell(1 - share, 0.5, percent(share, 0), count(tally["pairs"])))
        tables.append(Table(f"Share misordered by {kind}", [kind, *dict(tallies)], [cells], "heat"))
    return tables


def _in_order(of: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Classes and their tallies by name, but thirds from low to high."""
    return sorted(of.items(), key=lambda item: (_THIRDS.find(item[0]), item[0]))


def _files(data: str, misordered: Sequence[Row]) -> Table | None:
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
        return None
    rows = [{"file": path, "misordered pairs taken": n} for path, n in worst]
    return text_table(rows, list(rows[0]), "Files with the most misordered pairs", "pairs.csv")


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


def _couples(found: Sequence[Row]) -> Table | None:
    tally = Counter((p["weak_model"], p["attacker"]) for p in found)
    rows = [
        [weak, count(tally[weak, "student"]), count(tally[weak, "weak"])]
        for weak in sorted({weak for weak, _ in tally})
    ]
    head = ["weak model", "student attacks", "weak model attacks"]
    return Table("gMAD pairs by weak model", head, rows) if rows else None


def _cards(rows: Sequence[Row], pictures: Mapping[str, Thumbnail]) -> list[dict[str, Any]]:
    cards = []
    for row in rows:
        if row["kind"] == "gmad":
            title = f"{row['weak_model']}: {row['attacker']} attacks"
        else:
            title = row["label_source"].split(":")[1]
        keys = (row["first_id"], row["second_id"])
        cards.append(
            {
                **row,
                "title": title,
                "videos": videos_of(keys, keys, pictures),
                "files": list(dict.fromkeys(pictures[k].path for k in keys if k in pictures)),
            }
        )
    return cards
