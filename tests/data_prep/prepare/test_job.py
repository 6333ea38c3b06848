"""The preparation job on a folder of small files: records, quarantine, repeats."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from data_prep.labels.pairs import label_pairs
from data_prep.prepare import job
from data_prep.prepare.job import build
from data_prep.simulators import SIMULATORS
from tests.fixtures import broken_files, prep_corpus
from vqa_jax.corpus import schemas, shards
from vqa_jax.corpus.store import RecordStore
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs import files
from vqa_jax.media import decode
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.media.view import view_frames

ROOT = pathlib.Path(__file__).resolve().parents[3]


def table_of(data) -> list[dict]:
    return list(read_video_table(str(data)))


# --- what is made -----------------------------------------------------------------------------


def test_inputs_are_records_or_quarantined(corpus):
    with open(corpus / "quarantine.csv", newline="", encoding="utf-8") as f:
        quarantine = {row["path"]: row for row in csv.DictReader(f)}
    assert quarantine.keys() == prep_corpus.REFUSED.keys()
    for path, (words, _) in prep_corpus.REFUSED.items():
        assert words in quarantine[path]["reason"] and quarantine[path]["stage"] == "probe"
    used = {row["path"] for row in table_of(corpus)}
    assert used == {p.replace("\udce9", r"\xe9") for p in prep_corpus.USED}
    counts = files.read_json(str(corpus / "manifest.json"))["counts"]
    assert counts["sources"] == len(used) and counts["quarantined"] == len(quarantine)
    assert counts["inputs"] == len(used) + len(quarantine)
    assert not (corpus / "work").exists()


def test_manifest_counts_and_hashes(corpus):
    manifest = files.read_json(str(corpus / "manifest.json"))
    for name, entry in manifest["datasets"].items():
        rows = [row for rows in entry["splits"].values() for row in rows]
        assert sum(row["records"] for row in rows) == manifest["counts"]["videos"]
        for row in rows:
            path = shards.builder_dir(str(corpus), name) + "/" + row["name"]
            assert files.file_sha256(path) == row["sha256"]
    assert manifest["settings"]["seed"] == manifest["seed"] == 3


def test_every_version_is_there_once(corpus):
    """Segments, simulators and levels that the settings ask for, and no others."""
    table, config = table_of(corpus), prep_corpus.config()
    levels = {name: len(SIMULATORS[name].parameters) for name in config.simulators}
    versions: dict[tuple, list] = {}
    for row in table:
        key = (row["path"], row["split"], row["segment"])
        versions.setdefault(key, []).append((row["simulator"], row["level"]))
    assert len({row["video_id"] for row in table}) == len(table)
    sources = {path: split for path, split, _ in versions}
    assert sorted(sources.values()) == ["heldout"] + ["train"] * 4
    for (path, split, segment), found in versions.items():
        assert len(found) == len(set(found)) and ("source", 0) in found
        names = {name for name, _ in found} - {"source"}
        assert len(names) == (3 if split == "heldout" else 2)
        for name in names:
            assert {level for n, level in found if n == name} == set(range(1, levels[name] + 1))
        assert segment < (1 if split == "heldout" or path == "one frame.mp4" else 2)
    # 40 frames hold two segments of 8; which of the sources is held out follows from its name.
    segments_of = {(path, split): 0 for path, split, _ in versions}
    for path, split, _ in versions:
        segments_of[path, split] += 1
    assert segments_of["clip one.mp4", sources["clip one.mp4"]] == (
        2 if sources["clip one.mp4"] == "train" else 1
    )


def test_records_say_what_they_hold(corpus, videos):
    config = prep_corpus.config()
    store = RecordStore(str(corpus), "vqa_videos")
    clips = RecordStore(str(corpus), "vqa_clips")
    assert clips.ids == store.ids
    for row in table_of(corpus):
        record = store[row["video_id"]]
        assert all(record[k] == row[k] for k in ("path", "segment", "simulator", "level"))
        assert Preprocess.from_json(record["preprocess"]) == config.preprocess
        assert record["frames"].shape == (3, 24, 24, 3)
        assert clips[row["video_id"]]["clips"].shape[1:] == (8, 16, 16, 3)
        parameter = json.loads(record["parameter"])
        if row["level"]:
            assert parameter["value"] == SIMULATORS[row["simulator"]].parameters[row["level"] - 1]
        else:
            assert parameter == {}
        assert row["scores"].keys() == set(config.teachers)
        assert np.isfinite(list(row["scores"].values())).all()


def test_undistorted_records_are_the_files_frames(corpus, videos):
    """Read back independently: decode everything, cut by the recorded start, apply the view."""
    pre = prep_corpus.config().preprocess
    store = RecordStore(str(corpus), "vqa_videos")
    row = next(r for r in table_of(corpus) if r["path"] == "clip one.mp4" and r["level"] == 0)
    record = store[row["video_id"]]
    everything = np.stack([f for _, f in decode.iter_frames(videos / "clip one.mp4")])
    start, count = record["start_frame"], record["num_frames"]
    assert (record["width"], record["height"], count) == (80, 48, 8)
    places = [(x, y) for x in range(96 - 80 + 1) for y in range(64 - 48 + 1)]
    views = [view_frames(everything[[start], y : y + 48, x : x + 80], pre) for x, y in places]
    assert sum(np.array_equal(view, record["frames"]) for view in views) == 1


def test_ineffective_levels_are_marked(corpus):
    """Blur of sigma 0.1 changes no 8-bit frame; one frame cannot stutter; severe blur shows."""
    store = RecordStore(str(corpus), "vqa_videos")
    flags = {(r["path"], r["simulator"], r["level"]): r["effective"] for r in table_of(corpus)}
    blurred = [path for path, name, level in flags if name == "gaussian_blur" and level == 1]
    assert blurred and not any(flags[path, "gaussian_blur", 1] for path in blurred)
    assert all(flags[path, "gaussian_blur", 5] for path in blurred)
    assert not any(
        ok for (p, name, _), ok in flags.items() if (p, name) == ("one frame.mp4", "stutter")
    )
    for row in table_of(corpus):
        assert store[row["video_id"]]["effective"] == row["effective"]


def test_tfds_reads_the_corpus_without_tensorflow(corpus):
    """In a process of its own, as this one may have imported anything."""
    program = f"""
