"""What all pages share: their templates, tables, numbers as text, pictures as data URIs.

A page is one file of HTML that loads nothing. Templates escape every value (Jinja2's autoescape);
modules hand over plain values and never HTML.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2

from vqa_jax.jobs.files import written
from vqa_jax.report import plots

_MAX_ROWS = 300  # of a table of files; the rest is in the file itself
_STRONGEST_TINT = 0.55  # opacity of a cell's tint: text stays readable on it

NOTHING = "–"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      text: plain text.
      small: plain text in small print below it.
      kind: CSS classes.
      tint: opacity 0..1 of the colour that `kind` names (pos or neg).
    """

    text: str
    small: str = ""
    kind: str = ""
    tint: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that scrolls by itself where the page is too narrow.

    Attributes:
      label: what it holds, for those who hear the page.
      head: titles of the columns.
      rows: cells; a row of one cell is a heading over the whole width.
      kind: CSS classes: wide, heat, text.
      row_heads: whether each row's first cell names the row.
      note: plain text below it.
    """

    label: str
    head: Sequence[str | Cell]
    rows: Sequence[Sequence[str | Cell]]
    kind: str = "wide"
    row_heads: bool = True
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture with its title.

    Attributes:
      uri: data URI.
      title, note: plain text.
      alt: what it shows, for those who hear the page; the title if empty.
      narrow: data URI of a drawing for narrow pages, or empty.
    """

    uri: str
    title: str
    note: str = ""
    alt: str = ""
    narrow: str = ""


@dataclasses.dataclass(frozen=True)
class Bars:
    """Horizontal bars with their names and numbers, as wide as the page lets them be.

    Attributes:
      label: what they show, for those who hear the page.
      rows: (name, number as text, length 0..1).
      kind: CSS class of the colour.
    """

    label: str
    rows: Sequence[tuple[str, str, float]]
    kind: str


def bars(
    label: str, names: Sequence[str], values: Sequence[float], index: int, digits: int = 0
) -> Bars:
    """Bars of `values`, none negative, in the colour of curve `index`."""
    most = max(values, default=0) or 1
    rows = [
        (name, f"{value:,.{digits}f}", round(value / most, 4))
        for name, value in zip(names, values, strict=True)
    ]
    return Bars(label, rows, plots.series_class(index))


def number(value: Any) -> float | None:
    """`value` as a finite float, else None."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def percent(value: Any, digits: int = 1) -> str:
    """A share as a percentage."""
    share = number(value)
    return NOTHING if share is None else f"{100 * share:.{digits}f}%"


def signed(value: Any, digits: int) -> str:
    """A number with its sign, a real minus included; never "+0.00" for a rounded zero."""
    shown = number(value)
    if shown is None:
        return NOTHING
    shown = round(shown, digits)
    if shown == 0:
        return f"{0:.{digits}f}"
    return f"{shown:+.{digits}f}".replace("-", "−")


def correlation(value: Any) -> str:
    """A correlation with three digits."""
    shown = number(value)
    return NOTHING if shown is None else f"{shown:.3f}".replace("-", "−")


def count(value: Any) -> str:
    """A whole number with separators."""
    shown = number(value)
    return NOTHING if shown is None else f"{shown:,.0f}"


def jpeg_uri(data: bytes) -> str:
    """Data URI of a JPEG."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def heat_cell(
    value: float | None, middle: float, text: str, small: str = "", extra: str = ""
) -> Cell:
    """A cell tinted by how far `value` (0..1) is from `middle`: blue above, orange below."""
    if value is None:
        return Cell(text, small, "none")
    reach = 1 - middle if value >= middle else middle
    side = "pos" if value >= middle else "neg"
    tint = _STRONGEST_TINT * min(1.0, abs(value - middle) / reach)
    return Cell(text, small, f"{side} {extra}".strip(), round(tint, 2))


def text_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], label: str, whole: str
) -> Table:
    """A table of text; a long one is cut and `whole` named as the place of the rest."""
    more = len(rows) - _MAX_ROWS
    return Table(
        label,
        columns,
        [[str(row.get(c, "")) for c in columns] for row in rows[:_MAX_ROWS]],
        "wide text",
        row_heads=False,
        note=f"{more:,} more in {whole}." if more > 0 else "",
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value)) or NOTHING
        elif value is None:
            yield name, NOTHING
        else:
            yield name, f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_table(values: Mapping[str, Any], label: str) -> Table:
    """Names and values of a JSON object; nested names are joined by dots."""
    rows = [[Cell(name, kind="code"), shown] for name, shown in _flat(values)]
    return Table(label, (), rows, "text", row_heads=False)


def write(path: str, template: str, **values: Any) -> None:
    """Renders a page and writes it, whole or not at all.

    Args:
      path: HTML file.
      template: file name in `templates`.
      **values: what it shows; strings are plain text.

    Raises:
      jinja2.UndefinedError: the template asks for something that is not there.
    """
    page = environment().get_template(template).render(**values)
    with written(path) as file:
        # File names may hold bytes that are not UTF-8; they are shown escaped.
        file.write(page.encode("utf-8", "backslashreplace").decode())


def environment(*folders: pathlib.Path) -> jinja2.Environment:
    """Templates of this package, and of more folders; they escape every value."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, pathlib.Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=percent, correlation=correlation, count=count)
    made.globals.update(palette=plots.palette, NOTHING=NOTHING)
    return made
