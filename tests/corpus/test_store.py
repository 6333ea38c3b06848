"""The store: published records by their keys."""

import pytest

from tests.fixtures.tiny_records import published
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
