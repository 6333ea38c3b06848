"""Building blocks of the report page: escaped text, numbers, tables, tinted cells, pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vqa_jax.report.data import LoopRow, Row, number

_MAX_ROWS = 300  # of a table of files; the rest is in the file itself
_STRONGEST_TINT = 0.55  # opacity of a cell's tint: text stays readable on it

NOTHING = "–"


def text(value: Any) -> str:
    """`value` as text that is safe anywhere in the page."""
    return html.escape(str(value), quote=True)


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


def loop_value(row: LoopRow, value: float | None) -> str:
    """A cell of the loop's table."""
    return correlation(value) if row.kind == "srcc" else percent(value)


def loop_difference(row: LoopRow) -> str:
    """The loop table's last column: points for shares, plain for correlations."""
    if row.difference is None:
        return NOTHING
    if row.kind == "srcc":
        return signed(row.difference, 3)
    return signed(100 * row.difference, 1)


def absent(what: str) -> str:
    """The note in place of a part whose stage has not run."""
    return f'<p class="absent">Not available yet: {what}</p>'


def section(name: str, title: str, body: str) -> str:
    """One card of the page."""
    return f'<section id="{name}"><h2>{title}</h2>{body}</section>'


def figure(uri: str, title: str, note: str = "", alt: str = "") -> str:
    """A plot with its title; `title`, `note` and `alt` are plain text."""
    note = f"<span>{text(note)}</span>" if note else ""
    return (
        f"<figure><figcaption>{text(title)}{note}</figcaption>"
        f'<img alt="{text(alt or title)}" src="{uri}"></figure>'
    )


def jpeg_uri(data: bytes) -> str:
    """Data URI of a JPEG."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def heat_cell(value: float | None, middle: float, shown: str, extra: str = "") -> str:
    """A cell tinted by how far `value` (0..1) is from `middle`: blue above, orange below."""
    if value is None:
        return f'<td class="none">{shown}</td>'
    reach = 1 - middle if value >= middle else middle
    tint = _STRONGEST_TINT * min(1.0, abs(value - middle) / reach)
    side = "pos" if value >= middle else "neg"
    return f'<td class="{side} {extra}" style="--a:{tint:.2f}">{shown}</td>'


def text_table(rows: Sequence[Row], columns: Sequence[str], whole: str) -> str:
    """A table of text rows; a long one is cut and `whole` named as the place of the rest."""
    head = "".join(f"<th>{text(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{text(row.get(c, ''))}</td>" for c in columns) + "</tr>"
        for row in rows[:_MAX_ROWS]
    )
    rest = (
        f'<p class="caption">{len(rows) - _MAX_ROWS:,} more in <code>{text(whole)}</code>.</p>'
        if len(rows) > _MAX_ROWS
        else ""
    )
    return (
        '<div class="scroll"><table class="wide text">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{rest}"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        else:
            yield name, f"{value:.4g}" if isinstance(value, float) else str(value)


def facts_table(values: Mapping[str, Any]) -> str:
    """Names and values of a JSON object; nested names are joined by dots."""
    body = "".join(
        f"<tr><td><code>{text(k)}</code></td><td>{text(v)}</td></tr>" for k, v in _flat(values)
    )
    return f'<div class="scroll"><table class="text"><tbody>{body}</tbody></table></div>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Colour keys of plots: (CSS class, plain text)."""
    keys = "".join(f'<span><i class="{c}"></i>{text(t)}</span>' for c, t in entries)
    return f'<div class="legend">{keys}</div>'
