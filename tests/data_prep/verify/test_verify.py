"""Verification: an intact corpus passes, and every kind of damage is found and named."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from data_prep import commands
from data_prep.verify import contact_sheet, verify
from tests.fixtures import tiny_corpus
from vqa_jax.corpus import shards as shards_lib
from vqa_jax.corpus import store as records
from vqa_jax.corpus.video_table import read_video_table, table_sha256, write_video_table
from vqa_jax.jobs import files, workers


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A finished corpus with pairs; tests do not change it."""
    data = tmp_path_factory.mktemp("out") / "corpus"
    tiny_corpus.write_corpus(str(data), 4, 1)
    work = data / "work"
    entries = {}
    for kind in ("vqa_videos", "vqa_clips"):
        shards = {}
        for split in ("train", "heldout"):
            path = str(work / f"{kind}-{split}")
            if kind == "vqa_clips":
                ids = records.RecordStore(str(data), "vqa_videos", split=split).ids
                clips = np.zeros((1, 2, 4, 4, 3), np.uint8)
                shards_lib.write_shard(path, kind, [{"video_id": k, "clips": clips} for k in ids])
            shards[split] = [path]
        entries[kind] = shards_lib.publish(str(data), kind, kind, shards)
    shutil.rmtree(work)
    shutil.rmtree(data / "vqa_motion")
    (data / "quarantine.csv").write_text("path,stage,reason\nbad.mp4,probe,empty\n")
    rows = table_of(data)
    manifest = {
        "counts": {"inputs": 6, "sources": 5, "quarantined": 1, "videos": len(rows)},
        "datasets": entries,
        "video_table_sha256": table_sha256(str(data)),
    }
    files.write_json(str(data / "manifest.json"), manifest)
    return data


@pytest.fixture
def damaged(corpus, tmp_path):
    """A copy of the corpus to be damaged."""
    return pathlib.Path(shutil.copytree(corpus, tmp_path / "corpus"))


def table_of(data) -> list[dict]:
    return list(read_video_table(str(data)))


def _kinds(data) -> set[str]:
    with pytest.raises(verify.DamagedCorpusError) as caught:
        verify.verify(str(data))
    assert str(data) in str(caught.value)
    return {problem.kind for problem in caught.value.problems}


def _shard(data, dataset: str) -> pathlib.Path:
    folder = data / dataset / "1.0.0"
    return next(
        p
        for p in sorted(folder.iterdir())
        if "train.array_record" in p.name and p.suffix != ".json"
    )


def test_an_intact_corpus_passes(corpus):
    summary = verify.verify(str(corpus))
    pairs = records.RecordStore(str(corpus), "vqa_pairs_1", "vqa_pairs")
    assert sum(summary["labels"][1].values()) == len(pairs) > 0
    assert summary["counts"]["videos"] == len(table_of(corpus))


@pytest.mark.parametrize("dataset", ["vqa_videos", "vqa_clips", "vqa_pairs_1"])
def test_a_flipped_bit_is_found(damaged, dataset):
    path = _shard(damaged, dataset)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert "hash" in _kinds(damaged)


@pytest.mark.parametrize("dataset", ["vqa_videos", "vqa_pairs_1"])
def test_a_missing_or_surplus_shard_is_found(damaged, dataset):
    path = _shard(damaged, dataset)
    shutil.copy(path, path.with_name(path.name[:-5] + "00009"))
    assert _kinds(damaged) == {"count"}
    os.remove(path)
    assert "missing" in _kinds(damaged)


def _rewrite_pairs(data, **changes):
    """The first pair changed, with hashes that fit: only reading the record can tell."""
    path = _shard(data, "vqa_pairs_1")
    rows = list(records.shard_records(str(path), "vqa_pairs"))
    rows[0] |= changes
    shard = shards_lib.write_shard(str(path), "vqa_pairs", rows)
    manifest = files.read_json(str(data / "pairs_1.json"))
    manifest["dataset"]["vqa_pairs_1"]["splits"]["train"][0]["sha256"] = shard.sha256
    files.write_json(str(data / "pairs_1.json"), manifest)
    return rows[0]


