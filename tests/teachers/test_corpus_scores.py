"""The teachers' votes: imported scores found by name, directions, what cannot vote."""

import numpy as np
import pytest

from tests.fixtures import hand_table
from vqa_jax.benchmarks.score_tables import ScoresError, ScoreTable
from vqa_jax.teachers import corpus_scores


def table(scores: dict[str, dict[str, float]]) -> ScoreTable:
    """Teacher -> video -> score, higher is better, as a table."""
    videos = sorted(set().union(*scores.values()))
    values = [[row.get(video, np.nan) for row in scores.values()] for video in videos]
    return ScoreTable(
        np.array(videos, object), tuple(scores), (True,) * len(scores), np.array(values)
    )


def test_imported_scores_are_found_by_id_path_and_name():
    rows = [r for r in hand_table.rows() if r["split"] == "train"]
    source = rows[0]
    assert source["level"] == 0
    for name in (source["video_id"], source["path"], "clip s1.mp4", "clip s1"):
        others = {r["video_id"]: 5.0 for r in rows if r["level"]}
        united = corpus_scores.united_votes(rows, table({"model": {name: 1.0, **others}}), "rank")
        assert united.names == ("noise", "sharpness", "model")
        assert united.scores.shape == (len(rows), 3)
        column = united.scores[:, 2]
        # The worst of all, and a path is shared by the source's segments but by no distorted one.
        assert column[0] == np.nanmin(column) < np.nanmax(column)
        lowest = [r["level"] for r, v in zip(rows, column, strict=True) if v == column[0]]
        assert lowest == ([0] if name == source["video_id"] else [0, 0])


def test_directions_of_built_in_teachers():
    """Sharpness falls and noise rises with the level: both must say worse."""
    rows = [r for r in hand_table.rows() if r["source_id"] == "s1" and r["segment"] == 0]
    united = corpus_scores.united_votes(rows, None, "rank")
    assert united.names == ("noise", "sharpness")
    np.testing.assert_allclose(united.scores[:, 0], united.scores[:, 1])
    levels = np.array([r["level"] for r in rows])
    assert united.scores[levels.argmin(), 0] == united.scores[:, 0].max()


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"model": {"another clip.mp4": 3.0}}, "scores none of the"),
        ({"noise": {"clip s1": 3.0}}, "is built in"),
    ],
)
def test_scores_that_cannot_vote_are_refused(scores, words):
    rows = hand_table.rows()
    with pytest.raises(ScoresError, match=words):
        corpus_scores.united_votes(rows, table(scores), "rank")
