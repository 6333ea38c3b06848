"""Rows that are written as they come, on disks that fill up too."""

import csv
import errno
import os

import pytest

from vqa_jax.cli.score_table import RowStream, render, write_rows
from vqa_jax.scoring.results import Result

ROWS = [{"path": f"{k}.mp4", "score": k} for k in range(3)]


def _read(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "scores.csv"
    write_rows(str(path), ROWS, ["path", "score"])
    before = path.read_text()
    assert _read(path) == [{name: str(value) for name, value in row.items()} for row in ROWS]
    with pytest.raises(ValueError, match="colour"):
        write_rows(str(path), [*ROWS, {"colour": 1}], ["path", "score"])
    assert path.read_text() == before and os.listdir(tmp_path) == ["scores.csv"]


def test_a_device_that_takes_nothing_is_told_at_the_end():
    table = RowStream("/dev/full", ["path", "score"])
    for row in ROWS:
        table.add(row)
    with pytest.raises(OSError) as caught:
        table.finish()
    assert caught.value.filename == "/dev/full" and caught.value.errno == errno.ENOSPC


def test_standard_output_gets_rows_as_they_come(capfd):
    table = RowStream("-", ["path", "score"])
    table.add(ROWS[0])
    assert capfd.readouterr().out == "path,score\r\n0.mp4,0\r\n"
    table.add(ROWS[1])
    table.finish()
    print("still open")
    assert capfd.readouterr().out == "1.mp4,1\r\nstill open\n"


def test_marks_of_scores_and_of_a_student_that_does_not_look():
    rows = [Result(f"{k}.mp4", 50.0 + k, 1.0, q=0.1 * k) for k in range(3)]
    rows[1] = Result("1.mp4", 4e5, 1.0, q=9.0, notes="NO MEASUREMENT: better")
    table = render(rows, 5)
    assert "1.mp4 (NO MEASUREMENT: better)" in table and "DOUBTFUL" not in table
    same = [Result(f"{k}.mp4", 50.0, 1.0, q=0.1) for k in range(3)]
    assert "DOUBTFUL: all 3 videos have the same score" in render(same, 5)
    assert "DOUBTFUL" not in render(same[:2], 5)


def test_names_are_no_formulas_in_a_spreadsheet(tmp_path):
    row = {"path": "=1+1.mp4", "score": -1.5}
    write_rows(str(tmp_path / "scores.csv"), [row], ["path", "score"])
    assert _read(tmp_path / "scores.csv") == [{"path": "'=1+1.mp4", "score": "-1.5"}]
