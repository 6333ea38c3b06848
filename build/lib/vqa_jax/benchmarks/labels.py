"""Human scores of a test set, read in the forms in which they circulate.

Known forms, told apart by ending and content:
  CSV with a header (comma, semicolon or tab), the video's and the score's column found by name;
    a column `is_test` selects its true rows (LSVQ's table of training and test videos).
  CSV or text without a header: `name, score`. More columns are not guessed: they want a header.
  JSON: a list of objects; {"name": score}; parallel lists; any of them below "test".
  JSON lines; Parquet; and MATLAB files up to version 7 with a list of names and one of scores.
A table with a header, or a list of objects, may tell the ratings' deviation and number too, and in
a column `content` what a video shows: versions of one scene share it.
Every row has as many cells as the header; rules of delimiters and numbers: `text_table.py`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax.benchmarks import matlab, text_table
from vqa_jax.benchmarks.text_table import (
    CONTENT_COLUMNS,
    HUMAN_COLUMNS,
    MOS_COLUMNS,
    RATINGS_COLUMNS,
    STD_COLUMNS,
    VIDEO_COLUMNS,
    first_known,
    plain,
)
from vqa_jax.errors import VqaError
from vqa_jax.jobs import csv_cells

_MORE_COLUMNS = (STD_COLUMNS, RATINGS_COLUMNS, CONTENT_COLUMNS)
_Rows = list[tuple[Any, ...]]  # (place in the file, name, score[, std, number of ratings, content])


class LabelsError(VqaError):
    """Labels that cannot be read; the message names file, place and remedy."""


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """Scores of one test set as its file has them.

    Attributes:
      names: videos, unique, in the file's order.
      mos: float64 [N], finite.
      std: float64 [N], standard deviation of a video's ratings; NaN where the file does not tell.
      ratings: float64 [N], how many there were; NaN where the file does not tell.
      contents: what each video shows, as the file tells; () where it does not.
      unscored: names of rows without a score; they are left out.
      repeated: rows that say again what an earlier one says.
      human: people gave the scores, as the column's name tells (`mos` does, `score` does not).
    """

    names: tuple[str, ...]
    mos: np.ndarray
    std: np.ndarray
    ratings: np.ndarray
    contents: tuple[str, ...]
    unscored: tuple[str, ...]
    repeated: int
    human: bool


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Reads one file.

    Raises:
      LabelsError: a file that cannot be read or holds no labels in a known form, a row of more or
        fewer cells than the header, a score that is no number, or a video with two different ones.
    """
    path = os.fspath(path)
    ending = os.path.splitext(path)[1].lower()
    if ending in (".xlsx", ".xls", ".ods"):
        raise LabelsError(f"{path} is a spreadsheet: save the sheet with the scores as CSV")
    try:
        with open(path, "rb") as file:
            data = file.read(text_table.MAX_BYTES + 1)
    except OSError as error:
        raise LabelsError(f"{path}: {error.strerror or error}") from error
    if len(data) > text_table.MAX_BYTES:
        raise LabelsError(f"{path} is larger than any table of labels: is it another file?")
    if ending == ".mat":
        return _collect(path, *_matlab_rows(path, data))
    if ending in (".parquet", ".pq"):
        return _collect(path, *_parquet_rows(path))
    # A file name may be bytes that are no UTF-8, in the table as on the disk.
    text = data.decode("utf-8-sig", "surrogateescape")
    if not text.strip():
        raise LabelsError(f"{path} is empty")
    if ending in (".jsonl", ".ndjson"):
        return _collect(path, *_json_line_rows(path, text))
    if ending == ".json":
        return _collect(path, *_json_rows(path, _parse(path, text)))
    return _collect(path, *_csv_rows(path, text))


