"""Shards: content in equals content out, whatever is interrupted; damage is noticed."""

import hashlib
import os

import numpy as np
import pytest

from vqa_jax.corpus import schemas
from vqa_jax.corpus import shards as records
from vqa_jax.corpus import store as store_lib
from vqa_jax.jobs import files
from vqa_jax.pairs.levels import LEVELS

RNG = np.random.default_rng(0)


def video(key: str, frames: int = 2) -> dict:
    return {
        "video_id": key,
        "source_id": "s",
        "path": "Ünder/視頻 1.mp4",
        "segment": 1,
        "start_frame": 2**40,
        "num_frames": 7,
        "fps": 23.976,
        "width": 96,
        "height": 64,
        "simulator": "h264",
        "level": 2,
        "effective": False,
        "parameter": '{"crf": 36}',
        "preprocess": "{}",
        "frames": RNG.integers(0, 256, (frames, 6, 8, 3), np.uint8),
    }


def pair(key: str, label: str) -> dict:
    means = {"first_mean": 1.5, "first_std": 0.25, "second_mean": -2.0, "second_std": 0.0}
    probs = np.array([0.1, 0.2, 0.3, 0.4, 0], np.float32)
    keys = {"pair_id": key, "first_id": "a", "second_id": "b", "label_source": "teachers"}
    return (
        keys
        | means
        | {
            "label": label,
            "level_probs": probs,
            "margin": -3.5,
            "normalized_margin": -1.25,
            "iteration": 2,
        }
    )


EXAMPLES = {
    "vqa_videos": video("v"),
    "vqa_clips": {"video_id": "v", "clips": RNG.integers(0, 256, (2, 4, 5, 5, 3), np.uint8)},
    "vqa_motion": {
        "video_id": "v",
        "extractor": "abc",
        "features": RNG.normal(size=(3, 4)).astype(np.float32),
    },
    "vqa_pairs": pair("p", "better"),
}


@pytest.mark.parametrize("kind", schemas.FEATURES)
def test_what_goes_in_comes_out(kind):
    example = EXAMPLES[kind]
    data = schemas.serialize(kind, example)
    assert data == schemas.serialize(kind, dict(reversed(example.items())))
    back = schemas.deserialize(kind, data)
    assert back.keys() == example.keys()
    for name, value in example.items():
        wanted = LEVELS.index(value) if name == "label" else value
        if isinstance(value, np.ndarray):
            assert back[name].dtype == value.dtype and back[name].shape == value.shape
            np.testing.assert_array_equal(back[name], value)
        elif isinstance(value, float):
            assert back[name] == np.float32(wanted)
        else:
            assert back[name] == wanted


def test_a_record_of_the_wrong_type_is_refused():
    with pytest.raises(Exception, match="uint8"):
        schemas.serialize("vqa_videos", video("v") | {"frames": np.zeros((1, 2, 2, 3), np.float32)})
    with pytest.raises(Exception, match="awful"):
        schemas.serialize("vqa_pairs", pair("p", "awful"))


def test_key_hash_is_the_head_of_sha256():
    assert files.key_hash("clip ü") == int(hashlib.sha256("clip ü".encode()).hexdigest()[:16], 16)
    assert files.key_hash("caf\udce9") == int(hashlib.sha256(b"caf\xe9").hexdigest()[:16], 16)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = str(tmp_path / "x.json")
    files.write_json(path, {"name": "caf\udce9 ü", "n": [1, 2]})
    with pytest.raises(TypeError):
        files.write_json(path, {"name": "new", "n": object()})
    assert files.read_json(path) == {"name": "caf\udce9 ü", "n": [1, 2]}
    assert os.listdir(tmp_path) == ["x.json"]
    with pytest.raises(files.CorpusError, match=r"y\.json is missing"):
        files.read_json(str(tmp_path / "y.json"))
    (tmp_path / "x.json").write_text('{"name": ')
    with pytest.raises(files.CorpusError, match=r"x\.json is not valid JSON"):
        files.read_json(path)


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


