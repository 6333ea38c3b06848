"""Tables of teachers' scores: import from CSV, Parquet and JSON lines, lookup by video."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging

from vqa_jax.benchmarks import text_table
from vqa_jax.benchmarks.arrow_tables import ScoresError, read_table
from vqa_jax.benchmarks.text_table import HUMAN_COLUMNS, VIDEO_COLUMNS, first_known
from vqa_jax.jobs import csv_cells

_TEACHER_COLUMNS = ("teacher", "model")
_NAMED_PLACES = 3  # rows that an error about several names


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of imported teachers.

    Attributes:
      videos: object [V] of str, names as written, unique and sorted.
      teachers: names, sorted.
      higher_is_better: direction of each teacher.
      scores: float64 [V, teachers], NaN where missing.
    """

    videos: np.ndarray
    teachers: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Cells:
    """Scores of one teacher, or of several, in one file: columns of equal length."""

    teacher: np.ndarray  # object [n] of str
    video: np.ndarray  # object [n] of str
    value: np.ndarray  # float64 [n]
    row: np.ndarray  # int [n], as a text editor counts lines
    file: str


def read_scores(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    lower_is_better: Collection[str] = (),
) -> ScoreTable:
    """Read scores of existing models; a teacher's scores may be spread over several files.

    The ending tells the format: .parquet or .pq, .jsonl or .ndjson, anything else is CSV in
    UTF-8 with a header. Wide form: a column that names the video (`text_table.VIDEO_COLUMNS`), and
    one column a teacher. Columns that hold something else by their names, such as mos, gt_score,
    std and id (`text_table.is_no_score`), and columns without any number, are not teachers. Long
    form: such a video column, a column teacher (or model), and a column score.

    Args:
      paths: one file or several.
      lower_is_better: teachers whose lower scores are the better ones.

    Returns:
      The scores as written. Empty, null and NaN cells are missing scores: logged and left out.

    Raises:
      ScoresError: an unreadable file, no video or teacher column, text or infinity in place of a
        number, a score listed twice (in one file or in two), or an unknown teacher in
        `lower_is_better`. Rows are counted without blank lines, a CSV's header being row 1.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    cells = [part for path in paths for part in _file_cells(str(path))]
    teacher, value = (
        np.concatenate([getattr(part, name) for part in cells]) for name in ("teacher", "value")
    )
    file = np.repeat(np.arange(len(cells)), [len(part.row) for part in cells])
    row = np.concatenate([part.row for part in cells])
    videos, video = _encode(np.concatenate([part.video for part in cells]))
    teachers, code = _encode(teacher)
    unknown = sorted(set(lower_is_better) - set(teachers))
    if unknown:
        raise ScoresError(
            f"lower_is_better names {unknown}, but the score files hold {list(teachers)}"
        )

    present = np.flatnonzero(np.isfinite(value))
    place = code[present] * len(videos) + video[present]
    order = np.argsort(place, kind="stable")
    again = np.flatnonzero(place[order][1:] == place[order][:-1]) + 1
    if len(again):
        named = []
        for k in again[:_NAMED_PLACES]:
            i, j = present[order[k - 1]], present[order[k]]
            verb = "conflicts with" if value[i] != value[j] else "repeats"
            named.append(
                f"{cells[file[j]].file} row {row[j]} ({teachers[code[j]]!r} on "
                f"{videos[video[j]]!r}: {value[j]:g}) {verb} {cells[file[i]].file} row {row[i]} "
                f"({value[i]:g})"
            )
        raise ScoresError(
            f"{len(again)} scores are listed twice, keep one row: " + "; ".join(named)
        )

    scores = np.full((len(videos), len(teachers)), np.nan)
    scores[video[present], code[present]] = value[present]
    for column, name in enumerate(teachers):
        missing = int(np.isnan(scores[:, column]).sum())
        if missing:
            logging.warning("%d scores of %s are missing in the files", missing, name)
    higher = tuple(name not in lower_is_better for name in teachers)
    return ScoreTable(videos, tuple(teachers), higher, scores)


def read_human_scores(path: str | os.PathLike[str]) -> dict[str, float]:
    """What people said, by video: a column such as `mos` of a file in wide form; {} without one.

    Raises:
      ScoresError: an unreadable file, text in place of a number, or a video with two scores.
    """
    path = str(path)
    table, first_row = read_table(path)
    video = first_known(table.column_names, VIDEO_COLUMNS)
    score = first_known(table.column_names, HUMAN_COLUMNS)
    if video is None or score is None:
        return {}
    value, text = _numbers(_column(path, table, score))
    _refuse_text(path, score, value, text, first_row)
    names = _names(_column(path, table, video), path, first_row, "video")
    rows: dict[str, int] = {}
    for k in np.flatnonzero(np.isfinite(value)).tolist():
        before = rows.setdefault(names[k], k)
        if value[before] != value[k]:
            raise ScoresError(
                f"{path}, row {k + first_row}: {names[k]!r} has the score {value[k]:g}, in row "
                f"{before + first_row} it had {value[before]:g}; keep one row"
            )
    return {name: float(value[k]) for name, k in rows.items()}


def read_paths(path: str | os.PathLike[str]) -> list[str]:
    """The column `path` of a table, as it is written there.

    Raises:
      ScoresError: an unreadable file, no such column, or a row without a path.
    """
    path = str(path)
    table, first_row = read_table(path)
    column = first_known(table.column_names, ("path",))
    if column is None:
        raise ScoresError(f"{path}: no column `path`; name the column of the files so")
    return _names(_column(path, table, column), path, first_row, "path").tolist()


def _column(path: str, table: pa.Table, name: str) -> pa.ChunkedArray:
    if text_table.plain(name) in text_table.repeated(table.column_names):
        raise ScoresError(f"{path}: two columns are called {name!r}: rename one")
    return table.column(name)


def _encode(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sorted unique values, position of each element in them)."""
    encoded = pc.dictionary_encode(pa.array(text, pa.string()))
    values = np.array(encoded.dictionary.to_pylist(), object)
    order = np.argsort(values)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return values[order], rank[encoded.indices.to_numpy()]


