"""What pages share: numbers, cells, tables, the writing of a page."""

import jinja2
import pytest

from tests.fixtures.page_reader import EVIL, inert
from vqa_jax.report import html


def test_rounded_zero_has_no_sign():
    assert [html.signed(v, 1) for v in (0.04, -0.04, 0.06, -1)] == ["0.0", "0.0", "+0.1", "−1.0"]


def test_numbers_that_are_none_are_a_dash():
    for form in (html.percent, html.correlation, html.count):
        assert form(None) == form("x") == form(float("nan")) == html.NOTHING
    assert html.percent(0.1234) == "12.3%" and html.count(1234567) == "1,234,567"


def test_tint_grows_with_the_distance_from_the_middle():
    cells = [html.heat_cell(v, 0.5, "") for v in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert [c.kind for c in cells] == ["neg", "neg", "pos", "pos", "pos"]
    assert [c.tint for c in cells] == [0.55, 0.28, 0, 0.28, 0.55]
    assert html.heat_cell(None, 0.5, "-").tint is None


def test_bars_are_as_long_as_their_numbers():
    found = html.bars("x", ["a", "b", "c"], [2.0, 0.5, 0.0], 1, digits=1)
    assert found.rows == [("a", "2.0", 1.0), ("b", "0.5", 0.25), ("c", "0.0", 0.0)]
    assert html.bars("x", ["a"], [0.0], 1).rows == [("a", "0", 0.0)]


def test_long_tables_are_cut_and_say_where_the_rest_is():
    table = html.text_table([{"a": k} for k in range(1305)], ("a", "b"), "x", "all.csv")
    assert len(table.rows) == 300 and table.rows[7] == ["7", ""]
    assert table.note == "1,005 more in all.csv."


def test_settings_are_flat_and_none_is_a_dash():
    table = html.settings_table({"a": {"b": None, "c": [1, 2]}, "d": 0.123456, "e": []}, "x")
    shown = {name.text: value for name, value in table.rows}
    assert shown == {"a.b": "–", "a.c": "1, 2", "d": "0.1235", "e": "–"}


def test_bytes_that_are_no_text_are_shown_and_a_missing_value_is_an_error(tmp_path):
    path = tmp_path / "page.html"
    name = EVIL + b"\xff".decode("utf-8", "surrogateescape")
    table = html.Table(name, [name], [[name], [name]], note=name)
    values = {"title": name, "videos": 1, "bars": html.bars(name, [name], [1.0], 1)}
    html.write(str(path), "anchors.html", table=table, **values)
    parsed = inert(path.read_text(encoding="utf-8"))
    assert parsed.text.count(EVIL + "\\udcff") == 7
    with pytest.raises(jinja2.UndefinedError, match="table"):
        html.write(str(path), "anchors.html", **values)
