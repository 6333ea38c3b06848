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

from data_prep.inputs import listing
from data_prep.inputs import source as ingest
from data_prep.labels.pairs import label_pairs
from data_prep.prepare import buckets as buckets_lib
from data_prep.prepare import job, pools, segments
from data_prep.prepare import segments as buckets
from data_prep.prepare.config import PairConfig
from data_prep.prepare.job import build
from data_prep.simulators import SIMULATORS
from data_prep.simulators.encode import EncodeError
from tests.fixtures import broken_files, prep_corpus
from vqa_jax.corpus import schemas, shards
from vqa_jax.corpus import store as records
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs import files
from vqa_jax.media import container, decode, probe
from vqa_jax.media import view as frames

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAIRS = PairConfig(
    seed=0,
    simulator_per_label=20,
    teachers_per_label=10,
    unite="rank",
    std_floor=3.0,
    num_shards=2,
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return prep_corpus.write_videos(tmp_path_factory.mktemp("in") / "my videos")


@pytest.fixture(scope="module")
def corpus(videos, tmp_path_factory):
    """A finished corpus with pairs; tests do not change it."""
    data = tmp_path_factory.mktemp("out") / "corpus"
    build(str(videos), str(data), prep_corpus.config())
    label_pairs(str(data), PAIRS)
    return data


@pytest.fixture
def damaged(corpus, tmp_path):
    """A copy of the corpus to be damaged."""
    return pathlib.Path(shutil.copytree(corpus, tmp_path / "corpus"))


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
    store = records.RecordStore(str(corpus), "vqa_videos")
    clips = records.RecordStore(str(corpus), "vqa_clips")
    assert clips.ids == store.ids
    for row in table_of(corpus):
        record = store[row["video_id"]]
        assert all(record[k] == row[k] for k in ("path", "segment", "simulator", "level"))
        assert frames.Preprocess.from_json(record["preprocess"]) == config.preprocess
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
    store = records.RecordStore(str(corpus), "vqa_videos")
    row = next(r for r in table_of(corpus) if r["path"] == "clip one.mp4" and r["level"] == 0)
    record = store[row["video_id"]]
    everything = np.stack([f for _, f in decode.iter_frames(videos / "clip one.mp4")])
    start, count = record["start_frame"], record["num_frames"]
    assert (record["width"], record["height"], count) == (80, 48, 8)
    places = [(x, y) for x in range(96 - 80 + 1) for y in range(64 - 48 + 1)]
    views = [
        frames.view_frames(everything[[start], y : y + 48, x : x + 80], pre) for x, y in places
    ]
    assert sum(np.array_equal(view, record["frames"]) for view in views) == 1


def test_ineffective_levels_are_marked(corpus):
    """Blur of sigma 0.1 changes no 8-bit frame; one frame cannot stutter; severe blur shows."""
    store = records.RecordStore(str(corpus), "vqa_videos")
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
    assert label_pairs(str(damaged), PAIRS)["counts"]["train"] > 0
    after = {p: p.stat().st_mtime_ns for p in damaged.rglob("*") if p.is_file()}
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }
    assert not (damaged / "work").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [("settings", "other settings"), ("inputs", r"other input files \(10 then, 9 now\)")],
)
def test_a_corpus_of_something_else_is_kept_and_named(damaged, videos, tmp_path, change, words):
    config = prep_corpus.config()
    if change == "settings":
        config = dataclasses.replace(config, seed=99)
    else:
        videos = shutil.copytree(videos, tmp_path / "in", symlinks=True)
        os.remove(videos / "e.mp4")
    before = prep_corpus.contents(damaged)
    with pytest.raises(files.CorpusError, match=words):
        build(str(videos), str(damaged), config)
    assert prep_corpus.contents(damaged) == before


def test_a_rerun_notices_lost_shards(damaged, videos):
    name = files.read_json(str(damaged / "manifest.json"))["datasets"]["vqa_videos"]["splits"]
    os.remove(damaged / "vqa_videos" / "1.0.0" / name["train"][0]["name"])
    with pytest.raises(files.CorpusError, match=name["train"][0]["name"]):
        build(str(videos), str(damaged), prep_corpus.config())


def _sources(folder: pathlib.Path, *names: str) -> list[ingest.Source]:
    made = []
    for name in names:
        stamp = listing.file_stamp(listing.Input(str(folder / name), name))
        info, place = probe.probe(folder / name), str(folder / name)
        made.append(
            ingest.Source(ingest.source_id(name), name, "train", info, stamp, location=place)
        )
    return made


