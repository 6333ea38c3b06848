"""What each anchor does to the scores: every one is left out once.

Writes `anchor_sensitivity.json` and `.html`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from vqa_jax.benchmarks import metrics
from vqa_jax.jobs.files import write_json, written
from vqa_jax.report import parts, plots
from vqa_jax.report.document import document
from vqa_jax.scoring.judge import Judge
from vqa_jax.scoring.scale import AnchorScale

NAME = "anchor_sensitivity"


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """One anchor left out.

    Attributes:
      name: the anchor.
      known: its score in the set.
      predicted: its score by the other anchors, None if those are in no usable order.
      srcc: of the videos' scores with those by all anchors.
      mean_shift, largest_shift: of the videos' scores, absolute, on the anchors' scale.
    """

    name: str
    known: float
    predicted: float | None = None
    srcc: float | None = None
    mean_shift: float | None = None
    largest_shift: float | None = None


def leave_one_out(
    names: Sequence[str], scores: Sequence[float], matrix: np.ndarray, probabilities: np.ndarray
) -> list[LeftOut]:
    """Scores the videos, and the anchor left out, by the other anchors.

    Args:
      names: [A] of the anchors.
      scores: [A] their known scores.
      matrix: [A, A] probability that anchor i is preferred to anchor j.
      probabilities: [n, A] that each video is preferred to each anchor, n >= 2.

    Raises:
      ValueError: fewer than three anchors or two videos.
    """
    if len(names) < 3 or len(probabilities) < 2:
        raise ValueError(
            f"{len(names)} anchors and {len(probabilities)} videos: three and two are the least"
        )
    full = _scores(matrix, scores, probabilities)
    found = []
    for i, name in enumerate(names):
        kept = np.delete(np.arange(len(names)), i)
        known = np.asarray(scores, float)[kept]
        rows = np.concatenate([matrix[i, kept][None], probabilities[:, kept]])
        try:
            predicted, *rest = _scores(matrix[np.ix_(kept, kept)], known, rows)
        except ValueError:  # the others are in no order that a scale could follow
            found.append(LeftOut(name, float(scores[i])))
            continue
        shift = np.abs(np.array(rest) - full)
        srcc = metrics.correlate(np.array(rest), full, ("srcc",))["srcc"]
        found.append(
            LeftOut(
                name,
                float(scores[i]),
                float(predicted),
                float(srcc),
                float(shift.mean()),
                float(shift.max()),
            )
        )
    return found


def _scores(
    matrix: np.ndarray, scores: Sequence[float] | np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    return np.array([found.score for found in AnchorScale(matrix, scores).solve(probabilities)])


def examine(judge: Judge, probabilities: np.ndarray, out: str) -> list[LeftOut]:
    """Leaves every anchor out once and writes the report into the folder `out`."""
    anchors = judge.anchors
    found = leave_one_out(anchors.names, anchors.scores, judge.scale.matrix, probabilities)
    os.makedirs(out, exist_ok=True)
    facts = {"videos": len(probabilities), "scale": anchors.scale, "arbitrary": anchors.arbitrary}
    path = os.path.join(out, NAME)
    write_json(f"{path}.json", {**facts, "anchors": [dataclasses.asdict(row) for row in found]})
    with written(f"{path}.html") as file:
        file.write(_page(found, len(probabilities)))
    return found


_COLUMNS = ("anchor", "known", "by the others", "SRCC", "mean shift", "largest shift")


def _cells(row: LeftOut) -> tuple[str, ...]:
    def shown(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

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
    rows = [_COLUMNS, *map(_cells, found)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([*lines, f"page: {os.path.join(out, NAME + '.html')}"])


def _page(found: Sequence[LeftOut], videos: int) -> str:
    shifts = [row for row in found if row.mean_shift is not None]
    numbers = [str(found.index(row) + 1) for row in shifts]
    plot = plots.bars(numbers, [row.mean_shift or 0.0 for row in shifts], 0, digits=2)
    note = f"mean absolute shift of {videos} videos' scores, by anchor from worst to best"
    body = parts.figure(plot, "Scores without one anchor", note) if shifts else ""
    rows = [dict(zip(_COLUMNS, _cells(row), strict=True)) for row in found]
    body += parts.text_table(rows, _COLUMNS, f"{NAME}.json")
    title = "Anchors left out"
    return document(title, f"<h1>{title}</h1>" + parts.section("anchors", title, body))