def _collect(path: str, rows: _Rows, score: Any) -> Labels:
    """Labels of rows whose scores are in the column `score`; "" where none is named."""
    found: dict[str, tuple[float, float, float]] = {}
    places: dict[str, str] = {}
    contents: dict[str, str] = {}
    unscored: dict[str, None] = {}
    repeated = 0
    for place, name, *cells in rows:
        name = _name(name)
        if not name:
            raise LabelsError(f"{path}, {place}: the video is not named")
        value, std, ratings = (_number(path, place, x) for x in (*cells, None, None)[:3])
        if math.isnan(value):
            unscored[name] = None
            continue
        if std < 0 or ratings < 1:
            raise LabelsError(f"{path}, {place}: std {std:g}, {ratings:g} ratings cannot be")
        before = found.setdefault(name, (value, std, ratings))
        if not np.array_equal(before, (value, std, ratings), equal_nan=True):
            kept, given = (
                "/".join(f"{x:g}" for x in numbers if not math.isnan(x))
                for numbers in (before, (value, std, ratings))
            )
            raise LabelsError(
                f"{path}, {place}: {name!r} has the score {given}, in {places[name]} it had "
                f"{kept}; keep one row a video"
            )
        content = _name(cells[3]) if len(cells) > 3 else ""
        if contents.setdefault(name, content) != content:
            message = f"{name!r} shows {content!r}, but {contents[name]!r} in {places[name]}"
            raise LabelsError(f"{path}, {place}: {message}")
        repeated += name in places
        places.setdefault(name, place)
    if not found:
        raise LabelsError(f"{path} holds no scores")
    left_out = tuple(name for name in unscored if name not in found)
    mos, std, ratings = np.array(list(found.values()), np.float64).T
    human = plain(score) in HUMAN_COLUMNS
    told = tuple(contents.values())
    if any(told) and not all(told):
        name = next(name for name, content in contents.items() if not content)
        raise LabelsError(f"{path}, {places[name]}: what {name!r} shows is not told, as of others")
    told = told if any(told) else ()
    return Labels(tuple(found), mos, std, ratings, told, left_out, repeated, human)


def _name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():  # numbers as names, by way of a float
        value = int(value)
    named = isinstance(value, str | int | float) and not isinstance(value, bool)
    return csv_cells.bare(str(value).strip()) if named else ""


def _number(path: str, place: str, value: Any) -> float:
    try:
        return text_table.number(value)
    except ValueError as error:
        message = f"{path}, {place}: {error}; a cell is left empty where there is no score"
        raise LabelsError(message) from error


def _pick(path: str, columns: Iterable[Any], known: Sequence[str], what: str) -> Any:
    """The column that comes first among the known names."""
    columns = list(columns)
    found = first_known(columns, known)
    if found is None:
        raise LabelsError(
            f"{path}: none of the columns {', '.join(map(str, columns[:20]))} is known to hold the "
            f"{what}; rename it to {known[0]!r}"
        )
    if plain(found) in text_table.repeated(columns):
        raise LabelsError(f"{path}: two columns are called {found!r}; which holds the {what}?")
    return found


def _csv_rows(path: str, text: str) -> tuple[_Rows, str]:
    delimiter = text_table.delimiter(text.lstrip().split("\n", 1)[0])
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [
            (f"row {lines.line_num}", [cell.strip() for cell in row]) for row in lines if any(row)
        ]
    except csv.Error as error:
        raise LabelsError(f"{path} is no table of text: {error}") from error
    header = rows[0][1]
    if len(header) < 2:
        raise LabelsError(f"{path}: one column only; labels are `video,mos` or alike")
    headed = bool({*map(plain, header)} & {*VIDEO_COLUMNS, *MOS_COLUMNS})
    for place, row in rows:
        if len(row) != len(header):
            raise LabelsError(
                f"{path}, {place}: {len(row)} cells, the {'header' if headed else 'first row'} has "
                f"{len(header)}; a cell with the delimiter {delimiter!r} inside is quoted"
            )
    if not headed:
        _refuse_guessing(path, header)
        return [(place, *row) for place, row in rows], ""
    score = _pick(path, header, MOS_COLUMNS, "score")
    wanted = [_pick(path, header, VIDEO_COLUMNS, "video's name"), score]
    wanted += [first_known(header, known) for known in _MORE_COLUMNS]
    columns = [None if name is None else header.index(name) for name in wanted]
    test = next((k for k, cell in enumerate(header) if plain(cell) == "is_test"), None)
    return [
        (place, *(None if k is None else row[k] for k in columns))
        for place, row in rows[1:]
        if test is None or _is_true(path, place, row[test])
    ], score


def _refuse_guessing(path: str, first: Sequence[str]) -> None:
    """A first row that is no known header is a video's only if it is a name and a number."""
    try:
        numbers = [text_table.number(cell) for cell in first[1:]]
    except ValueError as error:
        raise LabelsError(
            f"{path}: the first row is no known header, and its cells are not `name, score` "
            f"either ({error}); add a header `video,mos`"
        ) from error
    if len(numbers) > 1:
        raise LabelsError(
            f"{path}: {len(first)} columns without a header: which of them is the score? Add a "
            "first row that names them, such as `video,std,num_ratings,mos`"
        )


def _is_true(path: str, place: str, cell: str) -> bool:
    if cell.lower() not in ("true", "1", "1.0", "yes", "false", "0", "0.0", "no"):
        raise LabelsError(f"{path}, {place}: is_test is {cell!r}, neither true nor false")
    return cell.lower() in ("true", "1", "1.0", "yes")


