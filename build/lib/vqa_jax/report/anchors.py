"""The page of the anchors' sensitivity: what leaving out each of them does to the scores."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from vqa_jax import terminal
from vqa_jax.jobs.files import write_json
from vqa_jax.report import html
from vqa_jax.scoring.judge import Judge
from vqa_jax.scoring.sensitivity import LeftOut, without_each_anchor

NAME = "anchor_sensitivity"
_COLUMNS = ("anchor", "known", "by the others", "SRCC", "mean shift", "largest shift")


def examine(judge: Judge, probabilities: np.ndarray) -> list[LeftOut]:
    """Leaves every anchor out once.

    Args:
      judge: the student with its anchors.
      probabilities: of `Predictor.anchor_probabilities`, [videos, anchors].

    Raises:
      ValueError: too few anchors or videos.
    """
    anchors = judge.anchors
    return without_each_anchor(anchors.names, anchors.scores, judge.scale.matrix, probabilities)


def write(judge: Judge, found: Sequence[LeftOut], videos: int, out: str) -> None:
    """Writes what `examine` found of so many videos, as JSON and a page, to the folder `out`."""
    anchors = judge.anchors
    os.makedirs(out, exist_ok=True)
    facts = {"videos": videos, "scale": anchors.scale, "arbitrary": anchors.arbitrary}
    path = os.path.join(out, NAME)
    write_json(f"{path}.json", {**facts, "anchors": [dataclasses.asdict(row) for row in found]})
    shifts = {row.name: row.mean_shift for row in found if row.mean_shift is not None}
    html.write(
        f"{path}.html",
        "anchors.html",
        title="Anchors left out",
        videos=videos,
        bars=html.bars(
            "Mean shift of the scores without each anchor",
            list(shifts),
            list(shifts.values()),
            index=1,
            digits=2,
        ),
        table=_table(found),
    )


def _cells(row: LeftOut) -> tuple[str, ...]:
    def shown(value: float | None, digits: int) -> str:
        return html.NOTHING if value is None else f"{value:.{digits}f}"

    return (
        row.name,
        shown(row.known, 1),
        shown(row.predicted, 1),
        shown(row.srcc, 4),
        shown(row.mean_shift, 2),
        shown(row.largest_shift, 2),
    )


def render(found: Sequence[LeftOut], out: str) -> str:
    """The table for the terminal."""
    rows = [_COLUMNS, *(tuple(map(terminal.name, _cells(of))) for of in found)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([*lines, f"page: {os.path.join(out, NAME + '.html')}"])


def _table(found: Sequence[LeftOut]) -> html.Table:
    rows = [[html.Cell(name, kind="file"), *values] for name, *values in map(_cells, found)]
    return html.Table("What leaving out each anchor does", _COLUMNS, rows)
