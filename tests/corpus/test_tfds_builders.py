"""The TFDS builders, used as somebody does who knows TFDS alone."""

import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from tests.fixtures import tiny_corpus
from vqa_jax.corpus import pair_shards, schemas, tfds_builders
from vqa_jax.corpus import store as records
from vqa_jax.jobs.files import CorpusError
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.pairs.table import Pair


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus with pairs of iterations 1 and 2."""
    data = tiny_corpus.write_corpus(str(tmp_path_factory.mktemp("c") / "corpus"), 3, 1)
    store = records.RecordStore(data, "vqa_videos", split="train")
    pair = Pair(store.ids[0], store.ids[1], "superior", "student", 2.5, 0.0, 1.0, 2.5, 1.0)
    pair_shards.write(data, 2, {"train": [pair]}, 1, {"made": "by a test"})
    return data


def test_videos_come_back_as_they_are_stored(corpus):
    store = records.RecordStore(corpus, "vqa_videos", split="heldout")
    source = tfds.data_source("vqa_videos", split="heldout", data_dir=corpus)
    assert len(source) == len(store) == 4
    for key, example in zip(store.ids, source, strict=True):
        assert example["video_id"] == key.encode()
        assert example["frames"].tolist() == store[key]["frames"].tolist()


def test_pairs_have_a_config_an_iteration(corpus):
    first = tfds.builder("vqa_pairs/iteration_1", data_dir=corpus)
    assert len(first.as_data_source("train")) == len(
        records.RecordStore(corpus, "vqa_pairs_1", "vqa_pairs")
    )
    assert tfds.builder("vqa_pairs", data_dir=corpus).data_dir == first.data_dir
    (pair,) = tfds.data_source("vqa_pairs/iteration_2", split="train", data_dir=corpus)
    assert LEVELS[pair["label"]] == "superior" and pair["iteration"] == 2
    assert first.info.features["label"].names == list(LEVELS)


@pytest.mark.parametrize("name", ["vqa_videos", "vqa_pairs/iteration_1"])
def test_what_it_is_and_whom_to_cite_is_told(corpus, name):
    info = tfds.builder(name, data_dir=corpus).info
    assert "2505.03631" in info.citation and "ideo" in info.description
    by_folder = tfds.builder_from_directory(info.data_dir).info
    assert by_folder.citation == info.citation and by_folder.description == info.description
    assert set(by_folder.features) == set(schemas.FEATURES[name.partition("/")[0]])


def test_a_folder_without_the_dataset_is_named(tmp_path):
    assert tfds_builders.VqaVideos.name == "vqa_videos"
    with pytest.raises(CorpusError, match="only reads"):
        tfds.data_source("vqa_videos", split="train", data_dir=str(tmp_path))


def test_a_stranger_needs_neither_tensorflow_nor_jax(corpus):
    program = f"""
import sys, tensorflow_datasets as tfds, vqa_jax.corpus.tfds_builders
source = tfds.data_source("vqa_pairs/iteration_1", split="train", data_dir={corpus!r})
print(len(source), source[0]["first_id"].decode())
assert not {{"tensorflow", "jax"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 0