import sys, tensorflow_datasets as tfds
for name in ("vqa_videos", "vqa_clips", "vqa_pairs_1"):
    builder = tfds.builder_from_directory({str(corpus)!r} + "/" + name + "/1.0.0")
    for split, info in builder.info.splits.items():
        source = builder.as_data_source(split)
        assert len(source) == info.num_examples > 0
        print(name, split, len(source), *sorted(source[0]))
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    videos = {(name, split): int(count) for name, split, count, *_ in lines}
    rows = table_of(corpus)
    for split in ("train", "heldout"):
        assert videos["vqa_videos", split] == sum(r["split"] == split for r in rows)
    assert {tuple(sorted(schemas.FEATURES["vqa_videos"]))} == {
        tuple(names) for name, _, _, *names in lines if name == "vqa_videos"
    }


# --- doing it again ---------------------------------------------------------------------------


def _without_pairs(corpus) -> dict[str, str]:
    return {k: v for k, v in prep_corpus.contents(corpus).items() if "pairs_1" not in k}


def test_another_number_of_workers_gives_the_same_bytes(corpus, videos, tmp_path):
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=3"]
    build(str(videos), str(tmp_path / "corpus"), prep_corpus.config(), threads)
    assert prep_corpus.contents(tmp_path / "corpus") == _without_pairs(corpus)


