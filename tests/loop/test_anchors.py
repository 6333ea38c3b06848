"""Anchors chosen from a corpus: evenly spread over what the student sees, of all severities."""

import itertools
import shutil

import numpy as np
import pytest
from scipy import stats

from tests.fixtures import tiny_corpus
from tests.fixtures.known_qualities import KnowingEngine, video_of
from vqa_jax import loading
from vqa_jax.corpus.video_table import read_video_table, write_video_table
from vqa_jax.loop import anchors
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.anchors import ANCHOR_FILE, AnchorError, AnchorSet


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