def _parse(path: str, text: str) -> Any:
    def pairs(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(entries)
        if len(fields) < len(entries):
            twice = next(key for k, (key, _) in enumerate(entries) if key in dict(entries[:k]))
            raise LabelsError(f"{path}: {twice!r} stands there twice; keep one")
        return fields

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:  # also numbers of too many digits
        raise LabelsError(f"{path} is not valid JSON: {error}") from error


def _json_line_rows(path: str, text: str) -> tuple[_Rows, Any]:
    lines = [(k, line) for k, line in enumerate(text.splitlines(), 1) if line.strip()]
    return _json_rows(path, [_parse(f"{path}, line {k}", line) for k, line in lines])


def _json_rows(path: str, value: Any) -> tuple[_Rows, Any]:
    if isinstance(value, Mapping):
        names = {plain(key): key for key in value}
        below = [names[k] for k in ("test", "data", "annotations", "videos") if k in names]
        if below and isinstance(value[below[0]], list | Mapping):
            return _json_rows(path, value[below[0]])
        if any(isinstance(v, list) for v in value.values()):  # parallel lists
            video = _pick(path, value, VIDEO_COLUMNS, "video's name")
            score = _pick(path, value, MOS_COLUMNS, "score")
            return _paired(path, value[video], value[score]), score
        if all(isinstance(v, Mapping) for v in value.values()):
            value = [{"video": name, **entry} for name, entry in value.items()]
        else:
            return [(f"entry {name!r}", name, score) for name, score in value.items()], ""
    if not isinstance(value, list) or not value or not all(isinstance(v, Mapping) for v in value):
        raise LabelsError(
            f"{path} holds no labels in a known form, such as "
            '[{"video": "a.mp4", "mos": 3.1}, ...] or {"a.mp4": 3.1, ...}'
        )
    video = _pick(path, value[0], VIDEO_COLUMNS, "video's name")
    score = _pick(path, value[0], MOS_COLUMNS, "score")
    more = [first_known(value[0], known) for known in _MORE_COLUMNS]
    columns = (video, score, *more)
    return [(f"entry {k}", *map(v.get, columns)) for k, v in enumerate(value, 1)], score


def _paired(path: str, names: Any, scores: Any) -> _Rows:
    if not isinstance(scores, list) or not isinstance(names, list) or len(names) != len(scores):
        raise LabelsError(f"{path}: names and scores are not two lists of equal length")
    return [(f"entry {k}", *row) for k, row in enumerate(zip(names, scores, strict=True), 1)]


def _parquet_rows(path: str) -> tuple[_Rows, Any]:
    from vqa_jax.benchmarks import arrow_tables  # slow to import, and seldom needed

    try:
        return _json_rows(path, arrow_tables.read_table(path)[0].to_pylist())
    except arrow_tables.ScoresError as error:
        raise LabelsError(str(error)) from error


def _matlab_rows(path: str, data: bytes) -> tuple[_Rows, Any]:
    try:
        content = matlab.read(data)
        video = _pick(path, content, VIDEO_COLUMNS, "videos' names")
        score = _pick(path, content, MOS_COLUMNS, "scores")
        return _paired(path, matlab.texts(content[video]), matlab.numbers(content[score])), score
    except matlab.MatlabError as error:
        raise LabelsError(
            f"{path} cannot be read as a MATLAB file of version 7 or older ({error}): save it with "
            "`-v7`, or its two lists as CSV"
        ) from error


def label_files(specs: Sequence[str], known: Sequence[str] = ()) -> dict[str, str]:
    """Files by set, from what the command line gives.

    Args:
      specs: each `NAME=FILE`, a file called after its set (KoNViD-1k.csv), or a folder of such.
      known: sets to take from folders, as spelled there; () takes every table.

    Returns:
      Name as given, or the file's without its ending -> path.

    Raises:
      LabelsError: a path that does not exist, a folder without tables, or a set named twice.
    """
    files: dict[str, str] = {}
    for spec in specs:
        name, equals, path = spec.partition("=")
        if equals and not os.path.exists(spec):
            pairs = [(name, path)]
        elif os.path.isdir(spec):
            paths = [os.path.join(spec, f) for f in sorted(os.listdir(spec))]
            pairs = [(_stem(p), p) for p in paths if p.lower().endswith(_TABLES)]
            pairs = [p for p in pairs if not known or plain(p[0]) in map(plain, known)]
            if not pairs:
                raise LabelsError(f"{spec}: no tables ({', '.join(_TABLES)}) named after sets")
        else:
            pairs = [(_stem(spec), spec)]
        for key, path in pairs:
            if not os.path.isfile(path):
                raise LabelsError(f"{path} does not exist")
            if key in files:
                raise LabelsError(f"two files for {key}: {files[key]} and {path}")
            files[key] = path
    return files


_TABLES = (".csv", ".txt", ".json", ".jsonl", ".mat")


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
