"""What is told of a store that refuses, fails or holds odd things; against a real S3 server."""

import importlib.util

import pytest

from vqa_jax.extras import MissingExtraError
from vqa_jax.jobs.stores import Object, PlaceError, Store


def test_objects_are_listed_looked_at_put_got_and_removed(s3, tmp_path):
    store = Store("s3://bucket/a/b/")
    (tmp_path / "x").write_bytes(b"12345")
    store.put(str(tmp_path / "x"), "b/c/x")
    assert s3.read() == {"a/b/c/x": b"12345"}
    etag = s3.client.head_object(Bucket="bucket", Key="a/b/c/x")["ETag"].strip('"')
    assert store.listed() == {"b/c/x": Object(etag, 5)}
    assert store.look("b/c/x") == Object(etag, 5) and store.look("b/c/y") is None
    store.get("b/c/x", str(tmp_path / "y"))
    assert (tmp_path / "y").read_bytes() == b"12345"
    store.remove("b/c/x")
    store.remove("b/c/x")
    assert s3.read() == {} and store.listed() == {}
    with pytest.raises(FileNotFoundError):
        store.put(str(tmp_path / "none"), "b/none")


def test_a_bucket_is_a_folder(s3):
    s3.write("a/x", b"1")
    assert list(Store("s3://bucket").listed()) == ["bucket/a/x"]
    assert Store("s3://bucket").url_of("bucket/a/x") == "s3://bucket/a/x"
    Store("s3://bucket").check_writable()
    assert list(s3.read()) == ["a/x"]


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "s3://bucket/../a", "s3://bucket//a"])
def test_what_is_no_address_is_told(url):
    pytest.importorskip("s3fs")
    with pytest.raises(PlaceError, match=r"is no address: write s3://BUCKET/NAME"):
        Store(url)


def test_a_bucket_is_no_file():
    with pytest.raises(PlaceError, match=r"s3://bucket is a bucket: name a file in it"):
        Store("s3://bucket", is_folder=False)


@pytest.mark.parametrize("url", ["https://host/a", "hdfs://host/a", "memory://a", "file:///tmp"])
def test_other_schemes_are_refused(url):
    with pytest.raises(PlaceError, match=rf"{url}: give a local path, or one of s3:// or gs://"):
        Store(url)


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_client_is_told(monkeypatch, scheme, package):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else real(name)
    )
    with pytest.raises(MissingExtraError, match=rf'pip install "vqa_jax\[{scheme}\]"'):
        Store(f"{scheme}://bucket/a")


def test_bad_credentials_are_told(s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    store = Store("s3://bucket/a")
    for ask in (store.listed, store.check_writable, lambda: store.look("a/x")):
        with pytest.raises(PlaceError, match=r"^s3://bucket/a\S*: .*: set AWS_PROFILE, or") as told:
            ask()
        assert "\n" not in str(told.value)


def test_no_credentials_are_told(s3, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(PlaceError, match=r"^s3://bucket/a: .*credentials.*: set AWS_PROFILE"):
        Store("s3://bucket/a").listed()


def test_a_missing_bucket_is_told(s3):
    store = Store("s3://nobucket/a")
    for ask in (store.listed, store.check_writable):
        with pytest.raises(PlaceError, match=r"^s3://nobucket/a: .*check the names of bucket"):
            ask()


def test_no_server_is_told(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PlaceError, match=r"^s3://bucket/a: .*127\.0\.0\.1:9.*the same command"):
        Store("s3://bucket/a").listed()


@pytest.mark.parametrize("what", ["500", "cut"])
def test_one_failure_in_the_middle_is_tried_again(s3, tmp_path, what):
    data = bytes(range(256)) * 4096
    s3.write("a/x", data)
    failures = [what]
    s3.disturb = lambda method, key: (
        failures.pop() if method == "GET" and key and failures else None
    )
    Store("s3://bucket/a").get("a/x", str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == data and not failures


def test_a_lasting_failure_is_told(s3, tmp_path):
    s3.write("a/x", b"1")
    s3.disturb = lambda method, key: "500"
    (tmp_path / "x").write_bytes(b"2")
    store = Store("s3://bucket/a")
    for ask in (
        lambda: store.get("a/x", str(tmp_path / "y")),
        lambda: store.put(str(tmp_path / "x"), "a/x"),
        lambda: store.remove("a/x"),
    ):
        with pytest.raises(PlaceError, match=r"^s3://bucket/a/x: .*run the same command again"):
            ask()
    s3.disturb = lambda method, key: None
    assert s3.read() == {"a/x": b"1"}


@pytest.mark.parametrize("key", ["a/../../x", "a//x", "a/./x"])
def test_names_that_lead_elsewhere_are_refused(s3, key):
    s3.write("a/good", b"")
    s3.write(key, b"")
    with pytest.raises(PlaceError, match=r"s3://bucket/a holds .*: rename it"):
        Store("s3://bucket/a").listed()