def test_a_pair_of_an_unknown_video_is_found(damaged):
    _rewrite_pairs(damaged, second_id="nobody-000-source-0")
    assert _kinds(damaged) == {"reference"}


def test_a_pair_of_another_iteration_or_without_probabilities_is_found(damaged):
    _rewrite_pairs(damaged, iteration=2)
    assert _kinds(damaged) == {"schema"}
    _rewrite_pairs(damaged, iteration=1, level_probs=np.full(5, 0.3, np.float32))
    assert _kinds(damaged) == {"label"}


def test_a_pair_across_the_splits_is_found(damaged):
    heldout = next(r["video_id"] for r in table_of(damaged) if r["split"] == "heldout")
    _rewrite_pairs(damaged, second_id=heldout, label_source="teachers")
    assert _kinds(damaged) == {"reference"}


def test_a_turned_label_is_found(damaged):
    pair = next(r for r in records.shard_records(str(_shard(damaged, "vqa_pairs_1")), "vqa_pairs"))
    other = 4 if pair["label"] < 2 else 0
    _rewrite_pairs(damaged, label=other)
    kinds = _kinds(damaged)
    assert kinds == {"label", "count"}


def test_a_changed_table_or_quarantine_is_found(damaged):
    with open(damaged / "quarantine.csv", "a", encoding="utf-8") as f:
        f.write("x.mp4,probe,why\n")
    assert _kinds(damaged) == {"count"}
    (damaged / "videos.parquet").write_text("[]")
    assert _kinds(damaged) == {"count", "hash"}
    os.remove(damaged / "manifest.json")
    with pytest.raises(files.CorpusError, match=r"manifest\.json is missing"):
        verify.verify(str(damaged))


def test_motion_features_are_checked(damaged):
    rows = table_of(damaged)

    def write(broken: int):
        """Features of all videos, the last `broken` ones not finite."""
        published = {}
        for split in ("train", "heldout"):
            ids = [r["video_id"] for r in rows if r["split"] == split]
            path = str(damaged / f"motion-{split}")
            published[split] = [path]
            shards_lib.write_shard(
                path,
                "vqa_motion",
                (
                    {
                        "video_id": key,
                        "extractor": "x",
                        "features": np.full((1, 2), np.nan if k < broken else 1, np.float32),
                    }
                    for k, key in enumerate(ids)
                ),
            )
        entry = shards_lib.publish(str(damaged), "vqa_motion", "vqa_motion", published)
        identity = {"extractor": "x", "corpus": ""}
        manifest = {"identity": identity, "videos": len(rows), "dataset": {"vqa_motion": entry}}
        files.write_json(str(damaged / "motion.json"), {**manifest, "dataset": entry})

    write(0)
    shutil.rmtree(damaged / "vqa_clips")  # may go once the features exist
    verify.verify(str(damaged))
    write(1)
    assert _kinds(damaged) == {"schema"}
    os.remove(damaged / "motion.json")
    assert "missing" in _kinds(damaged)  # the clips are wanted again


def _rewrite_table(data, rows):
    """Another table, with a hash that fits."""
    manifest = files.read_json(str(data / "manifest.json"))
    manifest["video_table_sha256"] = write_video_table(str(data), rows)
    files.write_json(str(data / "manifest.json"), manifest)


def test_a_video_without_its_source_is_found(damaged):
    rows = table_of(damaged)
    assert rows[0]["level"] == 0
    _rewrite_table(damaged, [rows[0] | {"level": 2, "simulator": "darken"}, *rows[1:]])
    with pytest.raises(verify.DamagedCorpusError, match="no undistorted source"):
        verify.verify(str(damaged))


