"""The store: published records by their keys."""

import os

import numpy as np
import pytest

from tests.fixtures import tiny_corpus, tiny_records
from tests.fixtures.tiny_records import published
from vqa_jax.corpus import shards
from vqa_jax.corpus import store as store_lib
from vqa_jax.jobs import files


def test_published_records_are_found_by_key(tmp_path):
    entry = published(tmp_path, {"train": [["c", "a"], ["b"]], "heldout": [["d"]]})
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


def test_a_missing_shard_is_named_by_what_the_others_names_say(tmp_path):
    entry = published(tmp_path, {"train": [["c", "a"], ["b"]], "heldout": [["d"]]})
    folder = shards.builder_dir(str(tmp_path), "vqa_videos")
    lost = entry["splits"]["train"][0]["name"]
    os.remove(os.path.join(folder, lost))
    for split in (None, "train"):
        with pytest.raises(files.CorpusError, match=f"{lost} is missing: restore it"):
            store_lib.RecordStore(str(tmp_path), "vqa_videos", split=split)
    assert store_lib.RecordStore(str(tmp_path), "vqa_videos", split="heldout").ids == ["d"]
    for index in range(2):  # of another publication
        name = shards.shard_name("vqa_videos", "heldout", index, 2)
        (tmp_path / "vqa_videos" / "1.0.0" / name).write_bytes(b"")
    with pytest.raises(files.CorpusError, match=r"shards of \[1, 2\] parts"):
        store_lib.RecordStore(str(tmp_path), "vqa_videos", split="heldout")


def test_a_missing_split_is_named_by_the_manifest(tmp_path):
    data = tiny_corpus.write_corpus(str(tmp_path))
    folder = shards.builder_dir(data, "vqa_videos")
    splits = {
        split: [{"name": shards.shard_name("vqa_videos", split, 0, 1), "records": 1}]
        for split in ("train", "heldout")
    }
    entry = {"vqa_videos": {"kind": "vqa_videos", "splits": splits}}
    files.write_json(os.path.join(data, shards.MANIFEST), {"datasets": entry})
    store_lib.VideoStore(data, tiny_corpus.EXTRACTOR)
    lost = splits["heldout"][0]["name"]
    os.remove(os.path.join(folder, lost))
    with pytest.raises(files.CorpusError, match=f"{lost} is missing, though its manifest"):
        store_lib.VideoStore(data, tiny_corpus.EXTRACTOR)


def test_a_video_whose_shard_nobody_lists_is_named(tmp_path):
    data = tiny_corpus.write_corpus(str(tmp_path))
    folder = shards.builder_dir(data, "vqa_videos")
    os.remove(os.path.join(folder, shards.shard_name("vqa_videos", "train", 0, 1)))
    store = store_lib.VideoStore(data, tiny_corpus.EXTRACTOR)
    key = tiny_corpus.video_id(0, 1)
    for ask in (store.place, lambda key: store[key]):
        with pytest.raises(files.CorpusError, match=f"no record of {key}"):
            ask(key)


@pytest.mark.parametrize("command", ["motion", "tokens"])
def test_what_networks_made_of_an_earlier_build_is_told(tmp_path, command):
    data = tiny_corpus.write_corpus(str(tmp_path))
    corpus = {"datasets": {}, "video_table_sha256": "of this build"}
    files.write_json(os.path.join(data, shards.MANIFEST), corpus)
    path = os.path.join(data, f"{command}.json")
    files.write_json(path, {"identity": {"corpus": "of this build"}})
    store_lib.VideoStore(data, tiny_corpus.EXTRACTOR)
    files.write_json(path, {"identity": {"corpus": "of another"}})
    with pytest.raises(files.CorpusError, match=f"another build.*vqa_jax {command}"):
        store_lib.VideoStore(data, tiny_corpus.EXTRACTOR)


def test_damaged_records_name_their_shard(tmp_path):
    """Every flipped bit of a shard is noticed, or changes no record."""
    entry = published(tmp_path, {"train": [["c"], ["a", "b"]]})
    name = entry["splits"]["train"][1]["name"]
    path = os.path.join(shards.builder_dir(str(tmp_path), "vqa_videos"), name)
    with open(path, "rb") as file:
        whole = file.read()
    store = store_lib.RecordStore(str(tmp_path), "vqa_videos")
    before = {key: plain(store[key]) for key in "ab"}
    rng, noticed = np.random.default_rng(0), 0
    used = np.flatnonzero(np.frombuffer(whole, np.uint8))  # most of a small shard is padding
    for place in rng.choice(used, 20):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        with open(path, "wb") as file:
            file.write(damaged)
        try:
            found = store_lib.RecordStore(str(tmp_path), "vqa_videos")
            assert found["c"]["video_id"] == "c"
            assert {key: plain(found[key]) for key in "ab"} == before
        except files.CorpusError as error:
            assert f"{name} is damaged" in str(error) and "restore it" in str(error)
            noticed += 1
    assert noticed > 10


def plain(record):
    """A record without arrays."""
    return {name: np.asarray(value).tolist() for name, value in record.items()}


def test_other_pictures_under_the_same_keys_have_another_digest(tmp_path):
    keys = {"train": [["a"], ["b"]]}
    published(tmp_path, keys)
    first = store_lib.RecordStore(str(tmp_path), "vqa_videos").digest()
    assert store_lib.RecordStore(str(tmp_path), "vqa_videos").digest() == first
    published(tmp_path, keys)  # draws other pictures
    second = store_lib.RecordStore(str(tmp_path), "vqa_videos").digest()
    assert second != first
    folder = shards.builder_dir(str(tmp_path), "vqa_videos")
    path = os.path.join(folder, shards.shard_name("vqa_videos", "train", 0, 2))
    other = str(tmp_path / "other")
    shards.write_shard(other, "vqa_videos", [tiny_records.video("a")])
    os.replace(other, path)  # its sidecar still tells of the one before
    assert store_lib.RecordStore(str(tmp_path), "vqa_videos").digest() != second
