"""Anchors chosen from a corpus: evenly spread over what the student sees, of all severities."""

import dataclasses
import itertools
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from tests.fixtures import tiny_corpus
from tests.fixtures.known_qualities import KnowingEngine, video_of
from vqa_jax import loading
from vqa_jax.cli import main
from vqa_jax.corpus.video_table import read_video_table, write_video_table
from vqa_jax.loop import anchors
from vqa_jax.motion import extractor
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.anchors import ANCHOR_FILE, AnchorError, AnchorSet
from vqa_jax.scoring.engine import VideoInput


def test_choice_spreads_anchors_evenly_over_what_the_student_sees():
    qualities = [[-1.5, -1.0, 0.9], [-0.5, 0.6, 0.0], [1.0, 0.2, 1.4]]
    chosen = anchors.choose_evenly(
        KnowingEngine(), [[video_of(q) for q in step] for step in qualities]
    )
    everything = np.concatenate(qualities)
    gaps = np.subtract.outer(everything, everything)
    q, _ = thurstone.map_scores(stats.norm.cdf(gaps))
    low, high = np.percentile(q, [10, 90])
    best = min(
        itertools.product(range(3), repeat=3),
        key=lambda picks: sum(
            abs(q[3 * k + i] - (low + (high - low) * k / 2)) for k, i in enumerate(picks)
        ),
    )
    assert tuple(chosen) == best


def test_chosen_anchors_are_training_videos_of_all_severities(known, corpus):
    found = AnchorSet.load(known)
    rows = {r["video_id"]: r for r in read_video_table(corpus)}
    assert found.scores == (0.0, 25.0, 50.0, 75.0, 100.0) and found.arbitrary
    assert [rows[name]["split"] for name in found.names] == ["train"] * 5
    severities = [rows[name]["level"] for name in found.names]
    assert severities == [3, 2, 2, 1, 0]  # 1, .75, .5, .25, 0 of three levels, rounded
    sentence = found.describe()
    assert "arbitrary" in sentence and "higher is better" in sentence


def test_existing_anchors_are_kept_and_missing_severities_named(known, corpus, tmp_path):
    folder = shutil.copytree(known, tmp_path / "student")
    before = (folder / ANCHOR_FILE).stat().st_mtime_ns
    anchors.make_anchors(None, str(folder), corpus)
    assert (folder / ANCHOR_FILE).stat().st_mtime_ns == before
    (folder / ANCHOR_FILE).unlink()
    data = tmp_path / "data"
    data.mkdir()
    table = read_video_table(corpus)
    write_video_table(str(data), [r for r in table if r["level"] == 0])
    with pytest.raises(AnchorError, match="prepare more simulators"):
        anchors.make_anchors(loading.load(known), str(folder), str(data))
    assert tiny_corpus.SIMULATOR in {r["simulator"] for r in table}


def test_a_student_that_cannot_judge_gets_no_anchors(known, corpus, tmp_path):
    student = loading.load(known)
    student.engine.compare = lambda pairs: np.tile([-4.0, -3.0, -2.0, 0.0, 5.0], (len(pairs), 1))
    with pytest.raises(AnchorError, match=r"does not tell them apart.*always prefers .* second"):
        anchors.make_anchors(student, str(tmp_path), corpus)
    assert not list(tmp_path.iterdir())


def test_videos_of_a_table_become_a_students_anchors(known, tmp_path, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    folder = str(shutil.copytree(known, tmp_path / "student"))
    for level in range(4):
        tiny_corpus.write_video(str(tmp_path / f"a{level}.mp4"), level, source=91)
    table = tmp_path / "anchors.csv"
    table.write_text("path,mos\na0.mp4,4.5\na3.mp4,1.0\na1.mp4,3.5\na2.mp4,2\n")
    assert main.main(["anchors", "--student", folder, "--table", str(table)]) == 0
    found = AnchorSet.load(folder, tiny_corpus.student_spec())
    assert found.scores == (1.0, 2.0, 3.5, 4.5) and not found.arbitrary
    given = loading.load(known, anchors=table).judge.anchors
    for one, other in zip(found.inputs, given.inputs, strict=True):
        assert one.frames.dtype == np.uint8  # a student with a tower of its own looks again
        np.testing.assert_array_equal(one.frames, other.frames)
    before = (tmp_path / "student" / ANCHOR_FILE).read_bytes()
    table.write_text("path,mos\na0.mp4,1\na3.mp4,5\n")
    with pytest.raises(AnchorError, match="against their scores"):
        anchors.adopt_anchors(loading.load(folder), folder, str(table))
    assert (tmp_path / "student" / ANCHOR_FILE).read_bytes() == before


def test_behind_a_frozen_tower_its_tokens_are_kept_and_no_pictures(tmp_path):
    pictures = tuple(
        VideoInput(np.full((1, 2, 4, 4, 3), k, np.uint8), np.zeros((1, 3), np.float32))
        for k in range(2)
    )
    given = AnchorSet(
        ("../my/set/x/a.png", "../my/set/y/b.png"), pictures, (0.0, 9.0), "MOS", False
    )
    asked = []

    def tower_tokens(videos):
        return [
            dataclasses.replace(v, frames=v.frames.mean((3, 4))[..., None].astype(np.float16))
            for v in videos
        ]

    student = SimpleNamespace(
        use_anchors=asked.append,
        judge=SimpleNamespace(anchors=given),
        engine=SimpleNamespace(tower_tokens=tower_tokens),
    )
    folder = str(tmp_path)
    assert anchors.adopt_anchors(student, folder, "t.csv") == str(tmp_path / ANCHOR_FILE)
    assert asked == ["t.csv"]
    found = AnchorSet.load(folder)
    assert found.names == ("x/a.png", "y/b.png")  # wherever the pictures lay
    assert (found.scores, found.scale) == (given.scores, given.scale)
    for k, video in enumerate(found.inputs):
        assert video.frames.dtype == np.float16 and video.frames.shape == (1, 2, 4, 1)
        assert (video.frames == k).all()


@pytest.mark.parametrize("sources", [[], ["--data=d", "--table=t.csv"]])
def test_anchors_come_from_one_place(sources, capsys):
    with pytest.raises(SystemExit):
        main.main(["anchors", "--student=s", *sources])
    assert "--data" in capsys.readouterr().err
