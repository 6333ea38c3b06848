"""Anchors chosen from a scored pool."""

import numpy as np
import pytest

from vqa_jax.benchmarks.labels import read_labels
from vqa_jax.cli import main
from vqa_jax.scoring import anchor_sources
from vqa_jax.scoring.anchors import AnchorError


def test_each_bin_gives_the_video_about_which_ratings_agree_most():
    rng = np.random.default_rng(0)
    scores, std = rng.uniform(1, 5, 400), rng.uniform(0.1, 1, 400)
    edges = np.linspace(scores.min(), scores.max(), 6)
    for k, i in enumerate(anchor_sources.choose_from_pool(scores, std, 5)):
        inside = (scores >= edges[k]) & (scores <= edges[k + 1])
        assert inside[i] and std[i] == std[inside].min()
    # Without deviations: the nearest to the bins' middles.
    assert anchor_sources.choose_from_pool(np.arange(11.0), np.full(11, np.nan), 2) in (
        [2, 7],
        [3, 7],
        [2, 8],
    )
    for bad, num in ((np.array([2.0, 2.0]), 3), (np.array([]), 5), (scores, 1)):
        with pytest.raises(ValueError):
            anchor_sources.choose_from_pool(bad, np.full(len(bad), np.nan), num)


def test_a_gap_in_the_pool_makes_fewer_anchors_of_other_bins():
    choose = anchor_sources.choose_from_pool
    assert choose(np.array([5.0, 1.0, 1.1]), np.array([0.1, 0.3, 0.2]), 3) == [2, 0]
    assert choose(np.array([1.0, 2.0]), np.full(2, np.nan), 5) == [0, 1]
    assert choose(np.array([1.0, 2.0, 4.0, 5.0]), np.full(4, np.nan), 4) == [0, 1, 2]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(("column", "arbitrary"), [("mos", False), ("score", True)])
def test_a_table_of_any_delimiter_says_whether_people_scored(
    delimiter, column, arbitrary, tmp_path
):
    table = tmp_path / "anchors.csv"
    table.write_text(f"path,{column}\nb,3\na,1.5\n".replace(",", delimiter), encoding="utf-8")
    anchors = anchor_sources.read_anchors(table, lambda path: path)
    assert (anchors.names, anchors.scores) == (("a", "b"), (1.5, 3))
    assert anchors.inputs == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert anchors.arbitrary == arbitrary


def test_anchor_rows_that_contradict_name_both(tmp_path):
    table = tmp_path / "anchors.csv"
    table.write_text("path,mos\na,1\nb,2\na,4\n", encoding="utf-8")
    with pytest.raises(AnchorError, match="row 4: 'a' has the score 4, in row 2 it had 1"):
        anchor_sources.read_anchors(table, lambda path: path)


def test_the_command_writes_a_table_that_scoring_reads(tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    for k in range(6):
        (videos / f"{k}.mp4").touch()
    pool, out = tmp_path / "pool.csv", tmp_path / "new" / "anchors.csv"
    pool.write_text("path,mos,std\n" + "".join(f"{k}.mp4,{k},{0.1 * (6 - k)}\n" for k in range(6)))
    arguments = ["choose_anchors", "--pool", str(pool), "--out", str(out), "--num", "3"]
    assert main.main([*arguments, "--videos", str(videos)]) == 0
    assert "../videos/5.mp4" in capsys.readouterr().out
    found = read_labels(out)
    assert found.names == tuple(f"../videos/{k}.mp4" for k in (1, 3, 5))
    np.testing.assert_array_equal(found.mos, (1, 3, 5))
    assert main.main([*arguments[:-1], "9", "--videos", str(videos)]) == 0
    assert "(6 of 9: the pool has gaps)" in capsys.readouterr().out
    assert main.main([*arguments, "--videos", str(tmp_path)]) == 1
    assert "1.mp4" in capsys.readouterr().err