def test_a_file_replaced_between_runs_is_prepared_anew(tmp_path):
    """An unfinished run left a bucket; one file is then replaced by a twin with other pixels."""
    config, work = prep_corpus.config(), tmp_path / "work"
    work.mkdir()
    path = broken_files.encode(tmp_path / "a.mp4")
    make = lambda: buckets_lib.build_bucket(  # noqa: E731
        ("train-00000", _sources(tmp_path, "a.mp4")), str(work), config
    )
    shard = work / "train-00000.vqa_videos.array_record"
    make()
    first = shard.read_bytes()
    broken_files.encode(path, 255 - broken_files.moving_frames())
    make()
    assert shard.read_bytes() != first


def test_a_file_fetched_again_between_runs_is_used(tmp_path, monkeypatch):
    """An unfinished run found it broken; the probe's verdict must not outlive the file."""
    folder, data = tmp_path / "in", str(tmp_path / "corpus")
    folder.mkdir()
    broken_files.encode(folder / "a.mp4")
    (folder / "b.mp4").write_text("half a download")
    with monkeypatch.context() as patch:
        patch.setattr(job, "_finish", lambda *_: {})
        build(str(folder), data, prep_corpus.config())
    broken_files.encode(folder / "b.mp4")
    counts = build(str(folder), data, prep_corpus.config())["counts"]
    assert (counts["sources"], counts["quarantined"]) == (2, 0)


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


def test_a_table_of_paths_gives_the_records_of_the_folder(corpus, videos, tmp_path):
    folder = shutil.copytree(videos, tmp_path / "in", symlinks=True)
    listed = "".join(f'"{path}"\n' for path in ["path", *prep_corpus.USED])
    (folder / "list.csv").write_bytes(listed.encode("utf-8", "surrogateescape"))
    build(str(folder / "list.csv"), str(tmp_path / "corpus"), prep_corpus.config())
    made = prep_corpus.contents(tmp_path / "corpus")
    assert made["videos.parquet"] == prep_corpus.contents(corpus)["videos.parquet"]


