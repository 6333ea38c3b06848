"""Light teachers on the stored key frames of a corpus, neural ones on the views that it keeps."""

import csv
import hashlib
import os
import shutil

import numpy as np
import pytest

from data_prep.prepare.job import build
from tests.fixtures import broken_files, prep_corpus, tiny_records
from tests.fixtures import light_teachers as made
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.corpus import shards, store, video_table
from vqa_jax.jobs.files import CorpusError, write_json
from vqa_jax.teachers import corpus_job, job, looks
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
        corpus_job.check(_corpus(tmp_path, "crops"), ["light_colour"])


class Digest:
    """Instead of DOVER: a number that any other pixel of its views would change."""

    name, higher_is_better, fingerprint = "dover", True, "dover-1"

    def views(self, info, seed):
        return {name: looks.VIEWS[name](info, seed) for name in looks.LOOKS[self.name]}

    def reduce(self, cuts):
        digest = hashlib.sha256(b"".join(cuts[name].tobytes() for name in sorted(cuts)))
        return int.from_bytes(digest.digest()[:4], "big")

    def score(self, kept):
        return np.array(kept, np.float64)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Two short videos, and a corpus of them that keeps DOVER's views."""
    folder, data = (tmp_path_factory.mktemp(name) for name in ("videos", "corpus"))
    for k in range(2):
        moving = broken_files.moving_frames(20 + k, 226, 240)
        broken_files.encode(folder / f"{k}.mp4", np.roll(moving, 7 * k, 2))
    whole = {"segment_seconds": 0.0, "segments_per_source": 1, "window": (0, 0), "seed": 3}
    fit = prep_corpus.settings()["preprocess"] | {"view": "fit", "image_size": 32}
    views = {"teacher_views": ("dover",), "simulators": ("stutter",), "preprocess": fit}
    config = prep_corpus.config(**views, **whole)
    build(str(folder), str(data), config)
    return str(folder), str(data)


def _told(out) -> dict[str, dict]:
    with open(out / job.TABLE_CSV, encoding="utf-8", newline="") as text:
        return {row["video"]: row for row in csv.DictReader(text)}


def test_sources_get_the_scores_of_their_files_and_versions_their_own(prepared, tmp_path):
    folder, data = prepared
    listed = job.list_videos([folder])
    job.run(listed, [Digest()], str(tmp_path / "files"), job.JobConfig(seed=3))
    for process in (1, 0):
        found = corpus_job.run(data, [Digest()], str(tmp_path / "corpus"), "", process, 2)
    rows = video_table.read_video_table(data)
    assert (found.scored, found.missing) == (len(rows), 0)
    of_files, of_videos = _told(tmp_path / "files"), _told(tmp_path / "corpus")
    sources = {row["path"]: row["video_id"] for row in rows if not row["level"]}
    assert sources.keys() == of_files.keys() == {"0.mp4", "1.mp4"}
    for path, key in sources.items():
        assert of_videos[key]["dover"] == of_files[path]["dover"]
    assert len({row["dover"] for row in of_videos.values()}) == len(rows) == 8


def test_light_and_neural_teachers_share_a_table(prepared, tmp_path):
    _, data = prepared
    light = teacher.load(made.save(tmp_path))
    (tmp_path / "oof.csv").write_text("path,fold\n1.jpg,1\nother.jpg,0\n")
    out = tmp_path / "both"
    found = corpus_job.run(data, [light, Digest()], str(out), str(tmp_path / "oof.csv"))
    assert found.missing == 0
    paths = {row["video_id"]: row["path"] for row in video_table.read_video_table(data)}
    for key, row in _told(out).items():
        known = paths[key] == "1.mp4"  # the only one that the light teacher's table names
        assert bool(row["light_colour"]) == known and row["dover"]
        assert (row["notes"] == "out of fold 1") == known == (not row["error"])


def test_views_that_are_not_kept_are_named_with_their_remedy(prepared, tmp_path):
    _, data = prepared
    with pytest.raises(CorpusError, match=r"does not hold vqa_views_fragments_4.*teacher_views"):
        corpus_job.check(data, ["dover", "fast_vqa"])
    gone = tmp_path / "gone"
    shutil.copytree(data, gone)
    shutil.rmtree(gone / "vqa_views_aesthetic")
    corpus_job.check(str(gone), ["dover_technical"])
    with pytest.raises(CorpusError, match="no longer holds vqa_views_aesthetic"):
        corpus_job.check(str(gone), ["dover"])
