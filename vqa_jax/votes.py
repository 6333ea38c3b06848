"""The teachers' votes on a corpus's videos: built-in ones from the video table, others imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from vqa_jax import teachers


def united_votes(
    rows: Sequence[Mapping[str, Any]],
    imported: Mapping[str, Mapping[str, float]],
    method: str,
) -> tuple[np.ndarray, list[str]]:
    """Scores of all teachers on one scale.

    Args:
      rows: rows of the video table (`scores`: built-in teacher -> score).
      imported: teacher -> video -> score, higher is better. A video is named by its id, and an
        undistorted one also by its path or file name.
      method: "rank" or "logistic", see `score_tables.unite`.

    Returns:
      (float64 [videos, teachers] in 0..100, higher is better, NaN where missing; names).
    """
    built_in = sorted(rows[0]["scores"])
    columns = np.array([[row["scores"][name] for name in built_in] for row in rows], np.float64)
    higher = [teachers.get(name).higher_is_better for name in built_in]
    names = list(built_in)
    if imported:
        by_id, others, _ = teachers.collect_scores(imported, [r["video_id"] for r in rows])
        by_path, _, _ = teachers.collect_scores(imported, [r["path"] for r in rows])
        undistorted = np.array([r["level"] == 0 for r in rows])[:, None]
        votes = np.where(np.isnan(by_id) & undistorted, by_path, by_id)
        for name, missing in zip(others, np.isnan(votes).sum(axis=0), strict=True):
            if missing:
                logging.warning(
                    "teacher %s: no score for %d of %d videos", name, missing, len(rows)
                )
        columns = np.concatenate([columns, votes], axis=1)
        names += others
        higher += [True] * len(others)
    return teachers.unite(columns, method=method, higher_is_better=higher), names
