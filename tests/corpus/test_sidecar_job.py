"""A dataset that follows from another one: shared, resumed by shard, published once, told apart."""

import os

import numpy as np
import pytest

from tests.fixtures import tiny_records
from vqa_jax.corpus import shards as records
from vqa_jax.corpus.sidecar_job import Outcome, Sidecar, SidecarJob
from vqa_jax.corpus.store import RecordStore
from vqa_jax.jobs import files
from vqa_jax.jobs.ranges import Share

KEYS = {"heldout": [["h1"]], "train": [["a", "b"], ["c"], ["d", "e", "f"]]}
VIDEOS = 7


class FailureError(Exception):
    """Stands for a process that dies."""


@pytest.fixture
def data(tmp_path) -> str:
    """A corpus of four shards, and as much of its manifest as the job reads."""
    entry = tiny_records.published(tmp_path, KEYS)
    manifest = {"video_table_sha256": "of a table", "datasets": {"vqa_videos": entry}}
    files.write_json(str(tmp_path / records.MANIFEST), manifest)
    return str(tmp_path)


def means(seen: list[str], dies_at: str = "", extractor: str = "first") -> Sidecar:
    """Mean colours of the frames; tells the videos that it was given."""

    def compute(videos):
        for video in videos:
            seen.append(video["video_id"])
            if video["video_id"] == dies_at:
                raise FailureError
            features = video["frames"].mean((1, 2)).astype(np.float32)
            yield {"video_id": video["video_id"], "extractor": extractor, "features": features}

    identity = {"extractor": extractor}
    return Sidecar("means", "vqa_videos", "vqa_motion", identity, compute, ("videos", "means"))


def run(data: str, sidecar: Sidecar, process: int = 0, processes: int = 1) -> Outcome:
    return SidecarJob(data, sidecar).run(Share(process, processes))[0]


def published(data: str) -> dict:
    return files.read_json(os.path.join(data, "means.json"))


def test_every_record_has_one_of_its_own_in_its_split(data):
    seen = []
    job = SidecarJob(data, means(seen))
    assert not job.is_published()
    outcome, manifest = job.run(Share())
    assert outcome == Outcome(VIDEOS, 0) and manifest == published(data)
    assert job.is_published() and seen == ["h1", *"abcdef"]
    for split, groups in KEYS.items():
        source = RecordStore(data, "vqa_videos", split=split)
        found = RecordStore(data, "vqa_motion", split=split)
        assert found.ids == source.ids == [key for group in groups for key in group]
        for key in found.ids:
            wanted = source[key]["frames"].mean((1, 2))
            np.testing.assert_allclose(found[key]["features"], wanted, rtol=1e-6)
    sizes = manifest["bytes_per_video"]
    assert sizes.keys() == {"videos", "means"} and min(sizes.values()) > 0
    cost = files.read_json(os.path.join(data, "means_cost.json"))
    assert cost["timed"] == VIDEOS and cost["seconds_per_video"] >= 0
    assert run(data, means(seen)) == Outcome(VIDEOS, 0)
    assert len(seen) == VIDEOS  # complete is complete


def test_a_run_that_died_repeats_the_shard_in_hand_alone(data):
    seen = []
    with pytest.raises(FailureError):
        run(data, means(seen, dies_at="e"))
    assert seen == ["h1", *"abcde"] and not os.path.exists(os.path.join(data, "means.json"))
    seen = []
    assert run(data, means(seen)) == Outcome(VIDEOS, 0)
    assert seen == list("def")


def test_whoever_is_last_publishes_what_one_process_would(data):
    run(data, means([]))
    alone = published(data)
    os.remove(os.path.join(data, "means.json"))
    assert run(data, means([]), 1, 2).missing == 2
    assert not os.path.exists(os.path.join(data, "means.json"))
    outcome = run(data, means([]), 0, 2)
    assert outcome == Outcome(VIDEOS, 0) and published(data) == alone


def test_other_work_is_done_again_and_replaces_what_was_published(data):
    run(data, means([]))
    first = published(data)
    seen = []
    run(data, means(seen, extractor="second"))
    assert len(seen) == VIDEOS and published(data) != first
    assert RecordStore(data, "vqa_motion")["h1"]["extractor"] == "second"
    manifest = files.read_json(os.path.join(data, records.MANIFEST))
    files.write_json(
        os.path.join(data, records.MANIFEST), {**manifest, "video_table_sha256": "of another"}
    )
    assert not SidecarJob(data, means([], extractor="second")).is_published()


def test_an_unprepared_corpus_and_a_wrong_number_are_refused(data, tmp_path):
    with pytest.raises(files.CorpusError, match="number the processes 0 to 1"):
        run(data, means([]), 2, 2)
    with pytest.raises(files.CorpusError, match=records.MANIFEST):
        SidecarJob(str(tmp_path / "nowhere"), means([]))


def test_a_shard_that_is_gone_is_named_before_the_work(data):
    seen = []
    name = records.shard_name("vqa_videos", "train", 2, 3)
    os.remove(os.path.join(records.builder_dir(data, "vqa_videos"), name))
    with pytest.raises(files.CorpusError, match=f"{name} is missing, though its manifest"):
        run(data, means(seen))
    assert not seen
