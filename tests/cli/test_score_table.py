"""Rows that are written as they come, on disks that fill up too."""

import csv
import errno
import os

import pytest

from vqa_jax.cli.score_table import RowFile, render
from vqa_jax.scoring.predictor import Result

ROWS = [{"path": f"{k}.mp4", "score": k} for k in range(3)]


def _read(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class _FullDisk:
    """A file on a disk that is full after so many rows."""

    def __init__(self, file, room: int):
        self._file, self._room = file, room

    def write(self, text: str) -> None:
        if self._room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room -= 1
        self._file.write(text)

    def flush(self) -> None:
        self._file.flush()


def test_rows_are_there_at_once_and_the_name_at_the_end(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")
    table = RowFile(str(path), ["path", "score"])
    for count, row in enumerate(ROWS, 1):
        table.add(row)
        assert len(_read(tmp_path / "scores.csv.partial")) == count
    assert path.read_text() == "old"
    table.finish()
    assert [row["path"] for row in _read(path)] == ["0.mp4", "1.mp4", "2.mp4"]
    assert os.listdir(tmp_path) == ["scores.csv"]


@pytest.mark.parametrize("room_again", [True, False])
def test_a_disk_that_fills_up_loses_nothing(tmp_path, monkeypatch, room_again):
    path = tmp_path / "scores.csv"
    table = RowFile(str(path), ["path", "score"])
    full = _FullDisk(table._file, 1)
    table._file, table._writer = full, csv.DictWriter(full, ["path", "score"])
    for row in ROWS:
        table.add(row)
    assert [row["path"] for row in _read(tmp_path / "scores.csv.partial")] == ["0.mp4"]
    if room_again:
        table.finish()
        assert [row["path"] for row in _read(path)] == ["0.mp4", "1.mp4", "2.mp4"]
        assert os.listdir(tmp_path) == ["scores.csv"]
        return
    monkeypatch.setattr(
        "vqa_jax.jobs.files.commit",
        lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    )
    with pytest.raises(OSError) as caught:
        table.finish()
    assert caught.value.filename == str(path)
    assert len(_read(tmp_path / "scores.csv.partial")) == 1 and not path.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_device_that_takes_nothing_is_told_at_the_end():
    table = RowFile("/dev/full", ["path", "score"])
    for row in ROWS:
        table.add(row)
    with pytest.raises(OSError) as caught:
        table.finish()
    assert caught.value.filename == "/dev/full" and caught.value.errno == errno.ENOSPC


def test_standard_output_gets_rows_as_they_come(capfd):
    table = RowFile("-", ["path", "score"])
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
    table = RowFile(str(tmp_path / "scores.csv"), ["path", "score"])
    table.add({"path": "=1+1.mp4", "score": -1.5})
    table.finish()
    assert _read(tmp_path / "scores.csv") == [{"path": "'=1+1.mp4", "score": "-1.5"}]
