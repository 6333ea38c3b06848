"""The pages: whole, escaped, and with a policy that lets them load nothing from elsewhere."""

import re

from vqa_jax.serving import pages
from vqa_jax.serving.config import ServeConfig


def test_pages_name_nothing_that_is_elsewhere():
    found = pages.made(
        {"info": {"title": "a<b", "version": "1", "description": ""}, "paths": {}},
        ServeConfig(upload_mb=77),
        True,
    )
    assert set(found) == {"/", "/docs", "/page.css", "/page.js"}
    assert "77 MB" in found["/"].text and "a&lt;b" in found["/docs"].text
    for page in found.values():
        links = re.findall(r'(?:src|href)="([^"]*)"', page.text)
        assert all(
            link in ("page.css", "page.js", "data:,", "docs", "openapi.json", "./")
            for link in links
        )
        assert set(re.findall(r"https?://[\w.]+", page.text)) <= {
            "http://www.w3.org",
            "http://HOST",
        }
    assert "unsafe" not in pages.HEADERS["Content-Security-Policy"]


def test_the_token_is_asked_for_where_there_is_one():
    api = {"info": {"title": "", "version": "", "description": ""}, "paths": {}}
    hidden = [
        'aria-label="Token of this service" hidden' in pages.made(api, config, False)["/"].text
        for config in (ServeConfig(), ServeConfig(token="secret"))
    ]
    assert hidden == [True, False]
    assert "secret" not in pages.made(api, ServeConfig(token="secret"), True)["/"].text
