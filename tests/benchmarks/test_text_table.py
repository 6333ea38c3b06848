"""Rules of tables: numbers, delimiters, names of columns."""

import math

import pytest

from vqa_jax.benchmarks import text_table


@pytest.mark.parametrize(
    ("cell", "value"),
    [("3", 3), (" -3.5e-1 ", -0.35), (".5", 0.5), ("+2.", 2), (4, 4), (2.5, 2.5)],
)
def test_numbers(cell, value):
    assert text_table.number(cell) == value


@pytest.mark.parametrize("cell", ["", "nan", "NA", "None", "null", None, math.nan])
def test_missing_numbers(cell):
    assert math.isnan(text_table.number(cell))


@pytest.mark.parametrize(
    "cell", ["3_5", "3,5", "inf", "-Infinity", "1e999", "0x1", "٣", "1 2", True, [1], {}, 10**400]
)
def test_what_is_no_number(cell):
    with pytest.raises(ValueError, match="not a number"):
        text_table.number(cell)


@pytest.mark.parametrize(
    ("row", "mark"),
    [
        ("video,mos", ","),
        ("video;mos", ";"),
        ("mos\tvideo", "\t"),
        ("a;b,mos", ","),
        ('"video;x",mos', ","),
        ("a,b.mp4;3", ";"),
        ("alone", ","),
    ],
)
def test_the_delimiter_shows_a_known_name(row, mark):
    assert text_table.delimiter(row) == mark


def test_columns():
    assert text_table.plain(" MOS full ") == "mos_full"
    assert text_table.first_known(["Std", "MOS", "mos"], ("mos", "std")) == "MOS"
    assert text_table.first_known(["a"], ("mos",)) is None
    assert text_table.repeated(["a", "MOS", "mos", "", ""]) == ["mos"]
    others = ("gt_score", "id", "user_id", "Unnamed: 0", "video")
    assert all(map(text_table.is_no_score, others))
    assert not any(map(text_table.is_no_score, ("score", "DOVER", "technical", "q")))
