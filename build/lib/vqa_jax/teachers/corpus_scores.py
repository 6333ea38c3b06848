"""The teachers' votes on a corpus's videos: built-in ones from the video table, others imported."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax.benchmarks.score_tables import ScoresError, ScoreTable, collect_scores
from vqa_jax.corpus.video_table import VideoTable, column_of
from vqa_jax.teachers import measures
from vqa_jax.teachers.scales import Scale, unite


@dataclasses.dataclass(frozen=True)
class Votes:
    """Scores of all teachers on one scale.

    Attributes:
      scores: float64 [videos, teachers] in 0..100, higher is better, NaN where missing.
      names: of the teachers, built-in ones first.
      scales: how each teacher's scores were mapped.
    """

    scores: np.ndarray
    names: tuple[str, ...]
    scales: tuple[Scale, ...]

    def facts(self) -> dict[str, Any]:
        """What a manifest tells of the teachers: constants, scored and missing videos of each."""
        return {
            name: {**scale.as_json(), "missing": len(self.scores) - scale.videos}
            for name, scale in zip(self.names, self.scales, strict=True)
        }


def united_votes(
    rows: Sequence[Mapping[str, Any]], imported: ScoreTable | None, method: str
) -> Votes:
    """Scores of all teachers on one scale.

    Args:
      rows: rows of the video table (`scores`: built-in teacher -> score), at least one.
      imported: further teachers. A video is named by its id, and an undistorted one also by its
        path or file name.
      method: "rank" or "logistic", see `scales.unite`.

    Raises:
      ScoresError: an imported teacher scores none of the videos, or has a built-in name.
    """
    names, scores = _built_in(rows)
    higher = [measures.get(name).higher_is_better for name in names]
    if imported is not None:
        taken = sorted(set(names) & set(imported.teachers))
        if taken:
            raise ScoresError(f"teacher {taken[0]!r} is built in: rename the imported one")
        found = _imported(imported, rows)
        names += imported.teachers
        higher += imported.higher_is_better
        scores = np.concatenate([scores, found], axis=1)
    united, scales = unite(scores, method, higher)
    return Votes(united, tuple(names), tuple(scales))


def _built_in(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], np.ndarray]:
    if isinstance(rows, VideoTable):
        columns = rows.scores()
        names = sorted(columns)
        empty = np.zeros((len(rows), 0))  # a corpus without built-in teachers
        return names, np.column_stack([empty, *(columns[name] for name in names)])
    names = sorted(rows[0]["scores"])
    return names, np.array([[row["scores"][name] for name in names] for row in rows], np.float64)


def _imported(table: ScoreTable, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    by_id = {os.path.splitext(os.path.basename(video))[0] for video in table.videos}
    by_id.update(table.videos)
    ids, paths = column_of(rows, "video_id"), column_of(rows, "path")
    undistorted = column_of(rows, "level") == 0
    keys = [
        path if whole and key not in by_id else key
        for key, path, whole in zip(ids, paths, undistorted.tolist(), strict=True)
    ]
    scores, missing = collect_scores(table, keys)  # warns of what is missing
    for name, count in missing.items():
        if count == len(rows):
            raise ScoresError(
                f"teacher {name!r} scores none of the {len(rows)} videos: name each by its path"
                " below the input folder, its file name, or its video_id in videos.parquet"
            )
    return scores
