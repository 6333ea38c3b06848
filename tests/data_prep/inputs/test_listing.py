"""Listings: folders, globs and tables, here and in a bucket; copies of remote files."""

import json
import os
import pathlib

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from data_prep.inputs import listing
from data_prep.inputs.listing import Input, ListingError, read_listing
from vqa_jax.media import sources
from vqa_jax.media.container import UnreadableFileError
from vqa_jax.media.probe import probe


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a.mkv", "deep/c.MP4"):
        (tmp_path / name).write_bytes(b"listed by its name")
    (tmp_path / "notes.txt").write_text("no video")
    return tmp_path


@pytest.fixture
def bucket():
    store = fsspec.filesystem("memory")
    for name in ("/bucket/b.mp4", "/bucket/deep/a.webm", "/bucket/notes.txt"):
        store.pipe(name, name.encode())
    yield store
    store.rm("/bucket", recursive=True)


def _table(path, rows):
    """Writes the same rows as the kind of table that the name says."""
    if path.suffix == ".csv":
        names = sorted({name for row in rows for name in row})
        lines = [names, *([row.get(n, "") for n in names] for row in rows)]
        path.write_text("".join(",".join(line) + "\n" for line in lines))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


def test_a_folder_gives_paths_below_it(folder):
    inputs = read_listing(str(folder))
    assert [i.key for i in inputs] == ["a.mkv", "b.mp4", "deep/c.MP4"]
    assert [i.path for i in inputs] == [os.path.join(folder, i.key) for i in inputs]
    assert {(i.source, i.licence, i.split) for i in inputs} == {("", "", "")}


def test_a_folder_may_bring_its_splits(folder):
    scenes = {"scenes": [{"file": "b.mp4", "split": "heldout"}]}
    (folder / "scenes.json").write_text(json.dumps(scenes))
    assert [i.split for i in read_listing(str(folder))] == ["", "heldout", ""]
    for wrong in ({"scenes": [{"file": "b.mp4", "split": "test"}]}, {"scenes": [{}]}, []):
        (folder / "scenes.json").write_text(json.dumps(wrong))
        with pytest.raises(ListingError, match=r"scenes\.json"):
            read_listing(str(folder))


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("*.mp4", ["b.mp4"]),
        ("**/*.[mM][pP]4", ["b.mp4", "deep/c.MP4"]),
        ("d*/*", ["deep/c.MP4"]),
        ("a.mkv", ["a.mkv"]),
    ],
)
def test_a_glob_gives_paths_below_its_fixed_part(folder, pattern, keys):
    assert [i.key for i in read_listing(str(folder / pattern))] == keys


def test_relative_globs_work_from_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert read_listing("*.mp4") == [Input("b.mp4", "b.mp4")]


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_tables_carry_source_licence_and_split(tmp_path, kind):
    rows = [
        {"path": "z.mp4", "source": "youtube", "licence": "CC-BY", "split": "train"},
        {"path": "/abs/a.mp4", "source": "tiktok", "licence": "", "split": "heldout"},
        {"path": "gs/../b.mp4", "source": "", "licence": "", "split": ""},
    ]
    assert read_listing(_table(tmp_path / f"list{kind}", rows)) == [
        Input("/abs/a.mp4", "/abs/a.mp4", "tiktok", "", "heldout"),
        Input(f"{tmp_path}/gs/../b.mp4", "gs/../b.mp4"),
        Input(f"{tmp_path}/z.mp4", "z.mp4", "youtube", "CC-BY", "train"),
    ]


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_the_path_alone_is_enough(tmp_path, kind):
    path = _table(tmp_path / f"list{kind}", [{"path": "a.mp4", "views": "7"}])
    assert read_listing(path) == [Input(f"{tmp_path}/a.mp4", "a.mp4")]


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"file": "a.mp4"}], "column path"),
        ([{"path": "a.mp4", "split": "test"}], "record 1 has the split 'test'"),
        ([{"path": "a.mp4", "split": ""}, {"path": "", "split": ""}], "record 2 has no path"),
        (
            [{"path": "a.mp4", "split": "train"}, {"path": "a.mp4", "split": "heldout"}],
            "record 2 contradicts",
        ),
    ],
)
def test_malformed_tables_say_what_and_where(tmp_path, kind, rows, words):
    with pytest.raises(ListingError, match=words) as error:
        read_listing(_table(tmp_path / f"list{kind}", rows))
    assert f"list{kind}" in str(error.value)


