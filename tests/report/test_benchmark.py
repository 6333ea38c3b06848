"""The page of a benchmark; its numbers are checked where they are computed."""

from tests.fixtures.made_pages import benchmark_of
from tests.fixtures.page_reader import EVIL, inert


def test_names_of_models_are_text(tmp_path):
    with open(benchmark_of(tmp_path), encoding="utf-8") as f:
        parsed = inert(f.read())
    # Per model: its section, its published row, its plots and one side of the difference.
    assert parsed.text.count(EVIL) == 2 * 4
    assert f"Results of good {EVIL}" in parsed.values
