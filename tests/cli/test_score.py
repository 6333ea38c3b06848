"""`score`: one row a file, modes, exit codes, and results that no failing file takes away."""

import csv
import functools
import io
import json
import os
import sys
import types

import pytest

from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.cli import main
from vqa_jax.motion import extractor


@pytest.fixture(scope="module", autouse=True)
def _each_student_is_loaded_once():
    """What it compiled for one command serves the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
        patch.setattr(loading, "load", functools.cache(loading.load))
        yield


@pytest.fixture
def folder(tmp_path):
    """Three good videos and three bad files."""
    place = tmp_path / "my videos"
    (place / "below").mkdir(parents=True)
    tiny_corpus.write_video(str(place / "bright.mp4"), 0)
    tiny_corpus.write_video(str(place / "middle.MP4"), 1)
    tiny_corpus.write_video(str(place / "below" / "dark"), 3)  # found by its content
    (place / "text.mp4").write_text("no video")
    (place / "empty.mov").touch()
    (place / "notes.txt").write_text("left out")
    return place


def test_score_prints_a_table_and_writes_one_row_a_file(folder, known, tmp_path, capsys):
    out = tmp_path / "new folder"
    code = main.main(
        [
            "score",
            str(folder),
            "--student",
            known,
            "--csv",
            str(out / "scores.csv"),
            "--json",
            str(out / "scores.json"),
        ]
    )
    assert code == 0
    with open(out / "scores.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert {"path", "score", "std", "error", "scale", "direction", "model"} <= rows[0].keys()
    names = [os.path.relpath(r["path"], folder) for r in rows]
    assert sorted(names) == ["below/dark", "bright.mp4", "empty.mov", "middle.MP4", "text.mp4"]
    for row in rows:
        assert bool(row["score"]) is not bool(row["error"])
        assert bool(row["score"]) is bool(row["std"])
        assert row["direction"] == "higher is better"
    by_name = dict(zip(names, rows, strict=True))
    order = [float(by_name[n]["score"]) for n in ("below/dark", "middle.MP4", "bright.mp4")]
    assert order == sorted(order) and len(set(order)) == 3
    with open(out / "scores.json", encoding="utf-8") as f:
        same = json.load(f)
    assert [r["path"] for r in same] == [r["path"] for r in rows]
    assert [r["score"] for r in same] == [float(r["score"]) if r["score"] else None for r in rows]
    table = capsys.readouterr().out
    lines = [line for line in table.splitlines() if str(folder) in line]
    assert len(lines) == 5
    assert "bright.mp4" in lines[0] and "dark" in lines[2]  # best first, failures last
    assert "3 scored, 2 failed" in table and "arbitrary" in table and "shipped" not in table


def test_exit_codes_say_whether_anything_was_scored(folder, known, capsys):
    bad = [str(folder / "text.mp4"), str(folder / "gone.mp4")]
    assert main.main(["score", *bad, "--student", known]) == 1
    assert "0 scored, 2 failed" in capsys.readouterr().out
    assert main.main(["score", str(folder / "notes.txt"), "--student", known]) == 2
    assert "no video" in capsys.readouterr().out


def test_strict_fails_where_any_file_has_no_score(folder, known, tmp_path):
    clip, bad = str(folder / "bright.mp4"), str(folder / "text.mp4")
    table = tmp_path / "scores.csv"
    arguments = ["score", clip, bad, "--student", known, "--csv", str(table)]
    assert main.main(arguments) == 0
    rows = table.read_bytes()
    assert main.main([*arguments, "--strict"]) == 1
    assert table.read_bytes() == rows  # the rows are there
    assert main.main(["score", clip, "--student", known, "--strict"]) == 0


def test_listings_and_standard_input_name_files(folder, known, tmp_path, monkeypatch):
    clip, gone = str(folder / "bright.mp4"), "caf\udce9.txt"
    table, listing = tmp_path / "scores.csv", tmp_path / "files.csv"
    listing.write_text(f"path,licence\n{clip},CC0\n{folder / 'text.mp4'},\n")

    def rows(*names):
        arguments = ["score", *names, "--student", known, "--csv", str(table)]
        assert main.main(arguments) in (0, 1)
        with open(table, newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [(row["path"], bool(row["error"])) for row in csv.DictReader(file)]

    assert rows(str(listing)) == [(clip, False), (str(folder / "text.mp4"), True)]
    names = f"{clip}\n\n{gone}\n{clip}\n".encode("utf-8", "surrogateescape")
    stdin = types.SimpleNamespace(buffer=io.BytesIO(names))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert rows("-") == [(clip, False), (gone, True)]


def test_parts_of_scores_have_a_manifest(folder, known, tmp_path, capsys):
    out = tmp_path / "parts"
    clips = [str(folder / name) for name in ("bright.mp4", "text.mp4")]
    arguments = ["score", *clips, "--student", known, "--out", str(out)]
    assert main.main([*arguments, "--csv", "x.csv"]) == 2
    assert main.main([*arguments, "--format", "jsonl"]) == 0
    printed = capsys.readouterr().out
    assert "1 scored, 1 failed, 1 parts" in printed and "arbitrary" in printed
    rows = [json.loads(line) for line in (out / "part-000000.jsonl").read_text().splitlines()]
    assert [r["path"] for r in rows] == clips and rows[0]["score"] and rows[1]["error"]
    assert json.loads((out / "manifest.json").read_text())["rows"] == 2
    assert main.main([*arguments, "--format", "jsonl", "--strict"]) == 1  # nothing is asked again


def test_processes_share_a_table(folder, known, tmp_path, capsys):
    clips = [str(folder / name) for name in ("bright.mp4", "middle.MP4")]
    table = tmp_path / "scores.csv"
    arguments = ["score", *clips, "--student", known, "--processes", "2"]
    assert main.main([*arguments, "--process", "0"]) == 2
    assert "name a file by --csv" in capsys.readouterr().out
    shared = [*arguments, "--csv", str(table)]
    assert main.main([*shared, "--process", "1"]) == 0  # has no range to do
    assert "left to other processes" in capsys.readouterr().out and not table.exists()
    assert main.main([*shared, "--process", "0"]) == 0
    assert "2 scored, 0 failed" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["my videos", "scores.csv"]


def test_default_student_is_named_in_the_output(folder, known, monkeypatch, capsys):
    monkeypatch.setattr(loading, "SHIPPED", known)
    assert main.main(["score", str(folder / "bright.mp4")]) == 0
    assert f"shipped {loading.DEFAULT} student" in capsys.readouterr().out


def test_file_names_that_are_no_text_survive(folder, known, tmp_path, capsys):
    name = os.path.join(os.fsencode(str(folder)), b"br\xff.mp4")
    os.rename(folder / "bright.mp4", name)
    path = tmp_path / "scores.csv"
    assert main.main(["score", os.fsdecode(name), "--student", known, "--csv", str(path)]) == 0
    assert b"br\xff.mp4" in path.read_bytes()
    assert "br\\udcff.mp4" in capsys.readouterr().out


def test_modes_of_scoring_tell_what_they_did(folder, known, tmp_path, capsys):
    path = tmp_path / "scores.json"

    def score(*flags):
        arguments = ["score", str(folder), "--student", known, "--json", str(path), *flags]
        assert main.main(arguments) == 0
        rows = [row for row in json.loads(path.read_text()) if row["error"] is None]
        return {os.path.basename(row["path"]): row for row in rows}, capsys.readouterr().out

    full, text = score()
    assert "saved" not in text and "contradict" not in text
    few, text = score("--adaptive", "--epsilon", "0.5")
    assert all(1 <= row["comparisons"] <= 5 for row in few.values())
    assert sum(row["comparisons"] for row in few.values()) < 15 and "saved" in text
    both, text = score("--both_orders")
    assert all(row["comparisons"] == 10 for row in both.values()) and "contradict" in text
    authors, text = score("--protocol", "w2s")
    assert "authors' rule" in text and all(row["std"] is None for row in authors.values())
    assert all(0 <= row["score"] <= 100 for row in authors.values())
    for found in (few, both):
        assert found["dark"]["score"] < found["bright.mp4"]["score"]
    assert full["dark"]["comparisons"] == 5
    with pytest.raises(SystemExit):
        score("--adaptive", "--both_orders")
    assert main.main(["score", str(folder), "--adaptive", "--epsilon", "-1"]) == 2


def test_the_table_goes_to_standard_error_where_rows_take_standard_output(folder, known, capfd):
    clip = str(folder / "bright.mp4")
    assert main.main(["score", clip, "--student", known, "--csv", "-", "--quiet"]) == 0
    said = capfd.readouterr()
    (row,) = csv.DictReader(said.out.splitlines())
    assert row["path"] == clip and "1 scored, 0 failed" in said.err
    assert main.main(["score", clip, "--student", known, "--json", "-"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)[0]["score"] == float(row["score"]) and "1 scored" in said.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_loses_neither_the_table_nor_the_other_file(folder, known, tmp_path, capfd):
    arguments = ["score", str(folder / "bright.mp4"), "--student", known, "--csv", "/dev/full"]
    assert main.main([*arguments, "--json", str(tmp_path / "scores.json")]) == 1
    said = capfd.readouterr()
    assert "1 scored, 0 failed" in said.out and "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith("error: /dev/full: No space left")
    assert len(json.loads((tmp_path / "scores.json").read_text())) == 1
