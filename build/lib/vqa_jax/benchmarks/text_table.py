"""What tables of people's and models' scores have in common: names of columns, cells, numbers.

The rules, so that nothing is guessed:
  The delimiter is that of tab, semicolon and comma which shows a known column's name in the first
    row; without a known name, the first of the three that is in the row outside of quotes.
  A number is written with digits, a point and an exponent; 3,9 and 3_5 are none, nor is infinity.
  A cell that says nothing, nan, na, none or null is a missing number.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from vqa_jax.jobs.csv_cells import NUMBER

TABLES = (".csv", ".jsonl", ".parquet")  # how the names of tables of scores and paths end
VIDEO_COLUMNS = (
    "video", "path", "video_name", "name", "file_name", "filename", "file", "video_path",
    "img_path", "image", "image_path", "vid", "video_id", "flickr_id", "video_list", "dis",
)  # fmt: skip
HUMAN_COLUMNS = ("mos", "mos_full", "gt_score", "gt_mos", "mean_opinion_score")
MOS_COLUMNS = (*HUMAN_COLUMNS, "score", "label")
STD_COLUMNS = ("mos_std", "std", "mos_sd", "sd", "std_mos", "stdev", "std_dev", "sos")
RATINGS_COLUMNS = ("num_ratings", "ratings", "n_ratings", "num_votes", "votes", "vote_num")
CONTENT_COLUMNS = ("content", "content_id", "source", "source_id", "scene", "reference", "ref")
_BOOKKEEPING = ("id", "index", "row", "split", "fold", "is_test", "error", "notes")

MAX_BYTES = 1 << 28  # of a file of labels or scores; those of a million videos take a quarter
_MISSING = frozenset(("", "nan", "na", "none", "null"))


def plain(column: Any) -> str:
    """A column's name in small letters, anything but letters and digits as `_`."""
    return re.sub(r"[^a-z0-9]+", "_", str(column).strip().lower()).strip("_")


def number(value: Any) -> float:
    """The number that a cell or a JSON value holds; NaN for a missing one.

    Raises:
      ValueError: it is none, or no finite one.
    """
    if isinstance(value, bool | list | tuple | dict):
        raise ValueError(f"{value!r:.40} is not a number")
    text = "" if value is None else str(value).strip()
    if text.lower() in _MISSING:
        return math.nan
    if not NUMBER.fullmatch(text) or math.isinf(found := float(text)):
        hint = ": write decimals with a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        raise ValueError(f"{text[:40]!r} is not a number{hint}")
    return found


def is_no_score(column: str) -> bool:
    """Whether a column holds something else than a model's scores, by its name.

    What names the video or its content, what people said, deviations and numbers of ratings, and a
    table's own bookkeeping: `id` and names that end in it, row numbers, splits, errors.
    """
    name = plain(column)
    others = (*VIDEO_COLUMNS, *HUMAN_COLUMNS, *STD_COLUMNS, *RATINGS_COLUMNS)
    others += (*CONTENT_COLUMNS, *_BOOKKEEPING)
    return name in others or name.endswith("_id") or name.startswith(("unnamed", "index_level"))


def delimiter(first_row: str) -> str:
    """The character between the cells, by the rule above; a comma if there is none."""
    known = {*VIDEO_COLUMNS, *MOS_COLUMNS}
    try:
        cut = {mark: next(csv.reader([first_row], delimiter=mark), []) for mark in "\t;,"}
    except csv.Error:  # no text; its reader says so
        return ","
    several = [mark for mark, cells in cut.items() if len(cells) > 1]
    named = [mark for mark in several if known & set(map(plain, cut[mark]))]
    return next(iter(named or several), ",")


def repeated(columns: Iterable[Any]) -> list[str]:
    """Names that several columns have."""
    return [name for name, times in Counter(map(plain, columns)).items() if name and times > 1]


def first_known(columns: Iterable[Any], known: Sequence[str]) -> Any:
    """The column that comes first among the known names, None if there is none."""
    found = {plain(column): column for column in reversed(list(columns))}
    return next((found[name] for name in known if name in found), None)
