"""JSON of others as frozen dataclasses."""

import dataclasses

import pytest

from vqa_jax.jobs import fields


@dataclasses.dataclass(frozen=True)
class _Inner:
    side: int
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class _Outer:
    inner: _Inner
    names: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    flag: bool = False

    def __post_init__(self) -> None:
        if len(self.names) > 2:
            raise ValueError("names are too many")


def _build(raw):
    return fields.build(_Outer, raw, "f.json", ValueError, {"side": (1, 10), "values": (0, 1)})


def test_values_of_the_right_type_come_back():
    raw = {"inner": {"side": 3, "rate": 1}, "names": ["a"], "values": [0.5, 1], "flag": True}
    assert _build(raw) == _Outer(_Inner(3, 1.0), ("a",), (0.5, 1.0), True)
    assert _build({"inner": {"side": 3}}) == _Outer(_Inner(3))


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ([], "f.json: it is no object but a list of 0"),
        ({}, "f.json: inner is missing"),
        ({"inner": 1}, "f.json: inner is no object but 1"),
        ({"inner": {}}, "f.json: inner.side is missing"),
        ({"inner": {"side": 3, "x": 1}}, "f.json: inner.x is no known field"),
        ({"inner": {"side": 0}}, "f.json: inner.side is 0, not from 1 to 10"),
        ({"inner": {"side": 3.0}}, "f.json: inner.side is 3.0, no whole number"),
        ({"inner": {"side": True}}, "f.json: inner.side is True, no whole number"),
        ({"inner": {"side": 10**400}}, "f.json: inner.side is a huge number, not from"),
        ({"inner": {"side": 3, "rate": float("nan")}}, "f.json: inner.rate is nan, not from"),
        ({"inner": {"side": 3, "rate": 1e13}}, "f.json: inner.rate is 10000000000000.0, not"),
        ({"inner": {"side": 3}, "names": "ab"}, "f.json: names is 'ab', no list"),
        ({"inner": {"side": 3}, "names": [1]}, r"f.json: names\[0\] is 1, no text"),
        ({"inner": {"side": 3}, "values": [0, 2]}, r"f.json: values\[1\] is 2, not from 0 to 1"),
        ({"inner": {"side": 3}, "flag": 1}, "f.json: flag is 1, neither true nor false"),
        ({"inner": {"side": 3}, "names": ["a"] * 3}, "f.json: it: names are too many"),
    ],
)
def test_others_are_one_line_with_file_and_field(raw, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        _build(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is damaged"),
        ("[1]", "it holds no object but a list of 1"),
        ("[" * 100_000, "is damaged"),
        ('{"a": ' + "1" * 5000 + "}", "is damaged"),
    ],
)
def test_files_that_hold_no_object(text, complaint, tmp_path):
    (tmp_path / "f.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"f\.json.*{complaint}"):
        fields.read_object(tmp_path / "f.json", ValueError)


def test_missing_and_large_files(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"f\.json: No such file"):
        fields.read_object(tmp_path / "f.json", ValueError)
    (tmp_path / "f.json").write_text('{"a": 1}', encoding="utf-8")
    assert fields.read_object(tmp_path / "f.json", ValueError) == {"a": 1}
    monkeypatch.setattr(fields, "MAX_BYTES", 4)
    with pytest.raises(ValueError, match="more than 0 MiB"):
        fields.read_object(tmp_path / "f.json", ValueError)


def test_one_field():
    raw = {"b": 3}
    assert fields.part(raw, "a.b", int, "f.json", ValueError) == 3
    with pytest.raises(ValueError, match=r"f\.json: a\.c is missing"):
        fields.part(raw, "a.c", int, "f.json", ValueError)
    with pytest.raises(ValueError, match=r"f\.json: a\.b is 3, no object"):
        fields.part(raw, "a.b", dict, "f.json", ValueError)


@dataclasses.dataclass(frozen=True)
class _Other:
    side: int
    cells: int = 2


@dataclasses.dataclass(frozen=True)
class _Either:
    part: _Inner | _Other


@pytest.mark.parametrize("part", [_Inner(3, 0.25), _Other(3), _Other(3, 4)])
def test_of_a_union_the_dataclass_that_knows_most_of_the_fields_is_meant(part):
    raw = {"part": dataclasses.asdict(part)}
    found = fields.build(_Either, raw, "f.json", ValueError)
    assert found.part == part and type(found.part) is type(part)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"side": 3, "cells": 2, "rate": 1.0}, r"f.json: part\.(rate|cells) is no known field"),
        ({"cells": 2}, r"f.json: part\.side is missing"),
        ({"side": 3, "cells": 0.5}, r"f.json: part\.cells is 0.5, no whole number"),
        ({"colour": 3}, r"f.json: part\.colour is no known field"),
        (3, "f.json: part is no object but 3"),
        (None, "f.json: part is no object but null"),
    ],
)
def test_a_union_is_checked_like_the_one_that_is_meant(raw, complaint):
    with pytest.raises(ValueError, match=complaint):
        fields.build(_Either, {"part": raw}, "f.json", ValueError)
