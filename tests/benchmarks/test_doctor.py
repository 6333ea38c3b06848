"""The doctor finds what is missing, unclear or broken, and says so before anything is scored."""

import csv

import pytest

from tests.fixtures import broken_files, tiny_corpus
from vqa_jax.benchmarks import doctor, sets
from vqa_jax.cli import main
from vqa_jax.settings import DecodeLimits


@pytest.fixture
def folder(tmp_path):
    """Two good videos, a broken one, a doubled one and a file that nobody labelled."""
    videos = tmp_path / "videos"
    for name, row in (("Video/A001.mp4", 0), ("a/twice.mp4", 1), ("extra.mp4", 2)):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        tiny_corpus.write_video(str(videos / name), row)
    (videos / "b").mkdir()
    (videos / "b" / "twice.mp4").write_bytes((videos / "a" / "twice.mp4").read_bytes())
    (videos / "B002.MP4").write_text("no video")
    (tmp_path / "labels.csv").write_text(
        "video,mos\nA001.mp4,50\nB002.mp4,60\ntwice.mp4,70\ngone.mp4,80\nunrated.mp4,\n"
    )
    return tmp_path


def test_every_label_gets_its_row(folder, capsys):
    arguments = ["doctor", "--benchmark", "live_vqc", "--videos", str(folder / "videos")]
    arguments += ["--labels", str(folder / "labels.csv"), "--csv", str(folder / "out" / "d.csv")]
    assert main.main([*arguments, "--workers", "1"]) == 1
    said = capsys.readouterr().out
    assert "1 ok, 1 missing, 1 ambiguous, 0 cut off, 1 unreadable" in said
    assert "585 videos" in said and "1 rows have no score" in said
    assert "gone.mp4" in said and "B002.MP4" in said
    with open(folder / "out" / "d.csv", newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    status = {name: row["status"] for name, row in rows.items()}
    assert status == {
        "A001.mp4": "ok",
        "B002.mp4": "unreadable",
        "twice.mp4": "ambiguous",
        "gone.mp4": "missing",
    }
    assert rows["A001.mp4"]["file"] == str(folder / "videos/Video/A001.mp4")
    assert int(rows["A001.mp4"]["num_frames"]) > 0 and rows["A001.mp4"]["reason"] == ""
    assert rows["B002.mp4"]["reason"] and not rows["B002.mp4"]["width"]


def test_a_healthy_set_is_healthy(folder):
    (folder / "labels.csv").write_text("A001,50\n")
    found = doctor.examine(
        sets.named("LIVE-VQC"), str(folder / "videos"), str(folder / "labels.csv"), 1
    )
    assert found.healthy


def test_the_wrong_folder_is_said_to_be_wrong(folder):
    (folder / "labels.csv").write_text("x.mp4,50\n")
    found = doctor.examine(sets.named("KVQ"), str(folder / "videos"), str(folder / "labels.csv"), 1)
    assert "no label fits any file" in doctor.render(found)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"--benchmark": "LIVE"}, "known are LSVQ-test"),
        ({"--videos": "/nowhere"}, "is not a folder"),
        ({"--labels": "/nowhere.csv"}, "No such file"),
    ],
)
def test_mistakes_are_one_line(folder, change, complaint, capsys):
    given = {
        "--benchmark": "KVQ",
        "--videos": str(folder / "videos"),
        "--labels": str(folder / "labels.csv"),
    }
    arguments = [word for pair in (given | change).items() for word in pair]
    assert main.main(["doctor", *arguments]) == 1
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_a_hanging_decoder_is_a_row_and_the_others_are_read(folder, monkeypatch):
    (folder / "labels.csv").write_text("A001,50\n")
    monkeypatch.setattr(doctor, "DEFAULT_LIMITS", DecodeLimits(seconds=1e-6, memory_mb=0))
    (row,) = doctor.examine(
        sets.named("LIVE-VQC"), str(folder / "videos"), str(folder / "labels.csv"), 1
    ).rows
    assert row.status == "unreadable" and "longer than" in row.reason


def test_a_file_that_is_cut_off_is_not_ok(folder):
    path = broken_files.USABLE["cut_off_index_first"][0](folder / "videos")
    (folder / "labels.csv").write_text(f"{path.name},50\n")
    found = doctor.examine(
        sets.named("LIVE-VQC"), str(folder / "videos"), str(folder / "labels.csv"), 1
    )
    (row,) = found.rows
    assert row.status == "cut off" and row.reason == row.notes == f"{row.num_frames} of 24 frames"
    assert not found.healthy and "1 cut off" in doctor.render(found)
