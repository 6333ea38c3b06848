"""Which files to prepare: a folder, a glob or a table of paths, on this machine or in a bucket."""

from __future__ import annotations

import csv
import dataclasses
import glob
import json
import os
import posixpath
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import fsspec
import pyarrow.parquet
from absl import logging

from vqa_jax.benchmarks.text_table import TABLES
from vqa_jax.jobs import contents, csv_cells
from vqa_jax.jobs.files import CorpusError, file_sha256, key_hash, read_json
from vqa_jax.media.container import STILL_EXTENSIONS, VIDEO_EXTENSIONS
from vqa_jax.media.find import find_videos
from vqa_jax.media.sources import is_remote

SPLITS = ("train", "heldout")
SPLIT_FILE = "scenes.json"
_COLUMNS = ("path", "source", "licence", "split")


class ListingError(CorpusError):
    """A listing that cannot be read; the message names it and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """One file to prepare.

    Attributes:
      path: local path, or URL that fsspec opens (gs://, s3://, ...).
      key: stable name, the same on every machine: the path below the folder (or below the fixed
        part of a glob); in a table, the path as written there.
      source: group for quotas, such as the platform; "" if not known.
      licence: as the table says, "" if it does not.
      split: one of SPLITS, or "" where nobody decided.
    """

    path: str
    key: str
    source: str = ""
    licence: str = ""
    split: str = ""


def absolute(path: str) -> str:
    """A path from the root, a URL as it is; `link/..` stays what the system takes it for."""
    return path if is_remote(path) else os.path.join(os.getcwd(), path)


def read_listing(spec: str, stills: bool = False) -> list[Input]:
    """Lists the inputs of a folder, a glob or a table.

    In a local folder every video counts, by extension or by content, and `scenes.json` may give
    splits; in a remote one the extension alone decides, since looking inside would fetch
    everything. A glob takes what it matches in the same way. A table (.csv, .jsonl, .parquet, told
    by its name) has the column `path` and perhaps `source`, `licence` and `split`; relative paths
    start at its folder, other columns are left alone, and what it lists is tried whatever its
    name. A path that a table repeats counts once.

    Args:
      spec: local path, glob, or URL of either.
      stills: still images in folders and globs count too.

    Returns:
      Inputs sorted by key, each key once; nothing has been opened, so some may turn out unusable.

    Raises:
      ListingError: nothing is there, the table is malformed, or a URL needs a package.
    """
    if spec.lower().endswith(TABLES):
        inputs = _from_table(spec)
    elif is_remote(spec):
        inputs = _from_remote(spec, stills)
    elif os.path.isdir(spec):
        inputs = _from_folder(spec, stills)
    else:
        found = find_videos([spec], stills)
        if found == [spec] and not os.path.lexists(spec):
            raise ListingError(f"{spec} is no folder and matches no file: give a folder of videos")
        start = os.path.dirname(_fixed_part(spec, os.path.dirname))
        inputs = [Input(p, os.path.relpath(p, start or ".")) for p in found]
    _check_packages(inputs)
    return sorted(inputs, key=lambda i: i.key)


@dataclasses.dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a file from a later one of its name; -1 and "missing" where there is none.

    Attributes:
      size: in bytes; -1 also where a store does not tell.
      version: time of change in ns, or a hash of what the store says of its version (an ETag).
      content: of a local file its size and sampled blocks, see `contents.stamp`; of a remote one
        its version again.
    """

    size: int
    version: int
    content: str


def file_stamp(entry: Input) -> Stamp:
    """The stamp of a file, local or remote."""
    try:
        if is_remote(entry.path):
            size, told = contents.url_version(entry.path)
            version = key_hash(told) >> 1
            return Stamp(size, version, f"{version:x}")
        stat = os.stat(entry.path)
    except Exception:  # of a store's client, a scheme, a name: whoever opens it says why
        return Stamp(-1, -1, contents.GONE)
    return Stamp(stat.st_size, stat.st_mtime_ns, contents.stamp(entry.path))


def file_stamps(entries: Sequence[Input]) -> list[Stamp]:
    """`file_stamp` of every input, in order."""
    return contents.at_once(file_stamp, entries)


def held(entry: Input, path: str) -> str:
    """What the file at hand holds: by it a job notices a file that is replaced while it runs.

    Args:
      entry: the input.
      path: it, or the copy that was fetched of it, of which every byte is hashed.
    """
    return file_sha256(path) if path != entry.path else contents.stamp(path)


def content_hash(entries: Sequence[Input], stamps: Sequence[Stamp]) -> str:
    """One hash of what all inputs hold: a job's, by which a rerun knows them.

    Times of change are not in it: a folder that was merely copied holds the same.
    """
    told = [(entry.key, stamp.content) for entry, stamp in zip(entries, stamps, strict=True)]
    return f"{key_hash(repr(told)):016x}"


def _filesystem(url: str) -> fsspec.AbstractFileSystem:
    protocol = url.split("://")[0]
    try:
        return fsspec.filesystem(protocol)
    except Exception as error:  # a missing package, an unknown scheme, one that wants settings
        raise ListingError(f"{protocol}:// cannot be opened: {error}") from error


def _check_packages(inputs: list[Input]) -> None:
    """Says at once if not one input can be opened; else odd addresses are their own rows."""
    problems: dict[str, ListingError | None] = {}
    for entry in inputs:
        protocol = entry.path.split("://")[0] if is_remote(entry.path) else ""
        if protocol not in problems:
            problems[protocol] = None
            try:
                if protocol:
                    _filesystem(entry.path)
            except ListingError as error:
                problems[protocol] = error
    found = [error for error in problems.values() if error is not None]
    if found and len(found) == len(problems):
        raise found[0]
    for error in found:
        logging.warning("%s", error)


def _fixed_part(pattern: str, parent: Callable[[str], str]) -> str:
    """The pattern up to its first wildcard; the pattern itself if it has none."""
    while glob.has_magic(parent(pattern)):
        pattern = parent(pattern)
    return pattern


def _from_folder(folder: str, stills: bool) -> list[Input]:
    splits = _given_splits(folder)
    keys = [os.path.relpath(p, folder) for p in find_videos([folder], stills)]
    return [Input(os.path.join(folder, k), k, split=splits.get(k, "")) for k in keys]


def _from_remote(spec: str, stills: bool) -> list[Input]:
    filesystem = _filesystem(spec)
    if glob.has_magic(spec):
        start = posixpath.dirname(_fixed_part(spec, posixpath.dirname))
        found = filesystem.glob(spec)
    else:
        found = filesystem.find(spec)
        start = posixpath.dirname(spec) if filesystem.isfile(spec) else spec
    if not found:
        raise ListingError(f"{spec} holds and matches no file: check the address and your access")
    wanted = VIDEO_EXTENSIONS + STILL_EXTENSIONS if stills else VIDEO_EXTENSIONS
    names = [name for name in found if name.lower().endswith(wanted)]
    if len(names) < len(found):
        logging.info("%s: %d files of other extensions left out", spec, len(found) - len(names))
    start = filesystem._strip_protocol(start)
    return [Input(filesystem.unstrip_protocol(n), posixpath.relpath(n, start)) for n in names]


def _given_splits(folder: str) -> dict[str, str]:
    """Key -> split of a folder that brings `scenes.json`."""
    path = os.path.join(folder, SPLIT_FILE)
    if not os.path.exists(path):
        return {}
    try:
        given = {row["file"]: row["split"] for row in read_json(path)["scenes"]}
        if not set(given.values()) <= set(SPLITS):
            raise ValueError(f"splits are {SPLITS}")
    except (KeyError, TypeError, ValueError) as e:
        raise ListingError(
            f'{path} should hold {{"scenes": [{{"file", "split"}}]}} ({e!r}): correct or rename it'
        ) from e
    return given


# --- tables -------------------------------------------------------------------------------------


def _from_table(spec: str) -> list[Input]:
    parent = posixpath.dirname(spec) if is_remote(spec) else os.path.dirname(spec)
    inputs: dict[str, Input] = {}
    repeated = 0
    for number, row in enumerate(_rows(spec), 1):
        values = {name: sys.intern(str(row.get(name) or "")) for name in _COLUMNS[1:]}
        key = row["path"]
        if not isinstance(key, str) or not key:
            raise ListingError(f"{spec}: record {number} has no path: correct or remove it")
        if values["split"] not in ("", *SPLITS):
            raise ListingError(
                f"{spec}: record {number} has the split {values['split']!r}: use one of {SPLITS}"
            )
        if is_remote(key) or os.path.isabs(key):
            path = key
        else:
            path = f"{parent}/{key}" if is_remote(spec) else os.path.join(parent, key)
        entry = Input(path, key, **values)
        if inputs.setdefault(key, entry) != entry:
            raise ListingError(f"{spec}: record {number} contradicts an earlier one of {key}")
        repeated += inputs[key] is not entry
    if repeated:
        logging.warning("%s: %d records repeat an earlier path", spec, repeated)
    if not inputs:
        raise ListingError(f"{spec} lists no file")
    return list(inputs.values())


def _rows(spec: str) -> Iterator[dict[str, Any]]:
    kind = os.path.splitext(spec)[1].lower()
    read = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}[kind]
    try:
        filesystem = _filesystem(spec) if is_remote(spec) else fsspec.filesystem("file")
        with filesystem.open(spec, "rb") as file:
            yield from read(file)
    except ListingError:
        raise
    except Exception as error:  # of the store's client, csv, json or pyarrow
        raise ListingError(
            f"{spec} cannot be read ({type(error).__name__}: {error}): it should be a"
            f" {kind[1:]} table with the column path and, if you like, {', '.join(_COLUMNS[1:])}"
        ) from error


def _csv_rows(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    # File names may be any bytes; a byte order mark is what spreadsheets write.
    lines = (line.decode("utf-8", "surrogateescape") for line in file)
    first = next(lines, "").removeprefix("\ufeff")
    names = next(csv.reader([first]), [])
    if "path" not in names:
        raise KeyError("path")
    for number, row in enumerate(csv.DictReader(lines, names), 1):
        if None in row:
            cells = len(names) + len(row[None])
            raise ValueError(
                f"record {number} has {cells} cells, the header {len(names)}: quote a path with a"
                " comma"
            )
        yield {name: csv_cells.bare(cell or "") for name, cell in row.items()}


def _json_rows(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in file:
        if line.strip():
            row = json.loads(line)
            if "path" not in row:
                raise KeyError("path")
            yield row


def _parquet_rows(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    table = pyarrow.parquet.ParquetFile(file)
    names = [name for name in _COLUMNS if name in table.schema_arrow.names]
    if "path" not in names:
        raise KeyError("path")
    for batch in table.iter_batches(columns=names):
        yield from batch.to_pylist()
