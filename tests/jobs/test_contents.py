"""Contents of files: listed, checked, told apart."""

import hashlib
import os
from typing import ClassVar

import fsspec
import pytest

from vqa_jax.jobs import contents
from vqa_jax.jobs.files import CorpusError


def test_a_list_tells_every_change(tmp_path):
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    listed = contents.listed(str(tmp_path), ["b", "a"])
    assert listed["a"] == {"bytes": 5, "sha256": hashlib.sha256(b"first").hexdigest()}
    assert contents.changed(str(tmp_path), listed) is None
    (tmp_path / "b").write_bytes(b"sEcond")
    assert contents.changed(str(tmp_path), listed, whole=False) is None
    assert contents.changed(str(tmp_path), listed).startswith("b is missing or not")
    assert contents.changed(str(tmp_path), {"b": {"bytes": 6}}) is None  # known by its size alone
    os.remove(tmp_path / "a")
    assert "a is missing" in contents.changed(str(tmp_path), listed, whole=False)


def test_a_hash_that_differs_names_file_and_remedy(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    assert contents.checked_sha256(str(path), digest, "buy it") == digest
    assert contents.checked_sha256(str(path), None, "buy it") == digest
    with pytest.raises(CorpusError, match=r"a is damaged.*: buy it"):
        contents.checked_sha256(str(path), "0" * 64, "buy it")


@pytest.mark.parametrize("size", [0, 10, 65536, 65537, 10**6])
def test_a_stamp_is_of_size_and_spread_blocks(tmp_path, size):
    path = tmp_path / "a"
    data = bytearray(os.urandom(size))
    path.write_bytes(data)
    before = contents.stamp(str(path))
    os.utime(path, ns=(1, 1))  # a copy of it
    assert contents.stamps([str(path), str(path / "b")]) == [before, contents.GONE]
    path.write_bytes(data + b"x")
    assert contents.stamp(str(path)) != before
    for place in (0, size // 3, size - 1) if size == 65536 else (0, size - 1) if size else ():
        data[place] ^= 1
        path.write_bytes(data)
        assert contents.stamp(str(path)) != before
        data[place] ^= 1


def test_a_stamp_of_a_url_is_what_its_store_says(monkeypatch):
    store = fsspec.filesystem("memory")
    store.pipe("/stamps/a.mp4", b"one")
    url = "memory://stamps/a.mp4"
    before = contents.stamp(url)
    assert contents.stamps([url, url + "x", "nowhere://a", "a\0b"]) == [
        before,
        *[contents.GONE] * 3,
    ]
    store.pipe("/stamps/a.mp4", b"two")
    assert contents.stamp(url) != before and contents.url_version(url)[0] == 3
    store.rm("/stamps", recursive=True)

    class Http:  # whose own key knows no versions
        told: ClassVar = {"size": None, "ETag": "1"}
        info, ukey = (lambda self, url: self.told), (lambda self, url: url)

    monkeypatch.setattr(fsspec, "filesystem", lambda protocol: Http())
    url = "https://a/b.mp4"
    before = contents.stamp(url)
    assert contents.stamp(url) == before and contents.url_version(url)[0] == -1
    Http.told["ETag"] = "2"
    assert contents.stamp(url) != before
