"""What files hold: listed with their hashes, checked against such a list, told apart cheaply.

A hash of all bytes is taken where the bytes are read or written anyway. Inputs, of which there may
be millions, are told apart by size and a few blocks, or by what their store says (`stamp`): local
videos are never read whole by us, since decoders pass over what they do not need.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from vqa_jax.jobs.files import CorpusError, file_sha256

_BLOCK = 4096  # bytes: what a file system reads at least
_BLOCKS = 16  # of a file that is too long to be read whole for its stamp
_HASH_THREADS = 8  # hashing releases the interpreter's lock
_STAMP_THREADS = 32  # waiting for a file server, mostly
GONE = "missing"
_VERSION = ("ETag", "etag", "generation")  # of an object of a store, the first that is told
# Of an answer over HTTP; fsspec's own key of such a file is made of its address alone.
_HTTP_VERSION = ("ETag", "Content-MD5", "Digest", "Last-Modified")

_Asked, _Told = TypeVar("_Asked"), TypeVar("_Told")
Listed = dict[str, dict[str, Any]]  # name -> {"bytes", "sha256"}


def names_below(root: str) -> list[str]:
    """Files below a folder by their paths from there, sorted."""
    return sorted(
        os.path.relpath(os.path.join(at, name), root)
        for at, _, names in os.walk(root)
        for name in names
    )


def listed(root: str, names: Iterable[str]) -> Listed:
    """Size and SHA-256 of files below `root`, by name."""

    def one(name: str) -> dict[str, Any]:
        path = os.path.join(root, name)
        return {"bytes": os.path.getsize(path), "sha256": file_sha256(path)}

    names = sorted(names)
    with concurrent.futures.ThreadPoolExecutor(_HASH_THREADS) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def changed(root: str, wanted: Mapping[str, Mapping[str, Any]], whole: bool = True) -> str | None:
    """What differs from a list of files, for people; None if nothing does.

    Args:
      root: folder.
      wanted: as `listed` gives it; a file without "sha256" is known by its size alone.
      whole: read and hash the files too; else sizes are compared, which reads nothing.
    """

    def one(name: str) -> bool:
        path, facts = os.path.join(root, name), wanted[name]
        if not os.path.isfile(path) or os.path.getsize(path) != facts["bytes"]:
            return False
        return not whole or "sha256" not in facts or file_sha256(path) == facts["sha256"]

    names = sorted(wanted)
    with concurrent.futures.ThreadPoolExecutor(_HASH_THREADS) as pool:
        same = pool.map(one, names)
        wrong = [name for name, is_same in zip(names, same, strict=True) if not is_same]
    if not wrong:
        return None
    return f"{wrong[0]} is missing or not as it was written ({len(wrong)} such files)"


def checked_sha256(path: str, recorded: str | None, remedy: str) -> str:
    """SHA-256 of a file that is read anyway, which must be the one recorded, if one was.

    Raises:
      CorpusError: it is another one; the message names the file and ends with `remedy`.
    """
    found = file_sha256(path)
    if recorded not in (None, found):
        raise CorpusError(f"{path} is damaged: its bytes are not those that were written: {remedy}")
    return found


def sampled_sha256(path: str) -> str:
    """Hash of a file's size and of blocks spread evenly over it, its first and last among them.

    A change between the blocks goes unnoticed; another recording of a picture or a video, and
    compressed data of any kind, differ almost everywhere.
    """
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        if size <= _BLOCK * _BLOCKS:
            digest.update(file.read())
        else:
            for k in range(_BLOCKS):
                file.seek(k * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def stamp(path: str) -> str:
    """What tells a file from a later one of its name; `GONE` where it cannot be had.

    Of a local file its size and sampled blocks, not its time of change: a copy of a folder is the
    same input. Of a URL what its store says of its version.
    """
    try:
        return sampled_sha256(path)
    except OSError:
        if "://" not in path:
            return GONE
    except ValueError:  # a zero byte in its name
        return GONE
    try:
        return hashlib.sha256(repr(url_version(path)).encode()).hexdigest()
    except Exception:  # of a store's client, a scheme, a package: whoever opens it says why
        return GONE


def url_version(url: str) -> tuple[int, str]:
    """(bytes, -1 where its store does not tell; what its store says of its version) of a URL.

    Raises:
      Exception: of any kind, its store's client's.
    """
    import fsspec  # needed for URLs alone

    protocol = url.split("://")[0]
    filesystem = fsspec.filesystem(protocol)
    told = filesystem.info(url)
    if protocol.startswith("http"):
        version = filesystem.ukey(url) + repr([told.get(name) for name in _HTTP_VERSION])
    else:  # the key is of all that is told, which differs between a listing and a look
        version = told_version(told) or filesystem.ukey(url)
    size = told.get("size")
    return (-1 if size is None else int(size)), version


def told_version(told: Mapping[str, Any]) -> str:
    """What a store says of an object's version; "" if nothing."""
    return str(next((told[key] for key in _VERSION if told.get(key)), "")).strip('"')


def stamps(paths: Sequence[str]) -> list[str]:
    """`stamp` of every file, in order."""
    return at_once(stamp, paths)


def at_once(ask: Callable[[_Asked], _Told], asked: Sequence[_Asked]) -> list[_Told]:
    """What `ask` tells of every file, in order; for what mostly waits for a file server."""
    with concurrent.futures.ThreadPoolExecutor(_STAMP_THREADS) as pool:
        return list(pool.map(ask, asked))