def test_a_source_in_both_splits_is_found(damaged):
    rows = table_of(damaged)
    _rewrite_table(damaged, [*rows[:3], rows[3] | {"split": "heldout"}, *rows[4:]])
    with pytest.raises(verify.DamagedCorpusError, match="is in two splits"):
        verify.verify(str(damaged))


def test_a_record_that_differs_from_the_table_is_found(damaged):
    rows = table_of(damaged)
    _rewrite_table(damaged, [rows[0] | {"path": "other.mp4"}, *rows[1:]])
    assert _kinds(damaged) == {"schema"}


def test_duplicates_are_counted(damaged):
    manifest = files.read_json(str(damaged / "manifest.json"))
    manifest["counts"] |= {"duplicates": 1, "inputs": 7}
    files.write_json(str(damaged / "manifest.json"), manifest)
    assert _kinds(damaged) == {"missing"}
    (damaged / "duplicates.csv").write_text("path,duplicate_of,kind,distance\na,b,exact,0\n")
    verify.verify(str(damaged))


@pytest.mark.parametrize("pool", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_the_command_reads_with_processes_and_draws_the_sheet(damaged, capsys, monkeypatch, pool):
    if pool == "threads":  # in their place, as each process imports everything
        monkeypatch.setattr(workers, "pool", concurrent.futures.ThreadPoolExecutor)
    assert commands.main(["verify", str(damaged), "--workers=2"]) == 0
    said = capsys.readouterr().out
    assert "is intact" in said and "pairs of iteration 1" in said
    with Image.open(damaged / "contact_sheet.png") as sheet:
        pixels = np.asarray(sheet)
    brightest = read_video_table(str(damaged)).where(level=0)
    assert len(brightest) == 5 and pixels.shape[1] == 8 * 128
    # The first picture is the middle crop of the first video by key among the sampled ones.
    store = records.RecordStore(str(damaged), "vqa_videos")
    sample = sorted(sorted(store.ids, key=files.key_hash)[: contact_sheet.NUM_VIDEOS])
    frames = store[sample[0]]["frames"]
    picture = Image.fromarray(frames[len(frames) // 2]).resize((126, 126), Image.BICUBIC)
    np.testing.assert_array_equal(pixels[28 : 28 + 126, :126], np.asarray(picture))
    os.remove(damaged / "quarantine.csv")
    assert commands.main(["verify", str(damaged)]) == 1
    said = capsys.readouterr().err
    assert "quarantine.csv" in said and "Traceback" not in said


def test_a_class_that_features_name_is_not_imported(damaged):
    path = pathlib.Path(shards_lib.builder_dir(str(damaged), "vqa_pairs_1")) / "features.json"
    module = damaged / "evil_features.py"
    module.write_text(f"open({str(damaged / 'ran')!r}, 'w')\n")
    text = path.read_text()
    class_name = "tensorflow_datasets.core.features.text_feature.Text"
    assert class_name in text
    path.write_text(text.replace(class_name, "evil_features.Text", 1))
    sys.path.insert(0, str(damaged))
    try:
        with pytest.raises(verify.DamagedCorpusError, match=r"names 'evil_features\.Text'"):
            verify.verify(str(damaged))
    finally:
        sys.path.remove(str(damaged))
    assert not (damaged / "ran").exists()
    path.write_text("[" * 100_000)
    with pytest.raises(verify.DamagedCorpusError, match=r"features\.json is damaged"):
        verify.verify(str(damaged))


def test_a_corpus_of_before_a_sparse_field_is_whole(damaged):
    path = pathlib.Path(shards_lib.builder_dir(str(damaged), "vqa_videos")) / "features.json"
    told = json.loads(path.read_text())
    del told["featuresDict"]["features"]["missing"]
    path.write_text(json.dumps(told))
    verify.verify(str(damaged))
    del told["featuresDict"]["features"]["level"]
    path.write_text(json.dumps(told))
    with pytest.raises(verify.DamagedCorpusError, match="other fields"):
        verify.verify(str(damaged))
