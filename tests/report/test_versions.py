"""The page of `compare`."""

from tests.fixtures.made_pages import EVIL_FILE, versions_of
from tests.fixtures.page_reader import EVIL, inert


def test_names_and_reasons_are_text_and_pairs_are_told(tmp_path):
    with open(versions_of(tmp_path), encoding="utf-8") as f:
        parsed = inert(f.read())
    assert EVIL_FILE in parsed.text and parsed.text.count(EVIL) >= 3  # reason, scale, note
    assert "1. B" in parsed.text and "orders disagree" in parsed.text
    assert "0:02.0 to 0:04.0" in parsed.text
    assert sum(u.startswith("data:image/jpeg") for u in parsed.urls) == 8
    assert sum(u.startswith("data:image/svg") for u in parsed.urls) == 2  # wide and narrow
