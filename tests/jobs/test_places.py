"""Copies of what lies at URLs, against a real S3 server."""

import logging
import multiprocessing
import os
import pathlib
import types

import pytest

from vqa_jax.jobs import files, places
from vqa_jax.jobs.stores import PlaceError, Store

URL = "s3://bucket/runs/corpus"
KEYS = {
    "manifest.json": b"{}",
    "vqa_videos/1.0.0/a.array_record": b"frames" * 1000,
    "vqa_videos/1.0.0/b.array_record": b"frames" * 999,
    "empty": b"",
}


@pytest.fixture
def corpus(s3):
    """The server with a folder of files, and others around it."""
    for name, data in KEYS.items():
        s3.write(f"runs/corpus/{name}", data)
    s3.write("runs/corpus2/manifest.json", b"another's")
    s3.write("runs/corpus/vqa_videos/", b"")  # as some clients mark a folder
    s3.requests.clear()
    return s3


def _below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in pathlib.Path(folder).rglob("*")
        if path.is_file()
    }


def _fetched(s3):
    """Names of what was fetched since this was asked last."""
    names = [key.removeprefix("runs/corpus/") for key in s3.asked("GET") if key]
    s3.requests.clear()
    return sorted(names)


def test_local_paths_are_places_already():
    assert places.staged("some/folder") == "some/folder"
    places.publish("some/folder/file")
    assert places.named("some/folder") == "some/folder"


def test_only_what_differs_is_fetched(corpus):
    folder = places.staged(URL + "/")
    assert os.path.basename(folder) == "corpus"
    assert _below(folder) == KEYS and _fetched(corpus) == sorted(KEYS)
    assert places.staged(URL) == folder and _fetched(corpus) == []
    corpus.write("runs/corpus/empty", b"not any more")
    corpus.client.delete_object(Bucket="bucket", Key="runs/corpus/manifest.json")
    os.remove(os.path.join(folder, "vqa_videos/1.0.0/b.array_record"))
    places.staged(URL)
    now = {**KEYS, "empty": b"not any more"}
    del now["manifest.json"]
    assert _below(folder) == now
    assert _fetched(corpus) == ["empty", "vqa_videos/1.0.0/b.array_record"]


def test_a_file_is_a_place(corpus):
    path = places.staged("s3://bucket/runs/corpus/manifest.json")
    assert pathlib.Path(path).read_bytes() == b"{}" and path.endswith("/manifest.json")
    assert places.named(f"{path} is odd") == "s3://bucket/runs/corpus/manifest.json is odd"


def test_nothing_there_is_told(corpus):
    with pytest.raises(PlaceError, match=r"s3://bucket/none holds nothing: check the address"):
        places.staged("s3://bucket/none")


def test_an_interrupted_fetch_goes_on(corpus):
    corpus.disturb = lambda method, key: "500" if method == "GET" and "b.array" in key else None
    with pytest.raises(PlaceError, match=r"s3://bucket/runs/corpus/\S*b\.array_record: .*again"):
        places.staged(URL)
    corpus.disturb = lambda method, key: None
    corpus.requests.clear()
    assert _below(places.staged(URL)) == KEYS
    assert "vqa_videos/1.0.0/b.array_record" in (again := _fetched(corpus))
    assert len(again) < len(KEYS)


