"""The page of `compare`: the ranking, every pair, and when two versions differ most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from vqa_jax.report import html, plots
from vqa_jax.report.html import Cell, Figure, Table
from vqa_jax.report.timeline import clock
from vqa_jax.scoring.differences import Differences
from vqa_jax.scoring.pictures import CROP_SIDE, FRAME_SIDE
from vqa_jax.scoring.versions import Ranking

_WHOLE = -0.1, 1.05  # of a probability's axis, with room for the numbers below the points


def write(ranking: Ranking, over_time: Sequence[Differences], path: str) -> None:
    """Writes the page."""
    failed = [v for v in ranking.versions if v.error is not None]
    html.write(
        path,
        "versions.html",
        title=f"{len(ranking.versions)} versions compared",
        ranking=_ranking(ranking),
        pairs=_pairs(ranking),
        failed=[f"{v.name} ({v.path}): {v.error}" for v in failed],
        scale=ranking.scale,
        model=ranking.model,
        sides=(FRAME_SIDE, CROP_SIDE),
        over_time=[_over_time(found) for found in over_time],
    )


def _ranking(ranking: Ranking) -> Table:
    rows = [
        [
            f"{version.rank}. {version.name}",
            Cell(os.path.basename(version.path) or html.NOTHING, version.notes, "file"),
            f"{html.signed(version.q, 2)} ± {version.q_std:.2f}",
            html.NOTHING if version.score is None else f"{version.score:.2f} ± {version.std:.2f}",
        ]
        for version in ranking.usable
    ]
    return Table("Versions, best first", ("rank", "file", "among themselves", "score"), rows)


def _pairs(ranking: Ranking) -> Table:
    names = [version.name for version in ranking.usable]
    told = {frozenset((pair.first, pair.second)): pair for pair in ranking.pairs}
    rows: list[list[str | Cell]] = []
    for one in names:
        row: list[str | Cell] = [one]
        for other in names:
            if one == other:
                row.append(Cell(html.NOTHING, kind="none"))
                continue
            share = ranking.better(one, other)
            small = "orders disagree" if told[frozenset((one, other))].contradictory else ""
            row.append(html.heat_cell(share, 0.5, html.percent(share, 0), small))
        rows.append(row)
    return Table("Probability that the row's version is better", ("", *names), rows, "heat")


def _over_time(found: Differences) -> dict[str, Any]:
    return {
        "title": f"{found.second} against {found.first}",
        "names": (found.first, found.second),
        "note": found.note,
        "curve": _curve(found) if found.moments else None,
        "most": [
            {
                "title": f"{number}. {clock(shown.moment.start)} to {clock(shown.moment.stop)}",
                "better": html.percent(shown.moment.second_better, 0),
                "disagree": shown.moment.contradictory,
                "time": clock(shown.time),
                "pictures": [
                    (name, html.jpeg_uri(frame), html.jpeg_uri(crop))
                    for name, (frame, crop) in (
                        (found.first, shown.first),
                        (found.second, shown.second),
                    )
                ],
            }
            for number, shown in enumerate(found.most, 1)
        ],
    }


def _curve(found: Differences) -> Figure:
    unit = 60 if found.moments[-1].stop > 180 else 1
    places = [(m.start + m.stop) / 2 / unit for m in found.moments]
    values = [m.second_better for m in found.moments]
    marks = [
        ((k.moment.start + k.moment.stop) / 2 / unit, k.moment.second_better) for k in found.most
    ]
    words = "minutes" if unit == 60 else "seconds", f"P({found.second} better)"
    wide, narrow = (
        plots.passages(places, values, [0.0] * len(values), marks, *words, narrow, _WHOLE)
        for narrow in (False, True)
    )
    title = f"Probability that {found.second} is better than {found.first}"
    return Figure(wide, title, "passages of 2 s; 0.5: no difference seen", narrow=narrow)
