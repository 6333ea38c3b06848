"""One shard by itself: its hash, its order, and records that are read but make no sense."""

import dataclasses

import numpy as np
import pytest

from data_prep.verify import shards
from vqa_jax.corpus.shards import write_shard
from vqa_jax.jobs import files

FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def task(tmp_path) -> shards.ShardTask:
    return _written(tmp_path, FEATURES)


def _written(folder, features) -> shards.ShardTask:
    path = str(folder / "shard")
    rows = [{"video_id": k, "extractor": "x", "features": features} for k in ("a", "b")]
    shard = write_shard(path, "vqa_motion", rows)
    return shards.ShardTask(path, "vqa_motion", "vqa_motion", "train", 2, shard.sha256)


def _kinds(task: shards.ShardTask) -> list[str]:
    return [problem.kind for problem in shards.check_shard(task).problems]


def test_a_sound_shard_hands_its_rows_back_without_arrays(task):
    report = shards.check_shard(task)
    assert report.problems == ()
    assert report.rows == tuple({"video_id": k, "extractor": "x"} for k in ("a", "b"))


def test_a_shard_other_than_the_manifests_is_not_read(task, tmp_path):
    assert _kinds(dataclasses.replace(task, sha256="0" * 64)) == ["hash"]
    (tmp_path / "shard").unlink()
    assert _kinds(task) == ["missing"]


def test_records_are_those_of_the_sidecar_in_its_order(task):
    sidecar = files.read_json(task.path + ".json")
    files.write_json(task.path + ".json", {**sidecar, "ids": ["a", "c"]})
    assert _kinds(task) == ["schema"]
    files.write_json(task.path + ".json", {**sidecar, "ids": ["a"]})
    assert _kinds(task) == ["schema", "count"]


def test_features_that_are_no_numbers_are_named_one_by_one(tmp_path):
    assert _kinds(_written(tmp_path, np.full_like(FEATURES, np.nan))) == ["schema", "schema"]