def test_a_repeated_path_counts_once(tmp_path):
    path = _table(tmp_path / "list.csv", [{"path": "a.mp4"}, {"path": "a.mp4"}])
    assert [i.key for i in read_listing(path)] == ["a.mp4"]


def test_csv_of_spreadsheets_and_names_that_are_not_text(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b'\xef\xbb\xbfpath,source\r\n"a,b.mp4",x\r\ncaf\xe9.mp4,y\r\n')
    assert [i.key for i in read_listing(str(path))] == ["a,b.mp4", "caf\udce9.mp4"]


def test_a_path_with_a_comma_is_not_cut_and_a_guarded_one_is_read_bare(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('path\n\'=1.mp4\n"a,b.mp4"\n', encoding="utf-8")
    assert [i.key for i in read_listing(str(path))] == ["=1.mp4", "a,b.mp4"]
    path.write_text("path\na,b.mp4\n", encoding="utf-8")
    with pytest.raises(ListingError, match="record 1 has 2 cells, the header 1"):
        read_listing(str(path))


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.parquet"])
def test_garbage_empty_and_missing_tables_are_named(tmp_path, name):
    for contents in (None, b"", b"\x00\xff\x00{"):
        if contents is not None:
            (tmp_path / name).write_bytes(contents)
        with pytest.raises(ListingError, match=name):
            read_listing(str(tmp_path / name))


def test_nothing_there(tmp_path):
    with pytest.raises(ListingError, match="matches no file"):
        read_listing(str(tmp_path / "none"))
    with pytest.raises(ListingError, match="no file"):
        read_listing("memory://nowhere/at/all")
    with pytest.raises(ListingError, match="nosuch://"):
        read_listing("nosuch://bucket/videos")


def test_a_table_of_urls_without_their_package_fails_before_work(tmp_path):
    path = _table(tmp_path / "list.csv", [{"path": "nosuch://bucket/a.mp4"}])
    with pytest.raises(ListingError, match="nosuch://"):
        read_listing(path)


@pytest.mark.parametrize(
    ("spec", "keys"),
    [
        ("memory://bucket", ["b.mp4", "deep/a.webm"]),
        ("memory://bucket/*.mp4", ["b.mp4"]),
        ("memory://bucket/b.mp4", ["b.mp4"]),
    ],
)
def test_remote_folders_and_globs(bucket, spec, keys):
    inputs = read_listing(spec)
    assert [i.key for i in inputs] == keys
    assert all(i.path.startswith("memory://") and bucket.exists(i.path) for i in inputs)


def test_stills_count_when_asked_for(folder, bucket):
    (folder / "picture.jpg").write_bytes(b"listed by its name")
    bucket.pipe("/bucket/p.png", b"as well")
    for spec, name in ((str(folder), "picture.jpg"), ("memory://bucket", "p.png")):
        assert name not in [i.key for i in read_listing(spec)]
        assert name in [i.key for i in read_listing(spec, stills=True)]


def test_a_remote_table_is_relative_to_itself(bucket):
    bucket.pipe("/bucket/list.csv", b"path\nb.mp4\nmemory://bucket/deep/a.webm\n")
    inputs = read_listing("memory://bucket/list.csv")
    assert [i.path for i in inputs] == ["memory://bucket/b.mp4", "memory://bucket/deep/a.webm"]


def test_stamps_tell_files_of_one_size_apart(tmp_path, bucket):
    local, remote = Input(str(tmp_path / "a.mp4"), "a.mp4"), Input("memory://bucket/b.mp4", "b")
    (tmp_path / "a.mp4").write_bytes(b"one")
    os.utime(local.path, ns=(1, 1))
    before = [listing.file_stamp(entry) for entry in (local, remote)]
    assert before == [listing.file_stamp(entry) for entry in (local, remote)]
    (tmp_path / "a.mp4").write_bytes(b"two")
    bucket.pipe("/bucket/b.mp4", b"/bucket/B.mp4")
    after = [listing.file_stamp(entry) for entry in (local, remote)]
    assert [a.size for a in after] == [b.size for b in before] == [3, 13]
    assert all(a.version != b.version for a, b in zip(after, before, strict=True))
    assert all(a.content != b.content for a, b in zip(after, before, strict=True))
    for path in (str(tmp_path / "none"), "memory://bucket/none"):
        assert listing.file_stamp(Input(path, "k")) == listing.Stamp(-1, -1, "missing")
    copied = Input(str(tmp_path / "copy.mp4"), "a.mp4")
    (tmp_path / "copy.mp4").write_bytes(b"two")
    stamps = listing.file_stamps([local, copied])
    assert stamps[0].version != stamps[1].version
    one, other = (listing.content_hash([local], [stamp]) for stamp in stamps)
    assert one == other != listing.content_hash([local], before[:1])


def test_one_bad_address_among_good_ones_is_its_rows(folder, bucket):
    good = {"path": "memory://bucket/b.mp4"}
    bad = [{"path": p} for p in ("gopher://a/b.mp4", "ht!tp://[::1/x.mp4", "bad\0name.mp4")]
    inputs = read_listing(_table(folder / "list.jsonl", [good, *bad]))
    assert len(inputs) == 4
    for entry in inputs:
        if entry.path == good["path"]:
            assert listing.file_stamp(entry).size == len("/bucket/b.mp4")
            continue
        assert listing.file_stamp(entry) == listing.Stamp(-1, -1, "missing")
        with pytest.raises(UnreadableFileError) as caught, sources.local(entry.path, 0) as path:
            probe(path)
        assert caught.value.reason


def test_a_folder_behind_a_link_and_two_dots(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "link").symlink_to(folder / "deep")
    (entry, *_) = read_listing(os.path.join(other, "link", ".."))
    assert os.path.samefile(entry.path, folder / entry.key)


def test_folders_globs_and_tables_on_an_s3_server(s3):
    s3.write("videos/a.mp4", b"1")
    s3.write("videos/b/c.mkv", b"22")
    s3.write("videos/notes.txt", b"")
    s3.write("list.csv", b"path,source\nvideos/a.mp4,here\n")
    entries = listing.read_listing("s3://bucket/videos")
    assert [(i.path, i.key) for i in entries] == [
        ("s3://bucket/videos/a.mp4", "a.mp4"),
        ("s3://bucket/videos/b/c.mkv", "b/c.mkv"),
    ]
    assert listing.read_listing("s3://bucket/videos/*/*.mkv") == [
        listing.Input("s3://bucket/videos/b/c.mkv", "b/c.mkv")
    ]
    assert listing.read_listing("s3://bucket/list.csv") == [
        listing.Input("s3://bucket/videos/a.mp4", "videos/a.mp4", "here")
    ]
    before = listing.file_stamps(entries)
    assert [stamp.size for stamp in before] == [1, 2]
    with sources.local(entries[1].path, 10) as path:
        assert pathlib.Path(path).read_bytes() == b"22" and path.endswith(".mkv")
    s3.write("videos/b/c.mkv", b"33")
    type(fsspec.filesystem("s3")).clear_instance_cache()  # as in another process
    after = listing.file_stamps(entries)
    assert after[0] == before[0] and after[1].content != before[1].content
    with pytest.raises(listing.ListingError, match="s3://bucket/none"):
        listing.read_listing("s3://bucket/none")
