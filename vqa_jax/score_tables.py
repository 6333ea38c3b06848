"""Tables of teachers' scores: import from CSV, lookup by video, one common scale (METHOD 3.1)."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging
from scipy import stats

from vqa_jax import metrics

_VIDEO_COLUMNS = ("video", "path", "file", "filename", "name", "video_id")
_TEACHER_COLUMNS = ("teacher", "model")
_NOT_TEACHERS = ("mos", "std", "error")


class ScoresError(Exception):
    """A score table cannot be used; the message names file, place and remedy."""


def read_scores_csv(path: str | os.PathLike[str]) -> dict[str, dict[str, float]]:
    """Read scores of existing models from a CSV file.

    Wide form: a column video, path, file, filename, name or video_id, and one column a teacher.
    Columns mos, std and error, and columns without any number, are not teachers. Long form: such
    a video column, a column teacher (or model), and a column score.

    Returns:
      teacher -> video -> score as written (`unite` is told the direction). Empty and NaN cells
      are missing scores: left out and logged.

    Raises:
      ScoresError: no such file, no video or teacher column, text in place of a number, or a
        video listed twice for a teacher.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoresError(f"{path}: cannot be read as CSV in UTF-8: {error}") from error
    lower = {name.lower(): name for name in reversed(header)}
    video = next((lower[c] for c in _VIDEO_COLUMNS if c in lower), None)
    if video is None:
        raise ScoresError(f"{path}: no column names the video; add one called `video` or `path`")
    teacher = next((lower[c] for c in _TEACHER_COLUMNS if c in lower), None)
    if teacher is not None and "score" in lower:
        cells = [(k, row[teacher], row[video], row[lower["score"]]) for k, row in enumerate(rows)]
    else:
        columns = [
            c
            for c in header
            if c and c != video and c.lower() not in _NOT_TEACHERS and _has_number(rows, c)
        ]
        cells = [(k, c, row[video], row[c]) for c in columns for k, row in enumerate(rows)]
    return _tabulate(path, cells)


def _has_number(rows: Sequence[Mapping[str, str]], column: str) -> bool:
    return any(_number(row[column]) is not None for row in rows)


def _number(text: str | None) -> float | None:
    """The number in a cell (NaN for an empty one), None for other text."""
    text = (text or "").strip()
    try:
        return float(text or "nan")
    except ValueError:
        return None


def _tabulate(
    path: str | os.PathLike[str], cells: Sequence[tuple[int, str, str, str]]
) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    missing: dict[str, int] = {}
    for row, teacher, video, text in cells:
        teacher, video = (teacher or "").strip(), (video or "").strip()
        place = f"{path}, row {row + 2}, teacher {teacher!r}"
        value = _number(text)
        if not video or not teacher:
            raise ScoresError(f"{place}: the video or the teacher is not named")
        if value is None or math.isinf(value):
            raise ScoresError(f"{place}: {text!r} is not a score; leave the cell empty if missing")
        scores = table.setdefault(teacher, {})
        if math.isnan(value):
            missing[teacher] = missing.get(teacher, 0) + 1
        elif video in scores:
            raise ScoresError(f"{place}: {video!r} is listed twice; keep one row")
        else:
            scores[video] = value
    if not any(table.values()):
        raise ScoresError(f"{path}: holds no scores; add a column of numbers for each teacher")
    for teacher, count in sorted(missing.items()):
        logging.warning("%s: %d scores of %s are missing", path, count, teacher)
    return table


def collect_scores(
    tables: Mapping[str, Mapping[str, float]], ids: Sequence[str]
) -> tuple[np.ndarray, list[str], dict[str, list[str]]]:
    """Arrange score tables as an array.

    Args:
      tables: teacher -> video -> score.
      ids: wanted videos. A video is found under its own name, else under its file name, else
        under its file name without extension, if that is unique in the table.

    Returns:
      (scores float64 [videos, teachers] with NaN where missing, teachers in sorted order,
      teacher -> videos without a score).
    """
    teachers = sorted(tables)
    scores = np.full((len(ids), len(teachers)), np.nan)
    missing: dict[str, list[str]] = {}
    for column, teacher in enumerate(teachers):
        table = tables[teacher]
        by_alias: dict[str, set[str]] = {}
        for name in table:
            for alias in _aliases(name):
                by_alias.setdefault(alias, set()).add(name)
        for row, video in enumerate(ids):
            name = video if video in table else None
            for alias in () if name else _aliases(video):
                found = by_alias.get(alias, set())
                if len(found) == 1:
                    name = next(iter(found))
                    break
            if name is None:
                missing.setdefault(teacher, []).append(video)
            else:
                scores[row, column] = table[name]
    for teacher, videos in missing.items():
        logging.warning("%s has no score for %d of %d videos", teacher, len(videos), len(ids))
    return scores, teachers, missing


def _aliases(name: str) -> tuple[str, str]:
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return base, os.path.splitext(base)[0]


def unite(
    scores: np.ndarray, method: str = "rank", higher_is_better: Sequence[bool] | None = None
) -> np.ndarray:
    """Bring teachers to one scale, 0..100, higher is better.

    Args:
      scores: [videos, teachers], NaN where missing.
      method: "rank": percentile rank inside the corpus (ties share their mean rank). "logistic":
        a monotone 4-parameter logistic from each teacher to the mean percentile rank over
        teachers, which keeps the teacher's own spacing; where that fit is not increasing (a
        teacher that disagrees with the rest) its ranks are used.
      higher_is_better: direction of each teacher [teachers]; None = all higher.

    Returns:
      float64 [videos, teachers], NaN where missing.
    """
    scores = np.array(scores, np.float64)
    if scores.ndim != 2:
        raise ValueError(f"scores are [videos, teachers], got {scores.shape}")
    if method not in ("rank", "logistic"):
        raise ValueError(f"method must be rank or logistic, got {method!r}")
    if higher_is_better is not None:
        if len(higher_is_better) != scores.shape[1]:
            raise ValueError(f"{len(higher_is_better)} directions for {scores.shape[1]} teachers")
        scores = scores * np.where(np.asarray(higher_is_better, bool), 1.0, -1.0)
    present = np.isfinite(scores)
    ranks = np.full(scores.shape, np.nan)
    for column in range(scores.shape[1]):
        rows = present[:, column]
        if rows.any():
            ranks[rows, column] = 100 * (stats.rankdata(scores[rows, column]) - 0.5) / rows.sum()
    if method == "rank":
        return ranks
    united = ranks.copy()
    counts = np.maximum(present.sum(axis=1), 1)
    consensus = np.where(present, ranks, 0).sum(axis=1) / counts
    for column in range(scores.shape[1]):
        rows = present[:, column]
        x = scores[rows, column]
        if len(x) < 4 or np.ptp(x) == 0:
            continue
        parameters = metrics.fit_logistic(x, consensus[rows])
        if parameters[0] > parameters[1]:
            united[rows, column] = np.clip(metrics.logistic(x, parameters), 0, 100)
        else:
            logging.warning("teacher %d disagrees with the others; its ranks are used", column)
    return united
