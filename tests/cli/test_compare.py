"""`compare`: the table, the JSON, the page, and exit codes for gates."""

import json

import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.page_reader import inert
from vqa_jax.cli import main
from vqa_jax.motion import extractor


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Three versions of one source, the middle one the worst, and a file that is none."""
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    (tmp_path / "text.mp4").write_text("no video")
    found = [tiny_corpus.write_video(str(tmp_path / f"{k}.mp4"), k) for k in (1, 3, 0)]
    return [*found, str(tmp_path / "text.mp4")]


def test_versions_are_ranked_and_gates_decide_the_exit_code(clips, known, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["compare", *clips[:2], "--reference", clips[2], "--student", known]
    gates = ["--fail_if", "B<A-5", "--fail_if", "P(A>REF)>0.5"]
    assert main.main([*arguments, *gates, "--out", str(out), "--json", "-"]) == 3
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told == json.loads((out / "compare.json").read_text())
    assert told["failed"] == ["B<A-5"] and "FAILED: B<A-5" in printed.err
    ranks = {v["name"]: v["rank"] for v in told["versions"]}
    assert ranks == {"REF": 1, "A": 2, "B": 3}
    assert [(p["first"], p["second"]) for p in told["pairs"]] == [
        ("A", "B"),
        ("A", "REF"),
        ("B", "REF"),
    ]
    assert [(o["first"], o["second"]) for o in told["over_time"]] == [("REF", "A"), ("REF", "B")]
    assert told["over_time"][1]["moments"][0]["second_better"] < 0.3
    page = inert((out / "compare.html").read_text(encoding="utf-8"))
    assert "B against REF" in page.text and "1. REF" in page.text
    assert sum(u.startswith("data:image/jpeg") for u in page.urls) == 8


def test_without_true_conditions_all_is_well_and_bad_files_fail(clips, known, tmp_path, capsys):
    arguments = ["compare", "--student", known, "--fail_if", "A<B"]
    assert main.main([*arguments, *clips[:2]]) == 0
    assert "P(B better than A) 0." in capsys.readouterr().out
    assert main.main([*arguments, clips[1], clips[3], clips[0]]) == 1
    table = capsys.readouterr().out
    assert "text.mp4: is not a media file" in table and "P(C better than A)" in table
    assert main.main(["compare", clips[0], "--student", known]) == 1
    assert "1 versions" in capsys.readouterr().err
    assert main.main([*arguments, *clips[:2], "--fail_if", "A is bad"]) == 1
    assert "B<A-5" in capsys.readouterr().err
