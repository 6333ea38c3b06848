"""CSV tables for people: a spreadsheet must not take a cell for a formula.

A cell of text that begins with = + - @ tab or carriage return gets an apostrophe in front, which
spreadsheets hide; so does one that begins with apostrophes and then one of these, so that `bare`
gives every text back. Numbers stay as they are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""How a number is written in a table."""
GUARDED = r"^'('*[=+\-@\t\r])"
"""What `bare` takes the first apostrophe from; group 1 stays."""

_GUARDED = re.compile(GUARDED)
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def guarded(cell: Any) -> Any:
    """A cell as it is written; only text that looks like a formula changes."""
    if not isinstance(cell, str) or not _FORMULA.match(cell) or NUMBER.fullmatch(cell):
        return cell
    return "'" + cell


def bare(text: str) -> str:
    """The text of a cell that `guarded` wrote."""
    return _GUARDED.sub(r"\1", text)


class Writer:
    """A `csv.writer` whose text is guarded."""

    def __init__(self, file: Any):
        self._rows = csv.writer(file)

    def writerow(self, cells: Iterable[Any]) -> None:
        """Writes one row."""
        self._rows.writerow(map(guarded, cells))

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Writes several rows."""
        self._rows.writerows(map(guarded, cells) for cells in rows)


def dict_writer(file: Any, columns: Sequence[str]) -> csv.DictWriter:
    """A `csv.DictWriter` whose text is guarded."""
    rows = csv.DictWriter(file, columns)
    rows.writer = Writer(file)  # type: ignore[assignment]
    return rows
