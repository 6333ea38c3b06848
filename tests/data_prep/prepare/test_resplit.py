"""A corpus under other splits."""

import os

import pytest

from data_prep.labels.pairs import label_pairs
from data_prep.prepare.config import PairConfig
from data_prep.prepare.resplit import resplit
from tests.fixtures import cell_student, tiny_corpus
from vqa_jax.corpus.store import PairCorpus, VideoStore
from vqa_jax.corpus.video_table import read_video_table, table_sha256
from vqa_jax.jobs.files import CorpusError, read_json, write_json
from vqa_jax.settings import SettingsError


@pytest.fixture
def corpus(tmp_path):
    """Sources "clip 0" to "clip 5" and the table of their folds, which lacks the last one."""
    data = cell_student.write_corpus(str(tmp_path / "corpus"), num_train=5, num_heldout=1)
    manifest = read_json(f"{data}/manifest.json")
    views = {"vqa_views_aesthetic": {"kind": "vqa_views", "splits": {}}}
    (tmp_path / "corpus" / "vqa_views_aesthetic").mkdir()
    changes = {"counts": {"videos": 24}, "datasets": manifest["datasets"] | views}
    write_json(f"{data}/manifest.json", manifest | changes)
    identity = {"identity": {"corpus": table_sha256(data)}}
    write_json(f"{data}/motion.json", identity)
    rows = [f"kind/clip {k}.jpg,{k % 3}" for k in range(5)]
    (tmp_path / "folds.csv").write_text("\n".join(["path,fold", *rows]) + "\n")
    return data, str(tmp_path / "folds.csv"), str(tmp_path / "part")


def test_sources_of_chosen_folds_are_held_out_and_records_are_the_same(corpus):
    data, folds, out = corpus
    resplit(data, out, folds, [1, 2])
    rows = [*read_video_table(out)]
    split = {row["source_id"]: row["split"] for row in rows}
    assert split == {
        **dict.fromkeys(("s00", "s03"), "train"),
        **dict.fromkeys(("s01", "s02", "s04"), "heldout"),
    }
    whole = {row["video_id"]: row for row in read_video_table(data)}
    assert all({**row, "split": ""} == {**whole[row["video_id"]], "split": ""} for row in rows)
    label_pairs(out, PairConfig(simulator_per_label=2, teachers_per_label=0))
    named = {p["first_id"][:3] for p in PairCorpus(out, ["vqa_pairs_1"], "train", "").pairs}
    assert named <= {"s00", "s03"}
    store = VideoStore(out, tiny_corpus.EXTRACTOR)  # takes motion features of the whole
    assert store["s01-000-source-0"][0]["video_id"] == "s01-000-source-0"
    assert os.path.islink(f"{out}/vqa_views_aesthetic")  # what teachers look at serves as it is
    before = os.stat(f"{out}/manifest.json").st_mtime_ns
    resplit(data, out, folds, [2, 1])
    assert os.stat(f"{out}/manifest.json").st_mtime_ns == before
    with pytest.raises(CorpusError, match="another corpus"):
        resplit(data, out, folds, [1])


def test_versions_by_a_left_out_simulator_are_held_out_alone(corpus):
    data, folds, out = corpus
    resplit(data, out, folds, [1], [tiny_corpus.SIMULATOR])
    told = {(row["split"], row["level"] > 0) for row in read_video_table(out)}
    assert told == {("train", False), ("heldout", False), ("heldout", True)}


def test_of_a_plain_fold_the_undistorted_pictures_are_kept_alone(tmp_path, corpus):
    data = tiny_corpus.write_corpus(str(tmp_path / "pictures"), 3, 1, num_images=2)
    manifest = {"video_table_sha256": table_sha256(data), "datasets": {}, "counts": {}}
    write_json(f"{data}/manifest.json", manifest)
    resplit(data, str(tmp_path / "plain"), corpus[1], [1, 2], plain=[1, 2])
    held = read_video_table(str(tmp_path / "plain")).where(split="heldout")
    # The third source is no picture.
    assert [(row["source_id"], row["level"]) for row in held] == [("s01", 0)]


@pytest.mark.parametrize(
    ("heldout", "without", "said"),
    [([7], [], "0 held out"), ([0, 1, 2], [], "0 videos to train on"), ([1], ["fog"], "fog")],
)
def test_what_leaves_nothing_is_refused(corpus, heldout, without, said):
    data, folds, out = corpus
    with pytest.raises(SettingsError, match=said):
        resplit(data, out, folds, heldout, without)
    assert not os.path.exists(out)
