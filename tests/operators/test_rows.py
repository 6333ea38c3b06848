"""Columns of rows: those of `score`, for paths, bytes and frames, and a reason for what is none."""

import pathlib
import types

import numpy as np
import pytest

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import loading
from vqa_jax.media import decode
from vqa_jax.operators.rows import COLUMNS, RowScorer
from vqa_jax.settings import SettingsError


def test_every_kind_of_video_has_the_score_of_its_file(clips, known, snippet):
    frames = decode.read_segment(clips[1], 0, 20)
    data = pathlib.Path(clips[2]).read_bytes()
    odd = [None, frames.astype(float), frames, 5.0, np.array([])]
    scorer = RowScorer(known, column="clip", fps="rate")
    rows = scorer.columns([*clips, data, frames, *odd], [0] * 5 + [10.0, 10.0, 10.0, "x", 1, 1])
    expected = loading.load(known).score_many([*clips[:3], clips[2], clips[1]])
    for row, result in zip([*rows[:3], *rows[4:6]], expected, strict=True):
        assert tuple(row) == COLUMNS and row["error"] == "" and row["scale"] == result.scale
        found = row["score"], row["std"]
        np.testing.assert_allclose(found, (result.score, result.std), **TOLERANCES["operators"])
    assert "not a media file" in rows[3]["error"] and np.isnan(rows[3]["score"])
    reasons = [row["error"] for row in rows[6:]]
    assert "NoneType" in reasons[0] and "float64" in reasons[1] and "fps is None" in reasons[2]
    assert "float" in reasons[3] and "give uint8" in reasons[4]
    assert all(np.isnan(row["score"]) and row["model"] for row in rows[6:])

    assert scorer.needed({"clip", "rate", "more"}) == ("clip", "rate")
    with pytest.raises(SettingsError, match="no column 'rate', but clip, more"):
        scorer.needed(["clip", "more"])
    with pytest.raises(SettingsError, match="'notes' already"):
        scorer.needed(["clip", "rate", "notes"])

    reward = snippet("A reward", known)["reward"](np.stack([frames, frames]), fps=10.0)
    assert reward.dtype == np.float32
    np.testing.assert_allclose(reward, expected[4].score, rtol=1e-6)


def test_a_filter_of_clips_keeps_the_good_and_tells_why_others_are_none(clips, known, snippet):
    task = types.SimpleNamespace(data=types.SimpleNamespace(filtered_clips=[]))
    task.data.clips = [
        types.SimpleNamespace(buffer=pathlib.Path(path).read_bytes(), errors={}) for path in clips
    ]
    good, middle, bad, none = task.data.clips
    stage = snippet("A filter", known)["QualityFilterStage"](threshold=50.0)
    stage.setup()
    video = stage.process(task).data
    assert good in video.clips and bad in video.filtered_clips
    assert good.quality_score > middle.quality_score > bad.quality_score
    assert none in video.filtered_clips and none.quality_score is None
    assert "media file" in none.errors["quality"] and not good.errors