@pytest.mark.slow  # two processes import Beam; threads, above, share the same buckets
def test_worker_processes_give_the_same_bytes_and_stay_quiet(corpus, videos, tmp_path):
    """The command line as the quickstart calls it."""
    config = prep_corpus.write_config_file(tmp_path / "config.py")
    command = [sys.executable, "-m", "data_prep", "build", f"--config={config}"]
    command += [f"--videos={videos}", f"--data={tmp_path / 'corpus'}", "--"]
    command += [
        "--runner=DirectRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "severity: INFO" not in done.stderr and "type hint" not in done.stderr
    assert prep_corpus.contents(tmp_path / "corpus") == _without_pairs(corpus)


def test_a_rerun_does_nothing(damaged, videos, monkeypatch):
    (damaged / "work").mkdir()  # as a kill after the manifest leaves it
    before = {p: p.stat().st_mtime_ns for p in damaged.rglob("*") if p.is_file()}
    monkeypatch.setattr(job, "probe_inputs", None)
    monkeypatch.setattr(job, "prepare_buckets", None)
    manifest = build(str(videos), str(damaged), prep_corpus.config())
    assert manifest == files.read_json(str(damaged / "manifest.json"))
    assert label_pairs(str(damaged), prep_corpus.PAIRS)["counts"]["train"] > 0
    after = {p: p.stat().st_mtime_ns for p in damaged.rglob("*") if p.is_file()}
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }
    assert not (damaged / "work").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("settings", "other settings"),
        ("inputs", r"other input files \(10 then, 9 now\)"),
        ("contents", "made from input files of other contents"),
    ],
)
def test_a_corpus_of_something_else_is_kept_and_named(damaged, videos, tmp_path, change, words):
    config = prep_corpus.config()
    if change == "settings":
        config = dataclasses.replace(config, seed=99)
    else:
        videos = shutil.copytree(videos, tmp_path / "in", symlinks=True)
        if change == "inputs":
            os.remove(videos / "e.mp4")
        else:  # of one size
            data = bytearray((videos / "cut.mp4").read_bytes())
            data[-1] ^= 1
            (videos / "cut.mp4").write_bytes(data)
    before = prep_corpus.contents(damaged)
    with pytest.raises(files.CorpusError, match=words):
        build(str(videos), str(damaged), config)
    assert prep_corpus.contents(damaged) == before


def test_a_corpus_of_an_earlier_version_is_kept(damaged, videos):
    """Its manifest does not tell what the inputs held."""
    path = str(damaged / "manifest.json")
    manifest = files.read_json(path)
    del manifest["identity"]["contents"]
    files.write_json(path, manifest)
    assert build(str(videos), str(damaged), prep_corpus.config()) == manifest


def test_a_folder_work_of_somebody_is_kept(damaged, videos):
    (damaged / "work").mkdir()
    (damaged / "work" / "thesis.txt").write_text("mine")
    (damaged / "work" / "train-00001.json").write_text("of a killed job")
    build(str(videos), str(damaged), prep_corpus.config())
    assert os.listdir(damaged / "work") == ["thesis.txt"]


def test_another_kind_of_folder_is_named(tmp_path, videos):
    (tmp_path / "manifest.json").write_text('{"format": "orbax"}')
    with pytest.raises(files.CorpusError, match=r"manifest\.json is not a corpus's"):
        build(str(videos), str(tmp_path), prep_corpus.config())


def test_a_rerun_notices_lost_shards(damaged, videos):
    name = files.read_json(str(damaged / "manifest.json"))["datasets"]["vqa_videos"]["splits"]
    os.remove(damaged / "vqa_videos" / "1.0.0" / name["train"][0]["name"])
    with pytest.raises(files.CorpusError, match=name["train"][0]["name"]):
        build(str(videos), str(damaged), prep_corpus.config())


