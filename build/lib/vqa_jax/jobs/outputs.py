"""Where results go: files, folders and streams; what cannot be written is found before the work."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Literal

from vqa_jax.errors import VqaError

STDOUT = "-"
_STANDARD = {STDOUT: 1, "/dev/stdout": 1, "/dev/stderr": 2}
_PROBE = bytes(4096)  # a block: an empty file fits on a disk that is full

# "text": replaced whole, or a stream that takes lines as they come; "file": replaced whole.
Kind = Literal["text", "file", "folder"]

_REMEDIES = {
    errno.EACCES: "change its permissions, or name another place",
    errno.EDQUOT: "free some space, or name another place",
    errno.EISDIR: "name a file",
    errno.ENOENT: "check the name",
    errno.ENOSPC: "free some space, or name another place",
    errno.ENOTDIR: "name a folder",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name a place that can be written",
}

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class OutputError(VqaError):
    """An output that cannot be written; the message names it, the reason and the remedy."""


def describe(error: OSError) -> str:
    """One line on an operating system's error: file, reason, remedy."""
    if error.errno is None:
        return str(error)
    remedy = _REMEDIES.get(error.errno)
    parts = [error.filename, error.strerror, remedy]
    return ": ".join(os.fsdecode(part) for part in parts if part)


def of_the_system(error: Exception, path: str) -> OSError | None:
    """The error of a full disk on `path` that a library tells in words of its own, if it does."""
    number = next((n for n in _FULL if os.strerror(n) in str(error)), None)
    return None if number is None else OSError(number, os.strerror(number), path)


def _descriptor(path: str) -> int | None:
    """The open file that a name such as "-" or "/dev/fd/63" stands for."""
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", path)
    return int(found[1]) if found else _STANDARD.get(path)


def is_stdout(path: str | None) -> bool:
    """Whether this is another name of standard output."""
    return path is not None and _descriptor(path) == 1


def is_stream(path: str) -> bool:
    """Whether `path` takes what is written as it comes: "-", a pipe, a device; never replaced."""
    if _descriptor(path) is not None:
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def text_file(place: str | int, newline: str | None = None) -> IO[str]:
    """Opens a path or descriptor for text, in which file names may be any bytes."""
    return open(place, "w", encoding="utf-8", errors="surrogateescape", newline=newline)


@contextlib.contextmanager
def stream(path: str, newline: str | None = None) -> Iterator[IO[str]]:
    """Opens a stream (`is_stream`) for text; closing it leaves standard output open."""
    number = _descriptor(path)
    try:
        if number == 1:
            sys.stdout.flush()  # what was printed before comes before
            file = io.TextIOWrapper(
                sys.stdout.buffer, "utf-8", "surrogateescape", newline, write_through=True
            )
            try:
                yield file
                file.flush()
            finally:
                with contextlib.suppress(OSError):
                    file.detach()
            return
        with text_file(path if number is None else os.dup(number), newline) as file:
            yield file
    except OSError as error:
        error.filename = path if error.filename is None else error.filename
        raise


def check_output(path: str, kind: Kind) -> None:
    """Finds what would end the work once its results are written; makes the folders above a file.

    Args:
      path: of the result.
      kind: see Kind.

    Raises:
      OutputError: it cannot be written.
    """
    if kind != "folder" and is_stream(path):
        if kind == "file":
            raise OutputError(f"{path} is no file: name one")
        _check_stream(path)
        return
    if kind != "folder" and (os.path.isdir(path) or path.endswith(os.sep)):
        raise OutputError(f"{path} is a folder: name a file in it")
    folder = os.path.abspath(path) if kind == "folder" else os.path.dirname(os.path.abspath(path))
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise OutputError(f"{path} cannot be written: {there} is no folder: name another place")
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(_PROBE)
        if kind != "folder":
            os.makedirs(folder, exist_ok=True)
    except OSError as error:
        reason = describe(OSError(error.errno, error.strerror))
        if error.errno == errno.ENOENT:  # as in /proc
            reason = "no file can be made there: name another place"
        raise OutputError(f"{path} cannot be written: {reason}") from error


def _check_stream(path: str) -> None:
    number = _descriptor(path)
    try:
        if number is not None:
            os.fstat(number)
        elif not os.access(path, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}: name another") from error
