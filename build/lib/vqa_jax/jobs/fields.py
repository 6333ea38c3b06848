"""JSON that somebody else may have written, as frozen dataclasses: types and bounds are checked.

Every complaint is one line that names the file and the field, before anything of the stated size
is allocated.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from collections.abc import Callable, Mapping, Set
from typing import Any, TypeVar

from vqa_jax.jobs.files import is_as_sealed

MAX_BYTES = 1 << 24  # of a file of facts
MAX_TEXT = 1 << 12
MAX_ITEMS = 1 << 16  # of a list
MAX_INT = 1 << 20  # where a field states no other bound
MAX_FLOAT = 1e12

Bounds = Mapping[str, tuple[float, float]]
Complain = Callable[[str], Exception]  # makes the error of one line
_USUAL: Bounds = types.MappingProxyType({})
_T = TypeVar("_T")


def read_object(path: str | os.PathLike[str], complain: Complain) -> dict[str, Any]:
    """The object that a JSON file holds, without its seal (`files.write_sealed`).

    Args:
      path: of the file.
      complain: type of the error to raise.

    Raises:
      what `complain` makes: no such file, too large a one, or something else than an object.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        value = json.loads(data.decode("utf-8", "surrogateescape"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds no object but {_shown(value)}")
        if not is_as_sealed(value):
            raise ValueError('it is not as it was written; who edits it takes away its "seal"')
    except OSError as error:
        raise complain(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise complain(f"{path} is damaged ({error}): fetch or make it again") from error
    return value


def part(
    raw: Mapping[str, Any],
    name: str,
    kind: type,
    path: str,
    complain: Complain,
    bounds: Bounds = _USUAL,
) -> Any:
    """The field `name` of an object, checked; `kind` and `bounds` as for `build`.

    Args:
      raw: the object.
      name: its field; that of a nested one is written with dots and looked up by its last part.
      kind: type that the value must have.
      path, complain, bounds: as for `build`.

    Raises:
      what `complain` makes: the field is missing or of another type or size.
    """
    last = name.rpartition(".")[2]
    if last not in raw:
        raise complain(f"{path}: {name} is missing")
    return _value(kind, raw[last], path, name, complain, bounds)


def build(
    cls: type[_T], raw: Any, path: str, complain: Complain, bounds: Bounds = _USUAL, name: str = ""
) -> _T:
    """A dataclass of what JSON says; its own checks are told in the same way.

    Args:
      cls: dataclass of int, float, str, bool, tuples of these, such dataclasses, and unions of
        dataclasses, of which the one that knows most of the fields is meant.
      raw: the JSON value.
      path: of the file, for errors.
      complain: type of the error to raise.
      bounds: lowest and highest value of numbers, by the field's name; without one 0 to MAX_INT,
        and -MAX_FLOAT to MAX_FLOAT. Floats are finite.
      name: of the value in the file, for errors.

    Raises:
      what `complain` makes: no object, an unknown or missing field, another type, out of bounds.
    """
    if not isinstance(raw, Mapping):
        raise complain(f"{path}: {name or 'it'} is no object but {_shown(raw)}")
    prefix = f"{name}." if name else ""
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(map(str, raw.keys() - known.keys())):
        raise complain(f"{path}: {prefix}{unknown[0][:40]} is no known field: of a newer version?")
    values = {}
    for key, field in known.items():
        if key in raw:
            values[key] = _value(hints[key], raw[key], path, prefix + key, complain, bounds)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise complain(f"{path}: {prefix}{key} is missing")
    try:
        return cls(**values)
    except (ValueError, ArithmeticError) as error:
        raise complain(f"{path}: {name or 'it'}: {error}") from error


def _value(kind: Any, raw: Any, path: str, name: str, complain: Complain, bounds: Bounds) -> Any:
    def refuse(what: str) -> Exception:
        return complain(f"{path}: {name} is {_shown(raw)}, {what}")

    if isinstance(kind, types.UnionType):
        kind = _fitting(kind, raw.keys() if isinstance(raw, Mapping) else set())
    if dataclasses.is_dataclass(kind):
        return build(kind, raw, path, complain, bounds, name)
    if typing.get_origin(kind) is tuple:
        if not isinstance(raw, list) or len(raw) > MAX_ITEMS:
            raise refuse(f"no list of at most {MAX_ITEMS}")
        inner = typing.get_args(kind)[0]
        return tuple(
            _value(inner, value, path, f"{name}[{k}]", complain, bounds)
            for k, value in enumerate(raw)
        )
    if kind in (dict, bool):
        if not isinstance(raw, kind):
            raise refuse("no object" if kind is dict else "neither true nor false")
        return raw
    if kind is str:
        if not isinstance(raw, str) or len(raw) > MAX_TEXT:
            raise refuse(f"no text of at most {MAX_TEXT} letters")
        return raw
    whole = kind is int
    if isinstance(raw, bool) or not isinstance(raw, int if whole else int | float):
        raise refuse("no whole number" if whole else "no number")
    field = name.rpartition(".")[2].partition("[")[0]
    low, high = bounds.get(field, (0, MAX_INT) if whole else (-MAX_FLOAT, MAX_FLOAT))
    if not low <= raw <= high:  # false for NaN
        raise refuse(f"not from {low:g} to {high:g}")
    return kind(raw)


def _fitting(kind: types.UnionType, given: Set[str]) -> Any:
    """Of several dataclasses the one that knows most of the given fields, else the first."""
    return max(
        typing.get_args(kind),
        key=lambda cls: len(given & {field.name for field in dataclasses.fields(cls)}),
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge number"
    return "null" if value is None else repr(value)[:60]
