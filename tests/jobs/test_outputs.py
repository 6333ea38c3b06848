"""Outputs that cannot be written are told before the work; streams are written to, not replaced."""

import errno
import os
import stat
import threading

import pytest

from vqa_jax.jobs import files, outputs
from vqa_jax.jobs.outputs import OutputError


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        ("folder", "text", "is a folder"),
        ("folder", "file", "is a folder"),
        ("new/", "text", "is a folder"),
        ("file", "folder", "is no folder"),
        ("file/below", "folder", "is no folder"),
        ("file/below/it.csv", "text", "is no folder"),
        ("/proc/it.csv", "text", "no file can be made there"),
        ("/proc/it", "folder", "no file can be made there"),
        ("/dev/null", "file", "is no file"),
        ("-", "file", "is no file"),
        ("/dev/fd/987", "text", "Bad file descriptor"),
    ],
)
def test_what_cannot_be_written_is_told_with_a_remedy(tmp_path, place, kind, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = sorted(p.name for p in tmp_path.rglob("*"))
    path = os.path.join(tmp_path, place) if place != "-" else place
    with pytest.raises(OutputError, match="name") as caught:
        outputs.check_output(path, kind)
    assert message in str(caught.value) and place in str(caught.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        outputs.check_output(str(tmp_path / "it.csv"), "text")


def test_what_can_be_written_leaves_no_trace_but_folders_above_files(tmp_path):
    outputs.check_output(str(tmp_path / "a" / "b.csv"), "text")
    outputs.check_output(str(tmp_path / "c" / "d"), "folder")
    for stream in ("-", "/dev/null", "/dev/stdout"):
        outputs.check_output(stream, "text")
    assert [p.name for p in tmp_path.rglob("*")] == ["a"]


def test_files_are_replaced_and_streams_are_not(tmp_path, capfdbinary):
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("old")
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    for place in (str(pipe), str(file), "-", "/dev/fd/1", "/dev/null"):
        with files.written(place, newline="") as f:
            f.write("br\udcff\r\n")
    reader.join()
    assert received == [b"br\xff\r\n"] and file.read_bytes() == b"br\xff\r\n"
    assert capfdbinary.readouterr().out == 2 * b"br\xff\r\n"
    assert stat.S_ISFIFO(pipe.stat().st_mode) and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "pipe"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught:
        files.write_json("/dev/full", {})
    told = outputs.describe(caught.value)
    assert told.startswith("/dev/full: No space left") and "free some space" in told

    path = str(tmp_path / "it.json")
    with pytest.raises(OSError) as caught, files.written(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as of a write
    assert outputs.describe(caught.value).startswith(f"{path}: No space left")
    with pytest.raises(FileNotFoundError) as caught, files.written(path):
        os.stat(tmp_path / "another")
    assert "another" in outputs.describe(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_systems_errors_are_known_in_other_libraries_words():
    text = "write() failed: No space left on device; writing x; Failed to close chunk_writer"
    error = outputs.of_the_system(RuntimeError(text), "shard")
    assert outputs.describe(error) == (
        "shard: No space left on device: free some space, or name another place"
    )
    assert outputs.of_the_system(RuntimeError("corrupted chunk"), "shard") is None
