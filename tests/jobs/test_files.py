"""Files of jobs: written whole, locked, cleared of leftovers."""

import hashlib
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from vqa_jax.jobs import files


def test_key_hash_is_the_head_of_sha256():
    assert files.key_hash("clip ü") == int(hashlib.sha256("clip ü".encode()).hexdigest()[:16], 16)
    assert files.key_hash("caf\udce9") == int(hashlib.sha256(b"caf\xe9").hexdigest()[:16], 16)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = str(tmp_path / "x.json")
    files.write_json(path, {"name": "caf\udce9 ü", "n": [1, 2]})
    with pytest.raises(TypeError):
        files.write_json(path, {"name": "new", "n": object()})
    assert files.read_json(path) == {"name": "caf\udce9 ü", "n": [1, 2]}
    assert os.listdir(tmp_path) == ["x.json"]
    with pytest.raises(files.CorpusError, match=r"y\.json is missing"):
        files.read_json(str(tmp_path / "y.json"))
    (tmp_path / "x.json").write_text('{"name": ')
    with pytest.raises(files.CorpusError, match=r"x\.json is not valid JSON"):
        files.read_json(path)


def test_what_a_library_writes_for_its_owner_is_for_all_whom_the_umask_allows(tmp_path):
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    with files.replacing(str(tmp_path / "arrays")) as temporary:
        save_file({"a": np.zeros(3)}, temporary)
    assert (tmp_path / "arrays").stat().st_mode == usual


def test_one_job_at_a_time(tmp_path):
    folder = str(tmp_path / "corpus")
    with (
        files.exclusive(folder),
        pytest.raises(files.CorpusError, match="in use"),
        files.exclusive(folder),
    ):
        pass
    with files.exclusive(folder):
        pass


def test_only_leftovers_of_killed_jobs_are_removed(tmp_path):
    for name in ("a.json.123.tmp", "b.array_record.4.tmp", "notes.tmp", "c.json", "d.12.tmp.json"):
        (tmp_path / name).write_text("x")
    files.remove_temporary(str(tmp_path))
    assert set(os.listdir(tmp_path)) == {"notes.tmp", "c.json", "d.12.tmp.json"}


def test_a_sealed_file_tells_any_change(tmp_path):
    path = tmp_path / "x.json"
    value = {"counts": {1: 2.5}, "names": ("caf\udce9", "ü"), "sha256": "of another file"}
    files.write_sealed(str(path), value)
    as_read = {"counts": {"1": 2.5}, "names": ["caf\udce9", "ü"], "sha256": "of another file"}
    assert files.read_json(str(path)) == as_read
    text = path.read_text("utf-8", "surrogateescape")
    path.write_text(text.replace("2.5", "3.5"), "utf-8", "surrogateescape")
    with pytest.raises(files.CorpusError, match=r"x\.json is damaged.*seal"):
        files.read_json(str(path))
    # Somebody who edits it says so by taking the seal away.
    lines = path.read_text("utf-8", "surrogateescape").splitlines()
    kept = "".join(line for line in lines if '"seal"' not in line)
    path.write_text(kept, "utf-8", "surrogateescape")
    assert files.read_json(str(path))["counts"] == {"1": 3.5}


@pytest.mark.parametrize(
    ("value", "shape", "wrong"),
    [
        ({"a": 1, "b": [{"c": "x"}]}, {"a": int, "b": [{"c": files.is_name}]}, None),
        ({"x": {"n": 1}, "y": {"n": 2.5}}, {str: {"n": files.is_number}}, None),
        ([], dict, r"it is \[\]"),
        ({"a": True}, {"a": int}, "a is True"),
        ({"a": {}}, {"a": {"b": int}}, "a.b is missing"),
        ({"a": [1, "x"]}, {"a": [int]}, r"a\[1\] is 'x'"),
        ({"a": "../x"}, {"a": files.is_name}, "a is '../x'"),
        ({"a": None}, {str: str}, "a is None"),
    ],
)
def test_json_of_another_shape_than_its_reader_needs(tmp_path, value, shape, wrong):
    path = str(tmp_path / "x.json")
    files.write_json(path, value)
    if wrong is None:
        assert files.read_json(path, shape) == value
        return
    with pytest.raises(files.CorpusError, match=rf"x\.json is not as .*\({wrong}\)"):
        files.read_json(path, shape)


def test_a_full_disk_in_a_librarys_words_names_the_file(tmp_path):
    path = str(tmp_path / "x.safetensors")
    with pytest.raises(OSError, match="No space left") as error, files.replacing(path):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert error.value.filename == path
    with pytest.raises(RuntimeError, match="other"), files.replacing(path):
        raise RuntimeError("other")
