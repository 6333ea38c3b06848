"""The service's pages, made once: the one for people, and the list of what programs may ask.

They load nothing from elsewhere, and the policy makes a browser refuse the rest.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from vqa_jax.report import html
from vqa_jax.serving.config import ServeConfig

_FOLDER = pathlib.Path(__file__).parent / "templates"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclasses.dataclass(frozen=True)
class Page:
    """What is answered under one path."""

    text: str
    kind: str


def made(openapi: Mapping[str, Any], config: ServeConfig, explains: bool) -> dict[str, Page]:
    """Path -> page.

    Args:
      openapi: of the application.
      config: of the service; the page says what may be uploaded.
      explains: whether the student has an auxiliary head.
    """
    environment = html.environment(_FOLDER)

    def rendered(name: str, **values: Any) -> str:
        return environment.get_template(name).render(**values)

    return {
        "/": Page(rendered("page.html", config=config, explains=explains), "text/html"),
        "/docs": Page(rendered("api.html", api=openapi), "text/html"),
        "/page.css": Page(rendered("page.css"), "text/css"),
        "/page.js": Page((_FOLDER / "page.js").read_text("utf-8"), "text/javascript"),
    }
