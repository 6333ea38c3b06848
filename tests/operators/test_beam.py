"""Beam: rows in, the same rows with scores out, in process."""

import json

import apache_beam as beam
import numpy as np

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import loading
from vqa_jax.operators.beam import VideoHandler
from vqa_jax.operators.rows import COLUMNS


def test_a_pipeline_gives_the_scores_of_score(clips, known, snippet, tmp_path):
    folder = str(tmp_path / "out" / "rows")
    snippet("Apache Beam", known, beam=beam, json=json, paths=clips, folder=folder)
    parts = (tmp_path / "out").iterdir()
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    expected = {r.path: r for r in loading.load(known).score_many(clips)}
    assert sorted(row["path"] for row in rows) == sorted(clips)
    for row in rows:
        assert tuple(row) == ("path", *COLUMNS)
        result = expected[row["path"]]
        assert row["error"] == (result.error or "") and row["model"] == result.model
        numbers = [np.nan if v is None else v for v in (result.score, result.std)]
        found = row["score"], row["std"]
        np.testing.assert_allclose(found, numbers, **TOLERANCES["operators"])


def test_what_is_encoded_or_frames_counts_as_bytes():
    rows = [{"path": "a.mp4", "n": 1}, {"path": b"1234"}, {"path": np.zeros(8, np.uint8)}]
    assert VideoHandler().get_num_bytes(rows) == 12