def _file_cells(path: str) -> list[_Cells]:
    table, first_row = read_table(path)
    video = first_known(table.column_names, VIDEO_COLUMNS)
    if video is None:
        raise ScoresError(f"{path}: no column names the video; add one called `video` or `path`")
    rows = np.arange(table.num_rows) + first_row
    names = _names(_column(path, table, video), path, first_row, "video")
    teacher = first_known(table.column_names, _TEACHER_COLUMNS)
    score = first_known(table.column_names, ("score",))
    cells = []
    if teacher is not None and score is not None:
        teachers = _names(_column(path, table, teacher), path, first_row, "teacher")
        value, text = _numbers(_column(path, table, score))
        _refuse_text(path, score, value, text, first_row)
        cells.append(_Cells(teachers, names, value, rows, path))
    else:
        for column, header in enumerate(table.column_names):
            name = csv_cells.bare(header.strip())
            if not name or header == video or text_table.is_no_score(name):
                continue
            value, text = _numbers(table.column(column))
            if not (np.isfinite(value) | np.isinf(value)).any():
                logging.warning("%s: column %r holds no number: not a teacher", path, name)
                continue
            _refuse_text(path, name, value, text, first_row)
            cells.append(_Cells(np.full(len(rows), name, object), names, value, rows, path))
    if not any(np.isfinite(part.value).any() for part in cells):
        raise ScoresError(f"{path}: holds no scores; add a column of numbers for each teacher")
    return cells


