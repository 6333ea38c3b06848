"""`ladder`: made and given encodes, table, CSV, JSON, page, mistakes."""

import csv
import json

import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.page_reader import inert
from vqa_jax.cli import main
from vqa_jax.motion import extractor


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    return tiny_corpus.write_video(str(tmp_path / "source.mp4"), 0)


def test_made_and_given_encodes_become_table_csv_json_and_page(source, known, tmp_path, capsys):
    worse = [tiny_corpus.write_video(str(tmp_path / f"{k}.mp4"), k) for k in (1, 3)]
    (tmp_path / "text.mp4").write_text("no video")
    out = tmp_path / "out"
    arguments = ["ladder", source, *worse, str(tmp_path / "text.mp4"), "--student", known]
    made = ["--codec", "x264:ultrafast", "--crf", "30"]
    assert main.main([*arguments, *made, "--out", str(out), "--json", "-"]) == 1
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told == json.loads((out / "ladder.json").read_text()) and told["source"] == source
    rungs = {rung["encode"]["name"]: rung for rung in told["rungs"]}
    assert list(rungs) == ["x264:ultrafast 30", "1.mp4", "3.mp4", "text.mp4"]
    assert rungs["3.mp4"]["quality"] < rungs["1.mp4"]["quality"] < 0.1
    assert "media file" in rungs["text.mp4"]["error"] and rungs["text.mp4"]["quality"] is None
    assert rungs["1.mp4"]["measured"]["psnr"]["mean"] > rungs["3.mp4"]["measured"]["psnr"]["mean"]
    with open(out / "ladder.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(rungs) and rows[3]["quality"] == ""
    assert float(rows[1]["quality"]) == rungs["1.mp4"]["quality"]
    assert "neighbours in order" in printed.err and "text.mp4: is not a media file" in printed.err
    page = inert((out / "ladder.html").read_text(encoding="utf-8"))
    assert "x264:ultrafast 30" in page.text and "Not compared: text.mp4" in page.text


def test_mistakes_are_told_before_the_work(source, tmp_path, capsys):
    assert main.main(["ladder", source]) == 2
    assert "by --codec" in capsys.readouterr().out
    for wrong in (["--codec", "h266"], ["--codec", "x264", "--crf", "x"]):
        assert main.main(["ladder", source, *wrong]) == 1
        assert "error: --c" in capsys.readouterr().err
    assert main.main(["ladder", source, source, source]) == 2
    assert "given twice" in capsys.readouterr().out
