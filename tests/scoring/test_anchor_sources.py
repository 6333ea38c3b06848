"""Anchors chosen from a scored pool."""

import numpy as np
import pytest

from vqa_jax.benchmarks.labels import read_labels
from vqa_jax.cli import main
from vqa_jax.scoring import anchor_sources


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
    for bad, num in ((np.array([1.0, 1.1, 5.0]), 3), (np.array([1.0, 2.0]), 5), (scores, 1)):
        with pytest.raises(ValueError):
            anchor_sources.choose_from_pool(bad, np.full(len(bad), np.nan), num)


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
    assert main.main([*arguments, "--videos", str(tmp_path)]) == 1
    assert "1.mp4" in capsys.readouterr().err
