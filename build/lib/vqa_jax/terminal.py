"""Text for a terminal: names of files and errors of libraries may hold what steers one.

Control characters, those that turn the direction of writing, line separators and bytes that are no
text are shown as Python writes them (\\x1b); `name` also shows a line's end so, `text` keeps it.
"""

from __future__ import annotations

import re

_STEERS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_STEERS}]")
_IN_NAME = re.compile(f"[{_STEERS}\t\n]")


def name(value: object) -> str:
    """One line of a name, a path or a reason, for a cell of a table."""
    return _IN_NAME.sub(_escaped, str(value))


def text(value: object) -> str:
    """Text of several lines; whoever puts a name in it that may hold line ends uses `name`."""
    return _IN_TEXT.sub(_escaped, str(value))


def message(value: object) -> str:
    """As `text`, later lines indented, so that none looks like a message of its own."""
    return text(value).replace("\n", "\n  ")


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
