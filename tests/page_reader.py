"""Reads pages as a browser would, as far as the tests ask, and names that would do harm there."""

import html.parser
import re

# Markup, quotes of both kinds, a line's end and a script's address in one name.
EVIL = '<script>alert("x")</script>\n\'"><img src=javascript:alert(1)> & ünï.mp4'

_TAGS = re.compile(
    "html|head|meta|title|style|body|main|footer|nav|section|h[1-3]|[abip]|code|small|span|div|"
    "table|t(head|body|r|h|d)|ul|li|d[ltd]|figure|figcaption|picture|source|img|details|summary"
)
_ATTRIBUTES = re.compile(
    "lang|charset|http-equiv|content|name|class|id|href|src|srcset|media|alt|style|scope|colspan|"
    "role|tabindex|aria-(label|hidden)|open"
)


class Page(html.parser.HTMLParser):
    """Checks nesting; collects tags, attributes and text."""

    _VOID = frozenset({"meta", "img", "source"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.urls, self.open, self.words = [], [], [], []
        self.names, self.values = set(), []  # of attributes
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names.update(k for k, _ in attrs)
        self.values += [v for _, v in attrs if v]
        self.urls += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, value):
        if self.open[-1:] != ["style"]:
            self.words.append(value)

    @property
    def text(self):
        return "".join(self.words)


def inert(page):
    """Parses a page and asserts that nothing in it runs, is loaded, or is left open."""
    parsed = Page(page)
    assert parsed.open == []
    assert [t for t in parsed.tags if not _TAGS.fullmatch(t)] == []
    assert [n for n in parsed.names if not _ATTRIBUTES.fullmatch(n)] == []
    assert all(u.startswith(("#", "data:image/")) for u in parsed.urls)
    assert "@import" not in page and "url(" not in page
    return parsed
