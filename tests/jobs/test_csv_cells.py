"""Cells of text that a spreadsheet must not compute."""

import csv
import io

import pytest

from vqa_jax.jobs import csv_cells

TEXTS = ["=1+1", "+a", "-a.mp4", "@x", "\tx", "\rx", "'=x", "''+x", "'a", "a=1", "", "-1", "+2.5e3"]


def test_every_text_comes_back_and_none_is_a_formula():
    file = io.StringIO(newline="")
    rows = csv_cells.dict_writer(file, ["=name", "b"])
    rows.writeheader()
    rows.writerows({"=name": text, "b": -1.5} for text in TEXTS)
    file.seek(0)
    header, *found = csv.reader(file)
    assert [csv_cells.bare(cell) for cell in header] == ["=name", "b"]
    assert [csv_cells.bare(row[0]) for row in found] == TEXTS
    assert {row[1] for row in found} == {"-1.5"}
    written = [row[0] for row in found]
    assert [cell for cell in written if cell[:1] in tuple("=+-@\t\r")] == ["-1", "+2.5e3"]


def test_columns_that_are_not_there_are_an_error():
    with pytest.raises(ValueError, match="other"):
        csv_cells.dict_writer(io.StringIO(), ["a"]).writerow({"a": 1, "other": 2})
