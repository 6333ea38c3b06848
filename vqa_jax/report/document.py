"""The frame of every page: one file with its styles, nothing loaded from elsewhere."""

from __future__ import annotations

import pathlib

from vqa_jax.report import plots
from vqa_jax.report.parts import text

_STYLE = pathlib.Path(__file__).parents[1] / "assets" / "report.css"


def document(title: str, body: str) -> str:
    """A whole page.

    Args:
      title: plain text, for the browser.
      body: HTML of the page's inside.
    """
    style = (
        _STYLE.read_text(encoding="utf-8")
        + f":root{{{plots.palette(False)}}}"
        + f"@media(prefers-color-scheme:dark){{:root{{{plots.palette(True)}}}}}"
    )
    # The policy makes a browser refuse anything that is not in this file.
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}"
        "<footer>One file: nothing is loaded from elsewhere.</footer></main></body></html>\n"
    )
