"""One shard by itself: its hash, its order, and records that are read but make no sense."""

import dataclasses

import numpy as np
import pytest

from data_prep.verify import shards
from tests.fixtures import cell_student, tiny_records
from vqa_jax.corpus import view_coding
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


def _of_kind(folder, kind, rows) -> shards.ShardTask:
    path = str(folder / kind)
    shard = write_shard(path, kind, rows)
    return shards.ShardTask(path, kind, kind, "train", len(rows), shard.sha256)


@pytest.mark.parametrize(
    ("shape", "sound"), [((64, 64), 1), ((96, 64), 1), ((64, 128), 1), ((64, 80), 0), ((96, 96), 0)]
)
def test_fitted_frames_have_one_of_the_views_shapes(shape, sound, tmp_path):
    frames = np.zeros((2, *shape, 3), np.uint8)
    video = tiny_records.video("a")
    video |= {"preprocess": cell_student.PREPROCESS.to_json(), "frames": frames}
    assert _kinds(_of_kind(tmp_path, "vqa_videos", [video])) == ["schema"] * (1 - sound)


def test_tokens_are_numbers_and_tell_their_tower(tmp_path):
    record = tiny_records.EXAMPLES["vqa_tokens"]
    report = shards.check_shard(_of_kind(tmp_path, "vqa_tokens", [record]))
    assert report.problems == ()
    assert report.rows == ({"video_id": "v", "tower": record["tower"]},)
    broken = record["frames"].copy()
    broken[0, 0, 0] = np.inf
    assert _kinds(_of_kind(tmp_path, "vqa_tokens", [{**record, "frames": broken}])) == ["schema"]


def test_views_are_decoded(tmp_path):
    coder, picture = view_coding.Encoder(), np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    order = np.array([coder.add(picture)], np.int32)
    coded = np.frombuffer(coder.taken(), np.uint8)
    record = {"video_id": "v", "view": "aesthetic", "order": order, "coded": coded}
    record |= coder.fields()
    report = shards.check_shard(_of_kind(tmp_path, "vqa_views", [record]))
    assert report == shards.ShardReport((), ({"video_id": "v", "view": "aesthetic"},))
    for broken in ({"coded": record["coded"][:-9]}, {"order": order + 1}):
        (tmp_path / "vqa_views").unlink()
        assert _kinds(_of_kind(tmp_path, "vqa_views", [{**record, **broken}])) == ["schema"]