def _names(column: pa.ChunkedArray, path: str, first_row: int, what: str) -> np.ndarray:
    """Text of a column without outer blanks; every row must have some."""
    try:
        text = pc.fill_null(pc.utf8_trim_whitespace(column.cast(pa.string())), "")
        text = pc.replace_substring_regex(text, csv_cells.GUARDED, r"\1")  # as csv_cells.bare
    except pa.ArrowException as error:
        raise ScoresError(f"{path}: the {what} column is no text: {error}") from error
    names = text.to_numpy()
    empty = np.flatnonzero(pc.equal(text, "").to_numpy())
    if len(empty):
        raise ScoresError(f"{path}, row {empty[0] + first_row}: the {what} is not named")
    return names


def _numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, dict[int, str]]:
    """(float64 [n] with NaN for missing and for text, row -> what is no number)."""
    kind = column.type
    plain_kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    if any(is_kind(kind) for is_kind in plain_kinds):
        return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64), {}
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return np.full(len(column), np.nan), {0: f"a value of type {kind}"}
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, kind), text)
    try:
        return text.cast(pa.float64()).to_numpy().astype(np.float64), {}
    except pa.ArrowInvalid:  # find the culprits one by one
        values, strange = np.full(len(text), np.nan), {}
        for k, cell in enumerate(text.to_pylist()):
            try:
                values[k] = text_table.number(cell)
            except ValueError:
                strange[k] = cell
        return values, strange


def _refuse_text(
    path: str, name: str, value: np.ndarray, text: Mapping[int, str], first_row: int
) -> None:
    strange = {**text, **{int(k): f"{value[k]}" for k in np.flatnonzero(np.isinf(value))}}
    if strange:
        row = min(strange)
        raise ScoresError(
            f"{path}, row {row + first_row}, column {name!r}: {strange[row]!r} is not a score "
            f"({len(strange)} such cells); leave the cell empty if missing"
        )


def collect_scores(table: ScoreTable, ids: Sequence[str]) -> tuple[np.ndarray, dict[str, int]]:
    """Look videos up.

    Args:
      table: imported scores.
      ids: wanted videos. A video is found under its own name, else under its file name, else
        under its file name without extension, if that is unique among what the teacher scored.

    Returns:
      (scores float64 [videos, teachers] with NaN where missing, teacher -> number of `ids`
      without a score).
    """
    row_of = {name: k for k, name in enumerate(table.videos)}
    alias_code: dict[str, int] = {}
    known = np.array(
        [
            (alias_code.setdefault(alias, len(alias_code)), k)
            for k, name in enumerate(table.videos)
            for alias in dict.fromkeys(_aliases(name))
        ],
        np.int64,
    ).reshape(-1, 2)
    exact = np.array([row_of.get(video, -1) for video in ids], np.int64)
    aliases = np.array(
        [[alias_code.get(alias, -1) for alias in _aliases(video)] for video in ids], np.int64
    ).reshape(-1, 2)
    scores = np.full((len(ids), len(table.teachers)), np.nan)
    missing = {}
    for column, teacher in enumerate(table.teachers):
        value = table.scores[:, column]
        has = np.isfinite(value)
        mine = known[has[known[:, 1]]]
        times = np.bincount(mine[:, 0], minlength=len(alias_code))
        row_of_alias = np.full(len(alias_code) + 1, -1)  # the last one: an unknown alias
        row_of_alias[mine[:, 0]] = mine[:, 1]
        row_of_alias[:-1][times != 1] = -1
        base, stem = row_of_alias[aliases[:, 0]], row_of_alias[aliases[:, 1]]
        row = np.where((exact >= 0) & has[exact], exact, np.where(base >= 0, base, stem))
        scores[row >= 0, column] = value[row[row >= 0]]
        missing[teacher] = int((row < 0).sum())
        if missing[teacher]:
            logging.warning(
                "%s has no score for %d of %d videos", teacher, missing[teacher], len(ids)
            )
    return scores, missing


def _aliases(name: str) -> tuple[str, str]:
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return base, os.path.splitext(base)[0]
