"""Light teachers on the stored key frames of a corpus."""

import csv
import os

import numpy as np
import pytest

from tests.fixtures import light_teachers as made
from tests.fixtures import tiny_records
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.corpus import shards, store
from vqa_jax.jobs.files import CorpusError, write_json
from vqa_jax.teachers import corpus_job, job
from vqa_jax.teachers.light import teacher

_PATH = tiny_records.video("v")["path"]  # of every record there


def _corpus(root, view="fit"):
    dataset = tiny_records.published(root, {"train": [["a", "b"], ["c"]], "heldout": [["d"]]})
    manifest = {
        "video_table_sha256": "0" * 64,
        "datasets": {"vqa_videos": dataset},
        "settings": {"preprocess": {"view": view}},
    }
    write_json(str(root / shards.MANIFEST), manifest)
    return str(root)


def test_every_video_is_scored_by_the_regression_of_its_fold(tmp_path):
    data, out = _corpus(tmp_path), tmp_path / "scores"
    light = teacher.load(made.save(tmp_path))
    (tmp_path / "oof.csv").write_text(f"path,fold\n{os.path.basename(_PATH)},1\nother.jpg,0\n")
    folds = str(tmp_path / "oof.csv")
    left = corpus_job.run(data, [light], str(out), folds, process=0, processes=2)
    assert left.missing
    done = corpus_job.run(data, [light], str(out), folds, process=1, processes=2)
    assert (done.scored, done.failed, done.missing) == (4, 0, 0)
    with open(out / job.TABLE_CSV) as text:
        rows = {row["video"]: row for row in csv.DictReader(text)}
    assert rows.keys() == set("abcd")
    videos = store.RecordStore(data, "vqa_videos")
    for key, row in rows.items():
        assert row["notes"] == "out of fold 1"
        wanted = light.score([videos[key]["frames"]], [1])[0]
        # Sums of other videos in the same call.
        np.testing.assert_allclose(
            float(row["light_colour"]), wanted, **TOLERANCES["scores_and_losses"]
        )
    with pytest.raises(CorpusError, match="other folds"):
        corpus_job.run(data, [light], str(out))


def test_a_corpus_of_tiles_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="view"):
        corpus_job.run(_corpus(tmp_path, "crops"), [], str(tmp_path / "scores"))
