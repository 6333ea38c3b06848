"""Human scores of a test set, read in the forms in which they circulate.

Known forms, told apart by ending and content:
  CSV with a header (comma, semicolon or tab), the video's and the score's column found by name;
    a column `is_test` selects its true rows (LSVQ's table of training and test videos).
  CSV or text without a header: `name, score[, anything]` or `name, duration, rate, score`.
  JSON: a list of objects; {"name": score}; parallel lists; any of them below "test".
  JSON lines; and MATLAB files up to version 7 with a list of names and one of scores.
A CSV with a header, or a list of objects, may tell the ratings' standard deviation and number too.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from vqa_jax.errors import VqaError

VIDEO_COLUMNS = (
    "video", "video_name", "name", "file_name", "filename", "file", "path", "video_path",
    "img_path", "image", "image_path", "vid", "video_id", "flickr_id", "video_list", "dis",
)  # fmt: skip
MOS_COLUMNS = ("mos", "mos_full", "gt_score", "gt_mos", "mean_opinion_score", "score", "label")
STD_COLUMNS = ("mos_std", "std", "mos_sd", "sd", "std_mos", "stdev", "std_dev", "sos")
RATINGS_COLUMNS = ("num_ratings", "ratings", "n_ratings", "num_votes", "votes", "vote_num")
_MAX_HEADERLESS = 4  # fields of a table without a header


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
      unscored: names of rows without a score; they are left out.
      repeated: rows that say again what an earlier one says.
    """

    names: tuple[str, ...]
    mos: np.ndarray
    std: np.ndarray
    ratings: np.ndarray
    unscored: tuple[str, ...]
    repeated: int


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Reads one file.

    Raises:
      LabelsError: a file that cannot be read or holds no labels in a known form, a score that is
        no number, or a video with two different scores.
    """
    path = os.fspath(path)
    ending = os.path.splitext(path)[1].lower()
    if ending in (".xlsx", ".xls", ".ods"):
        raise LabelsError(f"{path} is a spreadsheet: save the sheet with the scores as CSV")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise LabelsError(f"{path}: {error.strerror or error}") from error
    if ending == ".mat":
        return _collect(path, _matlab_rows(path, data))
    # A file name may be bytes that are no UTF-8, in the table as on the disk.
    text = data.decode("utf-8-sig", "surrogateescape")
    if not text.strip():
        raise LabelsError(f"{path} is empty")
    if ending in (".jsonl", ".ndjson"):
        return _collect(path, _json_line_rows(path, text))
    if ending == ".json":
        return _collect(path, _json_rows(path, _parse(path, text)))
    return _collect(path, _csv_rows(path, text))


def _collect(path: str, rows: Iterable[tuple[Any, ...]]) -> Labels:
    """Labels of (place in the file, name, score[, std, number of ratings]) rows."""
    mos: dict[str, float] = {}
    spread: list[tuple[float, float]] = []
    unscored: dict[str, None] = {}
    repeated = 0
    for row in rows:
        place, name, score, *more = row
        name = _name(name)
        if not name:
            raise LabelsError(f"{path}, {place}: the video is not named")
        value = _score(path, place, score)
        if math.isnan(value):
            unscored[name] = None
        elif name not in mos:
            mos[name] = value
            std, ratings = (_score(path, place, x) for x in more or (None, None))
            if std < 0 or ratings < 1:
                raise LabelsError(f"{path}, {place}: std {std:g}, {ratings:g} ratings cannot be")
            spread.append((std, ratings))
        elif mos[name] == value:
            repeated += 1
        else:
            raise LabelsError(
                f"{path}, {place}: {name!r} has the score {value:g}, before it had {mos[name]:g}; "
                "keep one row a video"
            )
    if not mos:
        raise LabelsError(f"{path} holds no scores")
    left_out = tuple(name for name in unscored if name not in mos)
    std, ratings = np.array(spread, np.float64).T
    return Labels(tuple(mos), np.array(list(mos.values())), std, ratings, left_out, repeated)


def _name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():  # numbers as names, by way of a float
        value = int(value)
    return "" if value is None else str(value).strip()


def _score(path: str, place: str, value: Any) -> float:
    text = "" if value is None else str(value).strip()
    if text.lower() in ("", "nan", "na", "none", "null"):
        return float("nan")
    try:
        number = float(text)
    except ValueError:
        number = float("inf")
    if isinstance(value, bool) or math.isinf(number):
        raise LabelsError(f"{path}, {place}: {text!r} is not a score; leave it empty if missing")
    return number


def _plain(column: Any) -> str:
    return re.sub(r"[^a-z0-9]+", "_", str(column).strip().lower()).strip("_")


def _pick(path: str, columns: Iterable[Any], known: Sequence[str], what: str) -> Any:
    """The column that comes first among the known names."""
    columns = list(columns)
    found = _optional(columns, known)
    if found is None:
        raise LabelsError(
            f"{path}: none of the columns {', '.join(map(str, columns[:20]))} is known to hold the "
            f"{what}; rename it to {known[0]!r}"
        )
    return found


def _optional(columns: Iterable[Any], known: Sequence[str]) -> Any:
    """The column that comes first among the known names, None if there is none."""
    plain = {_plain(column): column for column in reversed(list(columns))}
    return next((plain[name] for name in known if name in plain), None)


def _csv_rows(path: str, text: str) -> Iterable[tuple[Any, ...]]:
    first = text.lstrip().split("\n", 1)[0]
    delimiter = next((d for d in "\t;," if d in first), ",")
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [
            (f"row {lines.line_num}", [cell.strip() for cell in row]) for row in lines if any(row)
        ]
    except csv.Error as error:
        raise LabelsError(f"{path} is no table of text: {error}") from error
    header = rows[0][1]
    if len(header) < 2:
        raise LabelsError(f"{path}: one column only; labels are `video,mos` or alike")
    if not {_plain(cell) for cell in header} & {*VIDEO_COLUMNS, *MOS_COLUMNS}:
        return _headerless_rows(path, rows)
    video = header.index(_pick(path, header, VIDEO_COLUMNS, "video's name"))
    score = header.index(_pick(path, header, MOS_COLUMNS, "score"))
    test = next((k for k, cell in enumerate(header) if _plain(cell) == "is_test"), None)
    more = [_optional(header, known) for known in (STD_COLUMNS, RATINGS_COLUMNS)]
    places = [None if name is None else header.index(name) for name in more]
    needed = max(video, score, *(k for k in (test, *places) if k is not None))
    found = []
    for place, row in rows[1:]:
        if len(row) <= needed:
            raise LabelsError(f"{path}, {place}: {len(row)} cells, the header has {len(header)}")
        if test is None or row[test].lower() in ("true", "1", "1.0", "yes"):
            spread = [None if k is None else row[k] for k in places]
            found.append((place, row[video], row[score], *spread))
    return found


def _headerless_rows(
    path: str, rows: Sequence[tuple[str, Sequence[str]]]
) -> Iterable[tuple[str, Any, Any]]:
    width = len(rows[0][1])
    score = width - 1 if width == _MAX_HEADERLESS else 1
    if width > _MAX_HEADERLESS or not _is_number(rows[0][1][score]):
        raise LabelsError(
            f"{path}: the first row is no known header, and its cells are not `name, score` "
            "either; add a header `video,mos`"
        )
    found = []
    for place, row in rows:
        if len(row) != width:
            raise LabelsError(f"{path}, {place}: {len(row)} cells, the first row has {width}")
        found.append((place, row[0], row[score]))
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise LabelsError(f"{path} is not valid JSON: {error}") from error


def _json_line_rows(path: str, text: str) -> Iterable[tuple[Any, ...]]:
    lines = [line for line in text.splitlines() if line.strip()]
    return _json_rows(path, [_parse(f"{path}, line {k}", line) for k, line in enumerate(lines, 1)])


def _json_rows(path: str, value: Any) -> Iterable[tuple[Any, ...]]:
    if isinstance(value, Mapping):
        plain = {_plain(key): key for key in value}
        below = [plain[k] for k in ("test", "data", "annotations", "videos") if k in plain]
        if below and isinstance(value[below[0]], list | Mapping):
            return _json_rows(path, value[below[0]])
        if any(isinstance(v, list) for v in value.values()):  # parallel lists
            video = _pick(path, value, VIDEO_COLUMNS, "video's name")
            score = _pick(path, value, MOS_COLUMNS, "score")
            return _paired(path, value[video], value[score])
        if all(isinstance(v, Mapping) for v in value.values()):
            value = [{"video": name, **entry} for name, entry in value.items()]
        else:
            return [(f"entry {name!r}", name, score) for name, score in value.items()]
    if not isinstance(value, list) or not value or not all(isinstance(v, Mapping) for v in value):
        raise LabelsError(
            f"{path} holds no labels in a known form, such as "
            '[{"video": "a.mp4", "mos": 3.1}, ...] or {"a.mp4": 3.1, ...}'
        )
    video = _pick(path, value[0], VIDEO_COLUMNS, "video's name")
    score = _pick(path, value[0], MOS_COLUMNS, "score")
    more = [_optional(value[0], known) for known in (STD_COLUMNS, RATINGS_COLUMNS)]
    columns = (video, score, *more)
    return [(f"entry {k}", *map(v.get, columns)) for k, v in enumerate(value, 1)]


def _paired(path: str, names: Any, scores: Any) -> Iterable[tuple[str, Any, Any]]:
    if not isinstance(scores, list) or not isinstance(names, list) or len(names) != len(scores):
        raise LabelsError(f"{path}: names and scores are not two lists of equal length")
    return [(f"entry {k}", *row) for k, row in enumerate(zip(names, scores, strict=True), 1)]


def _matlab_rows(path: str, data: bytes) -> Iterable[tuple[str, Any, Any]]:
    try:
        content = scipy.io.loadmat(io.BytesIO(data))
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError) as error:
        raise LabelsError(
            f"{path} cannot be read as a MATLAB file of version 7 or older ({error}): save it with "
            "`-v7`, or its two lists as CSV"
        ) from error
    content = {k: v for k, v in content.items() if not k.startswith("__")}
    video = _pick(path, content, VIDEO_COLUMNS, "videos' names")
    score = _pick(path, content, MOS_COLUMNS, "scores")
    # A cell array is an array of one-element arrays.
    names = [str(np.asarray(cell).ravel()[0]) for cell in content[video].ravel()]
    return _paired(path, names, [float(v) for v in content[score].ravel()])


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
            pairs = [p for p in pairs if not known or _plain(p[0]) in map(_plain, known)]
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
