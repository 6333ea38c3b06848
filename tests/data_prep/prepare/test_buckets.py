"""Buckets: how many, sources that fail late, files replaced between runs."""

import os
import pathlib

import fsspec
import pytest

from data_prep.prepare import buckets, job, segments
from data_prep.simulators.encode import EncodeError
from tests.fixtures import broken_files, prep_corpus


def test_a_file_replaced_between_runs_is_prepared_anew(tmp_path):
    """An unfinished run left a bucket; one file is then replaced by a twin with other pixels."""
    config, work = prep_corpus.config(), tmp_path / "work"
    work.mkdir()
    path = broken_files.encode(tmp_path / "a.mp4")
    make = lambda: buckets.build_bucket(  # noqa: E731
        ("train-00000", prep_corpus.sources(tmp_path, "a.mp4")), str(work), config
    )
    shard = work / "train-00000.vqa_videos.array_record"
    make()
    first = shard.read_bytes()
    broken_files.encode(path, 255 - broken_files.moving_frames())
    make()
    assert shard.read_bytes() != first


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_replaced_while_the_job_runs_is_quarantined(remote, tmp_path, monkeypatch):
    """Else its records would be told by what the file held before; what is fetched is hashed."""
    folder, config = tmp_path / "in", prep_corpus.config()
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        broken_files.encode(folder / name)
    other = bytearray((folder / "b.mp4").read_bytes())
    other[len(other) // 2] ^= 1
    videos = str(folder)
    if remote:
        store, videos = fsspec.filesystem("memory"), "memory://replaced"
        for name in ("a.mp4", "b.mp4"):
            store.pipe(f"/replaced/{name}", (folder / name).read_bytes())
    prepare = job.prepare_buckets

    def replaced(*args):
        if remote:
            store.pipe("/replaced/b.mp4", bytes(other))
        else:
            (folder / "b.mp4").write_bytes(other)
        prepare(*args)

    monkeypatch.setattr(job, "prepare_buckets", replaced)
    counts = job.build(videos, str(tmp_path / "out"), config)["counts"]
    assert (counts["sources"], counts["quarantined"]) == (1, 1)
    (row,) = (tmp_path / "out" / "quarantine.csv").read_text().splitlines()[1:]
    assert row.startswith("b.mp4,probe,has changed while")
    if remote:
        store.rm("/replaced", recursive=True)


# --- files that fail late ---------------------------------------------------------------------


def _rows(work: pathlib.Path, bucket: str) -> list[dict]:
    return list(buckets.bucket_rows(str(work), bucket))


def test_a_file_that_vanishes_after_the_probe_is_quarantined(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        broken_files.encode(tmp_path / name)
    bucket = ("train-00000", prep_corpus.sources(tmp_path, "a.mp4", "b.mp4"))
    os.remove(tmp_path / "a.mp4")
    summary = buckets.build_bucket(bucket, str(tmp_path), prep_corpus.config())
    assert {row["path"] for row in _rows(tmp_path, "train-00000")} == {"b.mp4"}
    (rejected,) = summary["rejected"]
    assert (rejected["path"], rejected["reason"]) == ("a.mp4", "no such file")


def test_a_source_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4"):
        broken_files.encode(tmp_path / name)
    sources = prep_corpus.sources(tmp_path, "a.mp4", "b.mp4")
    config = prep_corpus.config()
    alone = buckets.build_bucket(("x", sources[1:]), str(tmp_path), config)
    whole = segments.prepare_source

    def fails_late(path, source, config):
        videos = 0
        for part in whole(path, source, config):
            if source is sources[0] and videos == 3:
                raise EncodeError("x264 refuses")
            videos += not isinstance(part, tuple)
            yield part

    monkeypatch.setattr(buckets, "prepare_source", fails_late)
    summary = buckets.build_bucket(("y", sources), str(tmp_path), config)
    assert (summary["videos"], summary["sources"]) == (alone["videos"], alone["sources"])
    assert _rows(tmp_path, "y") == _rows(tmp_path, "x")
    assert [r["path"] for r in summary["rejected"]] == ["a.mp4"]
    assert [r["reason"] for r in summary["rejected"]] == ["x264 refuses"]
    for kind in ("vqa_videos", "vqa_clips"):
        x, y = (tmp_path / f"{name}.{kind}.array_record" for name in "xy")
        assert x.read_bytes() == y.read_bytes()


def test_more_sources_make_more_buckets_not_larger_ones():
    config = prep_corpus.config(sources_per_bucket=64)
    assert [buckets.num_buckets(n, config) for n in (1, 192, 193, 3_000_000)] == [
        3,
        3,
        4,
        46875,
    ]
