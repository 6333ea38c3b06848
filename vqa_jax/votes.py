"""The teachers' votes on a corpus's videos: built-in ones from the video table, others imported."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax import teachers


def united_votes(
    rows: Sequence[Mapping[str, Any]],
    imported: Mapping[str, Mapping[str, float]],
    method: str,
) -> tuple[np.ndarray, list[str]]:
    """Scores of all teachers on one scale.

    Args:
      rows: rows of the video table (`scores`: built-in teacher -> score), at least one.
      imported: teacher -> video -> score, higher is better. A video is named by its id, and an
        undistorted one also by its path or file name.
      method: "rank" or "logistic", see `score_tables.unite`.

    Returns:
      (float64 [videos, teachers] in 0..100, higher is better, NaN where missing; names).

    Raises:
      teachers.ScoresError: an imported teacher scores none of the videos, or has a built-in name.
    """
    built_in = sorted(rows[0]["scores"])
    columns = [[row["scores"][name] for row in rows] for name in built_in]
    higher = [teachers.get(name).higher_is_better for name in built_in]
    for name, table in sorted(imported.items()):
        if name in built_in:
            raise teachers.ScoresError(f"teacher {name!r} is built in: rename the imported one")
        columns.append(_imported_column(name, table, rows))
        higher.append(True)
    scores = np.array(columns, np.float64).reshape(len(columns), len(rows)).T
    names = [*built_in, *sorted(imported)]
    return teachers.unite(scores, method=method, higher_is_better=higher), names


def _imported_column(
    name: str, table: Mapping[str, float], rows: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    by_id = {os.path.splitext(os.path.basename(video))[0] for video in table} | table.keys()
    keys = [
        row["path"] if row["level"] == 0 and row["video_id"] not in by_id else row["video_id"]
        for row in rows
    ]
    scores, _, _ = teachers.collect_scores({name: table}, keys)  # warns of what is missing
    if np.isnan(scores).all():
        raise teachers.ScoresError(
            f"teacher {name!r} scores none of the {len(rows)} videos: name each by its path below"
            " the input folder, its file name, or its video_id in videos.json"
        )
    return scores[:, 0]
