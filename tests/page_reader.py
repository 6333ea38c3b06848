"""Reads pages as a browser would, as far as the tests ask."""

import html.parser


class Page(html.parser.HTMLParser):
    """Checks nesting; collects tags, attributes and text."""

    _VOID = frozenset({"meta", "img", "br"})

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