def test_a_journal_that_was_cut_off_is_read_as_far_as_it_goes(corpus):
    folder = pathlib.Path(places.staged(URL))
    (journal,) = folder.parent.parent.glob("*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9])
    corpus.requests.clear()
    assert _below(places.staged(URL)) == KEYS and len(_fetched(corpus)) == 1
    assert _below(places.staged(URL)) == KEYS and _fetched(corpus) == []


def _stage(url, out):
    out.put(sorted(_below(places.staged(url)).items()))


@pytest.mark.slow  # processes that import for seconds
def test_two_processes_fetch_everything_once(corpus):
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    both = [context.Process(target=_stage, args=(URL, told)) for _ in range(2)]
    for process in both:
        process.start()
    assert [told.get() for _ in both] == [sorted(KEYS.items())] * 2
    for process in both:
        process.join()
    assert _fetched(corpus) == sorted(KEYS)


def test_a_file_that_changes_while_it_is_read_is_read_again(corpus):
    later = [b"newer" * 1200]

    def change(method, key):
        if method == "GET" and "a.array" in key and later:
            corpus.write(key, later.pop())

    corpus.disturb = change
    name = "vqa_videos/1.0.0/a.array_record"
    assert _below(places.staged(URL)) == {**KEYS, name: b"newer" * 1200}


def test_a_file_that_changes_all_the_time_is_told(corpus):
    count = iter(range(1000))

    def change(method, key):
        if method == "GET" and "a.array" in key:
            corpus.write(key, b"x" * next(count))

    corpus.disturb = change
    with pytest.raises(PlaceError, match=r"a\.array_record changes, .*: wait"):
        places.staged(URL)


def test_a_file_that_comes_incomplete_is_never_used(corpus, monkeypatch):
    real = Store.get

    def half(store, name, path):
        real(store, name, path)
        os.truncate(path, os.path.getsize(path) // 2)

    monkeypatch.setattr(Store, "get", half)
    with pytest.raises(PlaceError, match=r"comes incomplete, while it is read: wait"):
        places.staged(URL)
    stage = pathlib.Path(os.environ["VQA_JAX_STAGE"])
    assert not list(stage.rglob("*.array_record"))


def test_what_does_not_fit_is_told_before(corpus, monkeypatch):
    full = types.SimpleNamespace(free=100)
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: full)
    with pytest.raises(PlaceError, match="VQA_JAX_STAGE"):
        places.staged(URL)
    assert _fetched(corpus) == []


def test_outputs_are_put_whole_and_manifests_last(s3):
    copy = places.output("s3://bucket/out", is_folder=True)
    folder = pathlib.Path(copy.path)
    (folder / "work").mkdir(parents=True)
    for name in ("z.parquet", "work/a.bin", ".lock", "half.7.tmp"):
        (folder / name).write_text(name)
    files.write_json(str(folder / "b.json"), 1)
    os.utime(folder / "b.json", ns=(1, 1))  # before the manifest, whatever the clock's steps
    files.write_json(str(folder / "a.json"), 2)
    s3.requests.clear()
    places.publish(str(folder / "work" / "a.bin"))
    put = s3.asked("PUT")
    assert sorted(put[:2]) == ["out/work/a.bin", "out/z.parquet"]
    assert put[2:] == ["out/b.json", "out/a.json"]
    assert s3.read("out/") == {
        name: data for name, data in _below(folder).items() if name not in (".lock", "half.7.tmp")
    }
    s3.requests.clear()
    copy.publish()
    assert s3.asked("PUT") == s3.asked("DELETE") == []
    (folder / "work" / "a.bin").unlink()
    (folder / "z.parquet").write_text("again")
    copy.publish()
    assert s3.asked("PUT") == ["out/z.parquet"] and s3.asked("DELETE") == ["out/work/a.bin"]


def test_an_output_file_has_its_work_beside_it(s3):
    for name in ("scores.csv.work/1/range.json", "scores.csv", "scores.csv2", "other"):
        s3.write(f"runs/{name}", b"before")
    copy = places.output("s3://bucket/runs/scores.csv", is_folder=False)
    folder = os.path.dirname(copy.path)
    assert sorted(_below(folder)) == ["scores.csv", "scores.csv.work/1/range.json"]
    pathlib.Path(copy.path).write_text("scores")
    copy.publish()
    assert s3.read("runs/scores.csv") == {
        "": b"scores",
        ".work/1/range.json": b"before",
        "2": b"before",
    }


def test_an_output_goes_on_from_what_another_machine_put(s3, tmp_path, monkeypatch):
    copy = places.output(URL, is_folder=True)
    os.mkdir(copy.path)
    files.write_json(os.path.join(copy.path, "part.json"), 1)
    copy.publish()
    monkeypatch.setenv("VQA_JAX_STAGE", str(tmp_path / "another"))
    other = places.output(URL, is_folder=True)
    assert other.path != copy.path and sorted(_below(other.path)) == ["part.json"]
    os.remove(os.path.join(other.path, "part.json"))
    other.publish()
    assert s3.read("runs/corpus/") == {}


def test_what_another_job_changed_is_left_alone(corpus):
    copy = places.output(URL, is_folder=True)
    files.write_json(os.path.join(copy.path, "manifest.json"), "ours")
    corpus.write("runs/corpus/manifest.json", b"theirs")
    with pytest.raises(PlaceError, match=r"corpus/manifest\.json was changed by another job"):
        copy.publish()
    assert corpus.read("runs/corpus/manifest.json") == {"": b"theirs"}


def test_what_was_changed_on_both_sides_is_kept_aside(corpus, caplog):
    copy = places.output(URL, is_folder=True)
    path = pathlib.Path(copy.path, "manifest.json")
    path.write_bytes(b"ours")
    pathlib.Path(copy.path, "new").write_bytes(b"not put yet")
    corpus.write("runs/corpus/manifest.json", b"theirs")
    with caplog.at_level(logging.WARNING, "absl"):
        places.output(URL, is_folder=True)
    assert path.read_bytes() == b"theirs"
    assert pathlib.Path(copy.path, "new").read_bytes() == b"not put yet"
    aside = pathlib.Path(os.path.dirname(copy.path) + ".aside", "corpus", "manifest.json")
    assert aside.read_bytes() == b"ours" and str(aside) in caplog.text


def test_a_put_that_was_not_noted_is_no_conflict(corpus, caplog):
    """A process may be killed between a put and its line in the journal."""
    copy = places.output(URL, is_folder=True)
    pathlib.Path(copy.path, "new").write_bytes(b"put")
    corpus.write("runs/corpus/new", b"put")
    with caplog.at_level(logging.WARNING, "absl"):
        places.output(URL, is_folder=True).publish()
    assert corpus.read("runs/corpus/new") == {"": b"put"} and not caplog.text


def test_a_cache_that_was_emptied_removes_nothing(corpus):
    for path in pathlib.Path(places.staged(URL)).rglob("*.array_record"):
        path.unlink()
    copy = places.output(URL, is_folder=True)
    copy.publish()
    found = corpus.read("runs/corpus/")
    assert {name: data for name, data in found.items() if not name.endswith("/")} == KEYS


def test_a_folder_of_somebody_else_is_not_trusted(corpus, tmp_path, monkeypatch):
    monkeypatch.delenv("VQA_JAX_STAGE")
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"vqa_jax_stage_{os.getuid()}").mkdir()
    assert places.staged(URL).startswith(str(tmp_path))
    real = os.getuid()
    (tmp_path / f"vqa_jax_stage_{real + 1}").mkdir()
    monkeypatch.setattr(places.os, "getuid", lambda: real + 1)
    with pytest.raises(PlaceError, match="belongs to somebody else"):
        places.staged(URL)