def test_copies_are_left_out_and_listed(tmp_path):
    folder, data = tmp_path / "in", tmp_path / "corpus"
    folder.mkdir()
    broken_files.encode(folder / "b.mp4")
    shutil.copy(folder / "b.mp4", folder / "a.mp4")
    broken_files.encode(folder / "c.mp4", broken_files.moving_frames(24, 64, 96)[::-1])
    counts = build(str(folder), str(data), prep_corpus.config(deduplicate="exact"))["counts"]
    assert [counts[k] for k in ("inputs", "sources", "duplicates")] == [3, 2, 1]
    with open(data / "duplicates.csv", newline="", encoding="utf-8") as f:
        (row,) = csv.DictReader(f)
    assert (row["path"], row["duplicate_of"], row["kind"]) == ("b.mp4", "a.mp4", "exact")
    assert {row["path"] for row in table_of(data)} == {"a.mp4", "c.mp4"}


def test_limits_change_no_byte_and_refuse_what_exceeds_them(corpus, videos, tmp_path):
    limits = {"limit_seconds": 300.0, "limit_memory_mb": 2000}
    build(str(videos), str(tmp_path / "corpus"), prep_corpus.config(**limits))
    made, plain = prep_corpus.contents(tmp_path / "corpus"), _without_pairs(corpus)
    assert {k: v for k, v in made.items() if k != "manifest.json"} == {
        k: v for k, v in plain.items() if k != "manifest.json"
    }
    small = prep_corpus.config(limit_pixels=64 * 96 - 1)
    build(str(videos), str(tmp_path / "small"), small)
    with open(tmp_path / "small" / "quarantine.csv", newline="", encoding="utf-8") as f:
        stages = {row["path"]: row["stage"] for row in csv.DictReader(f)}
    assert stages["clip one.mp4"] == "limit" and "half.mp4" not in stages


def test_files_that_are_cut_off_are_noted_or_refused(corpus, videos, tmp_path):
    notes = {row["path"]: row["notes"] for row in table_of(corpus)}
    assert notes["half.mp4"].endswith("of 24 frames") and notes["clip one.mp4"] == ""
    records = RecordStore(str(corpus), "vqa_videos").records()
    assert {r["path"]: r["missing"] for r in records} == dict.fromkeys(notes, "") | {
        "half.mp4": notes["half.mp4"]
    }
    (tmp_path / "in").mkdir()
    for name in ("half.mp4", "clip one.mp4"):
        shutil.copy(videos / name, tmp_path / "in")
    build(str(tmp_path / "in"), str(tmp_path / "out"), prep_corpus.config(truncated="refuse"))
    with open(tmp_path / "out" / "quarantine.csv", newline="", encoding="utf-8") as f:
        (row,) = csv.DictReader(f)
    assert row["path"] == "half.mp4" and "prep.truncated" in row["reason"]
    assert {row["path"] for row in table_of(tmp_path / "out")} == {"clip one.mp4"}


def test_a_table_of_paths_gives_the_records_of_the_folder(corpus, videos, tmp_path):
    folder = shutil.copytree(videos, tmp_path / "in", symlinks=True)
    listed = "".join(f'"{path}"\n' for path in ["path", *prep_corpus.USED])
    (folder / "list.csv").write_bytes(listed.encode("utf-8", "surrogateescape"))
    build(str(folder / "list.csv"), str(tmp_path / "corpus"), prep_corpus.config())
    made = prep_corpus.contents(tmp_path / "corpus")
    assert made["videos.parquet"] == prep_corpus.contents(corpus)["videos.parquet"]


def test_a_folder_without_a_usable_video(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(files.CorpusError, match="holds no video"):
        build(str(folder), str(tmp_path / "out"), prep_corpus.config())
    (folder / "a.mp4").write_text("text")
    with pytest.raises(files.CorpusError, match=r"none of 1 inputs is usable: see .*csv"):
        build(str(folder), str(tmp_path / "out"), prep_corpus.config())
    assert "a.mp4,probe," in (tmp_path / "out" / "quarantine.csv").read_text()
    with pytest.raises(files.CorpusError, match="is no folder"):
        build(str(tmp_path / "none"), str(tmp_path / "out"), prep_corpus.config())
