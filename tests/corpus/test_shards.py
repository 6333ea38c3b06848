"""Shards: content in equals content out, whatever is interrupted; damage is noticed."""

import hashlib
import os

import pytest

from tests.fixtures.tiny_records import published, video
from vqa_jax.corpus import shards as records
from vqa_jax.corpus import store as store_lib
from vqa_jax.jobs import files


def test_a_shard_appears_only_when_finished(tmp_path):
    path = str(tmp_path / "shard")
    with (
        pytest.raises(RuntimeError, match="disk"),
        records.ShardWriter(path, "vqa_videos") as writer,
    ):
        writer.write(video("a"))
        raise RuntimeError("disk")
    assert os.listdir(tmp_path) == []
    assert records.write_shard(path, "vqa_videos", []) is None
    assert os.listdir(tmp_path) == []
    shard = records.write_shard(path, "vqa_videos", [video("a"), video("b")])
    assert shard.sha256 == hashlib.sha256((tmp_path / "shard").read_bytes()).hexdigest()
    assert (shard.records, shard.ids) == (2, ("a", "b"))
    assert records.finished_shard(path) == shard


def test_a_changed_or_lost_byte_is_noticed(tmp_path):
    path = tmp_path / "shard"
    records.write_shard(str(path), "vqa_videos", [video("a")])
    data = path.read_bytes()
    for damaged in (data[:-1], data[:100] + bytes([data[100] ^ 1]) + data[101:]):
        path.write_bytes(damaged)
        assert records.finished_shard(str(path)) is None
    path.write_bytes(data)
    assert records.finished_shard(str(path)) is not None
    os.remove(f"{path}.json")
    assert records.finished_shard(str(path)) is None


def test_publishing_again_replaces_everything(tmp_path):
    published(tmp_path, {"train": [["a"], ["b"], ["c"]], "heldout": [["d"]]})
    entry = published(tmp_path, {"train": [["a", "b"]]})
    folder = records.builder_dir(str(tmp_path), "vqa_videos")
    name = entry["splits"]["train"][0]["name"]
    assert set(os.listdir(folder)) == {name, name + ".json", "dataset_info.json", "features.json"}
    # Wherever the code moves: corpora are byte for byte what they were.
    info = files.read_json(os.path.join(folder, "dataset_info.json"))
    assert info["moduleName"] == "vqa_jax.records"
    assert store_lib.RecordStore(str(tmp_path), "vqa_videos").ids == ["a", "b"]
    assert files.read_json(os.path.join(folder, name + ".json"))["name"] == name


def test_publishing_without_hard_links(tmp_path, monkeypatch):
    linked = published(tmp_path, {"train": [["a"]]})

    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    work = str(tmp_path / "work" / "train0")
    assert records.publish(str(tmp_path), "vqa_videos", "vqa_videos", {"train": [work]}) == linked
    assert os.path.exists(work)


def test_an_unfinished_shard_is_not_published(tmp_path):
    published(tmp_path, {"train": [["a"]]})
    work = str(tmp_path / "work" / "train0")
    os.remove(work + ".json")
    with pytest.raises(files.CorpusError, match="incomplete"):
        records.publish(str(tmp_path), "vqa_videos", "vqa_videos", {"train": [work]})


@pytest.mark.parametrize("told", [True, False], ids=["size told", "size not told"])
def test_a_shorter_shard_is_not_published(tmp_path, told):
    published(tmp_path, {"train": [["a"]]})
    work = tmp_path / "work" / "train0"
    sidecar = files.read_json(f"{work}.json")
    assert sidecar["num_bytes"] == work.stat().st_size
    if not told:  # as written by earlier versions: then the bytes are hashed
        del sidecar["num_bytes"]
        files.write_json(f"{work}.json", sidecar)
    records.publish(str(tmp_path), "vqa_videos", "vqa_videos", {"train": [str(work)]})
    work.write_bytes(work.read_bytes()[:-1])
    with pytest.raises(files.CorpusError, match="incomplete"):
        records.publish(str(tmp_path), "vqa_videos", "vqa_videos", {"train": [str(work)]})


def test_publishing_reads_no_shard(tmp_path, monkeypatch):
    entry = published(tmp_path, {"train": [["a"], ["b"]]})
    monkeypatch.setattr(records, "file_sha256", None)
    shards = {"train": [str(tmp_path / "work" / f"train{k}") for k in range(2)]}
    assert records.publish(str(tmp_path), "vqa_videos", "vqa_videos", shards) == entry


def test_missing_shards_are_named(tmp_path):
    entry = published(tmp_path, {"train": [["a"], ["b"]]})
    records.check_present(str(tmp_path), {"vqa_videos": entry})
    folder = records.builder_dir(str(tmp_path), "vqa_videos")
    lost = entry["splits"]["train"][1]["name"]
    os.remove(os.path.join(folder, lost))
    with pytest.raises(files.CorpusError, match=lost):
        records.check_present(str(tmp_path), {"vqa_videos": entry})
    # Motion clips may be gone, but only as a whole.
    clips = {"vqa_clips": entry | {"kind": "vqa_clips"}}
    records.check_present(str(tmp_path), clips)
    os.makedirs(records.builder_dir(str(tmp_path), "vqa_clips"))
    with pytest.raises(files.CorpusError, match=entry["splits"]["train"][0]["name"]):
        records.check_present(str(tmp_path), clips)


@pytest.mark.parametrize("moment", ["write", "close"])
def test_a_full_disk_is_an_error_of_the_system_and_leaves_no_file(tmp_path, monkeypatch, moment):
    """As ArrayRecord tells it: a RuntimeError, whose text holds the reason."""
    path = str(tmp_path / "shard")

    class Full:
        def __init__(self, name, options):
            open(name, "w").close()

        def write(self, data):
            self._fail("write")

        def close(self):
            self._fail("close")

        def _fail(self, now):
            if now == moment:
                raise RuntimeError(f"{now}() failed: No space left on device; writing x")

    monkeypatch.setattr(records.array_record_module, "ArrayRecordWriter", Full)
    with pytest.raises(OSError, match="No space left on device") as error:
        records.write_shard(path, "vqa_videos", [video("a")])
    assert error.value.filename == path and not list(tmp_path.iterdir())