def _published(root, keys_of_shards: dict[str, list[list[str]]]) -> dict:
    work = root / "work"
    work.mkdir(exist_ok=True)
    shards = {}
    for split, groups in keys_of_shards.items():
        for k, keys in enumerate(groups):
            path = str(work / f"{split}{k}")
            records.write_shard(path, "vqa_videos", [video(key) for key in keys])
            shards.setdefault(split, []).append(path)
    return records.publish(str(root), "vqa_videos", "vqa_videos", shards)


def test_published_records_are_found_by_key(tmp_path):
    entry = _published(tmp_path, {"train": [["c", "a"], ["b"]], "heldout": [["d"]]})
    assert [row["records"] for row in entry["splits"]["train"]] == [2, 1]
    store = store_lib.RecordStore(str(tmp_path), "vqa_videos")
    assert sorted(store.ids) == ["a", "b", "c", "d"] and len(store) == 4
    assert [store[key]["video_id"] for key in "abcd"] == list("abcd")
    assert [r["video_id"] for r in store.records()] == store.ids
    train = store_lib.RecordStore(str(tmp_path), "vqa_videos", split="train")
    assert train.ids == ["c", "a", "b"] and "d" not in train
    with pytest.raises(KeyError):
        train["d"]
    with pytest.raises(files.CorpusError, match="no shards"):
        store_lib.RecordStore(str(tmp_path), "vqa_videos", split="test")


def test_publishing_again_replaces_everything(tmp_path):
    _published(tmp_path, {"train": [["a"], ["b"], ["c"]], "heldout": [["d"]]})
    entry = _published(tmp_path, {"train": [["a", "b"]]})
    folder = records.builder_dir(str(tmp_path), "vqa_videos")
    name = entry["splits"]["train"][0]["name"]
    assert set(os.listdir(folder)) == {name, name + ".json", "dataset_info.json", "features.json"}
    # Wherever the code moves: corpora are byte for byte what they were.
    info = files.read_json(os.path.join(folder, "dataset_info.json"))
    assert info["moduleName"] == "vqa_jax.records"
    assert store_lib.RecordStore(str(tmp_path), "vqa_videos").ids == ["a", "b"]
    assert files.read_json(os.path.join(folder, name + ".json"))["name"] == name


def test_publishing_without_hard_links(tmp_path, monkeypatch):
    linked = _published(tmp_path, {"train": [["a"]]})

    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    work = str(tmp_path / "work" / "train0")
    assert records.publish(str(tmp_path), "vqa_videos", "vqa_videos", {"train": [work]}) == linked
    assert os.path.exists(work)


def test_an_unfinished_shard_is_not_published(tmp_path):
    _published(tmp_path, {"train": [["a"]]})
    work = str(tmp_path / "work" / "train0")
    os.remove(work + ".json")
    with pytest.raises(files.CorpusError, match="incomplete"):
        records.publish(str(tmp_path), "vqa_videos", "vqa_videos", {"train": [work]})


@pytest.mark.parametrize("told", [True, False], ids=["size told", "size not told"])
def test_a_shorter_shard_is_not_published(tmp_path, told):
    _published(tmp_path, {"train": [["a"]]})
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
    entry = _published(tmp_path, {"train": [["a"], ["b"]]})
    monkeypatch.setattr(records, "file_sha256", None)
    shards = {"train": [str(tmp_path / "work" / f"train{k}") for k in range(2)]}
    assert records.publish(str(tmp_path), "vqa_videos", "vqa_videos", shards) == entry


def test_missing_shards_are_named(tmp_path):
    entry = _published(tmp_path, {"train": [["a"], ["b"]]})
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


def test_one_job_at_a_time(tmp_path):
    folder = str(tmp_path / "corpus")
    with (
        files.exclusive(folder),
        pytest.raises(files.CorpusError, match="in use"),
        files.exclusive(folder),
    ):
        pass
    with files.exclusive(folder):
        pass


def test_only_leftovers_of_killed_jobs_are_removed(tmp_path):
    for name in ("a.json.123.tmp", "b.array_record.4.tmp", "notes.tmp", "c.json", "d.12.tmp.json"):
        (tmp_path / name).write_text("x")
    files.remove_temporary(str(tmp_path))
    assert set(os.listdir(tmp_path)) == {"notes.tmp", "c.json", "d.12.tmp.json"}