def test_stamps_tell_files_of_one_size_apart(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    entry = listing.Input(str(path), "a.mp4")
    first = listing.file_stamp(entry)
    path.write_bytes(b"two")
    assert listing.file_stamp(entry) != first
    assert listing.file_stamp(listing.Input(str(tmp_path / "none.mp4"), "none.mp4")) == (-1, -1)


# --- files that fail late ---------------------------------------------------------------------


def _rows(work: pathlib.Path, bucket: str) -> list[dict]:
    return list(buckets_lib.bucket_rows(str(work), bucket))


def test_a_file_that_vanishes_after_the_probe_is_quarantined(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        broken_files.encode(tmp_path / name)
    bucket = ("train-00000", _sources(tmp_path, "a.mp4", "b.mp4"))
    os.remove(tmp_path / "a.mp4")
    summary = buckets_lib.build_bucket(bucket, str(tmp_path), prep_corpus.config())
    assert {row["path"] for row in _rows(tmp_path, "train-00000")} == {"b.mp4"}
    (rejected,) = summary["rejected"]
    assert (rejected["path"], rejected["reason"]) == ("a.mp4", "no such file")


def test_a_source_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4"):
        broken_files.encode(tmp_path / name)
    sources = _sources(tmp_path, "a.mp4", "b.mp4")
    config = prep_corpus.config()
    alone = buckets_lib.build_bucket(("x", sources[1:]), str(tmp_path), config)
    whole = buckets.prepare_source

    def fails_late(path, source, config):
        for k, video in enumerate(whole(path, source, config)):
            if source is sources[0] and k == 3:
                raise EncodeError("x264 refuses")
            yield video

    monkeypatch.setattr(buckets_lib, "prepare_source", fails_late)
    summary = buckets_lib.build_bucket(("y", sources), str(tmp_path), config)
    assert (summary["videos"], summary["sources"]) == (alone["videos"], alone["sources"])
    assert _rows(tmp_path, "y") == _rows(tmp_path, "x")
    assert [r["path"] for r in summary["rejected"]] == ["a.mp4"]
    assert [r["reason"] for r in summary["rejected"]] == ["x264 refuses"]
    for kind in ("vqa_videos", "vqa_clips"):
        x, y = (tmp_path / f"{name}.{kind}.array_record" for name in "xy")
        assert x.read_bytes() == y.read_bytes()


def test_a_file_that_breaks_off_is_used_as_far_as_it_decodes(tmp_path):
    """The probe promised 60 frames, 24 decode: segments of 8 lie in those 24."""
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = _sources(tmp_path, "a.mp4")
    honest = segments.prepare_source(source.location, source, prep_corpus.config())
    promised = dataclasses.replace(source.info, num_frames=60)
    source = dataclasses.replace(source, info=promised)
    made = segments.prepare_source(source.location, source, prep_corpus.config())
    for a, b in zip(honest, made, strict=True):
        np.testing.assert_array_equal(a.video["frames"], b.video["frames"])
        assert a.video["start_frame"] == b.video["start_frame"]
    # No whole segment decodes.
    with pytest.raises(container.TruncatedVideoError, match="ends after 24 frames"):
        long = prep_corpus.config(segment_seconds=3.0)
        list(segments.prepare_source(source.location, source, long))
    # Without a length, all that decodes is the segment.
    whole = prep_corpus.config(segment_seconds=0, segments_per_source=1)
    first = next(segments.prepare_source(source.location, source, whole))
    assert first.video["num_frames"] == 24


def test_a_segment_larger_than_memory_is_refused_with_the_remedy(tmp_path, monkeypatch):
    broken_files.encode(tmp_path / "a.mp4")
    monkeypatch.setattr(segments, "_MAX_DECODED_BYTES", 2 * 8 * 48 * 64 * 3 - 1)
    with pytest.raises(container.MediaError, match="segment_seconds"):
        (source,) = _sources(tmp_path, "a.mp4")
        next(segments.prepare_source(source.location, source, prep_corpus.config()))


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


# --- splits and settings ----------------------------------------------------------------------


def test_split_follows_the_names_alone_or_what_is_given():
    names = [f"{k}.mp4" for k in range(10)]

    def heldout(order, fraction=0.3, **given):
        splits = pools.assign_splits(dict.fromkeys(order, "") | given, fraction)
        return {name for name, split in splits.items() if split == "heldout"}

    assert len(heldout(names)) == 3 and heldout(names) == heldout(names[::-1])
    assert heldout(names[:1]) == set() and len(heldout(names[:2])) == 1
    assert heldout(names, 0.0) == set() and heldout(names, 1.0) == set(names)
    given = {name: "heldout" if name < "2" else "train" for name in names}
    assert heldout(names, **given) == {"0.mp4", "1.mp4"} and heldout(names, 1.0, **given) == set(
        names
    )


POOLS = (
    {"name": "spatial", "simulators": ("gaussian_blur",), "sources": 3},
    {"name": "streaming", "simulators": ("h264",), "sources": 0.2},
)


def test_pools_are_as_large_as_asked_for_and_stable():
    config = prep_corpus.config(pools=POOLS)
    ids = [ingest.source_id(f"{k}.mp4") for k in range(20)]
    dealt = pools.assign_pools(ids, config.pools)
    assert dealt == pools.assign_pools(ids[::-1], config.pools)
    sizes = {name: list(dealt.values()).count(name) for name in set(dealt.values())}
    assert sizes == {"spatial": 3, "streaming": 4, pools.REST: 13}
    assert set(pools.assign_pools(ids, ()).values()) == {pools.ALL}
    with pytest.raises(files.CorpusError, match=r"want 3 training sources .*spatial 3"):
        pools.assign_pools(ids[:2], config.pools)


def test_a_pool_gets_its_simulators_and_no_others(tmp_path):
    config = prep_corpus.config(pools=POOLS, simulators_per_segment=0)
    source = ingest.Source("00", "a.mp4", "train", None, (1, 1))

    def names(pool, split="train"):
        made = dataclasses.replace(source, pool=pool, split=split)
        return segments.segment_simulators(made, 0, config)

    assert names("spatial") == ["gaussian_blur"] and names("streaming") == ["h264"]
    assert names(pools.REST) == []
    assert names(pools.ALL, "heldout") == names(pools.ALL) == list(config.simulators)


def test_more_sources_make_more_buckets_not_larger_ones():
    config = prep_corpus.config(sources_per_bucket=64)
    assert [buckets_lib.num_buckets(n, config) for n in (1, 192, 193, 3_000_000)] == [
        3,
        3,
        4,
        46875,
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"simulators": ("h264", "fog")}, "fog"),
        ({"teachers": ("sharpness", "sharpness")}, "repeated"),
        ({"heldout_fraction": 1.1}, "heldout_fraction"),
        ({"num_buckets": 0}, "num_buckets"),
        ({"window": (-1, 0)}, "window"),
        ({"limit_seconds": -1.0}, "limit_seconds"),
        ({"hdr": "clip"}, "tone_map"),
        ({"deduplicate": "all"}, "deduplicate"),
        ({"pools": (POOLS[0], POOLS[0])}, "repeated"),
        ({"pools": ({**POOLS[0], "simulators": ("fog",)},)}, "fog"),
        ({"pools": ({**POOLS[0], "sources": 2.5},)}, "spatial"),
        ({"sources_per_bucket": 0}, "sources_per_bucket"),
    ],
)
def test_impossible_settings_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        prep_corpus.config(**change)


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match="colour"):
        prep_corpus.config(colour=1)


@pytest.mark.parametrize(
    ("num_frames", "length", "count", "wanted"),
    [(100, 20, 3, [0, 40, 80]), (100, 20, 1, [40]), (20, 20, 4, [0]), (22, 20, 9, [0, 1, 2])],
)
def test_segments_are_spread_without_repeats(num_frames, length, count, wanted):
    assert segments.segment_starts(num_frames, length, count) == wanted
