"""Where a video's bytes come from: a file, a URL, an open file, bytes at hand; and their names.

Decoders read local files. Whatever is none is written to one, under a name that nobody else chose,
which goes when the caller is done; a whole video is never held in memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from vqa_jax import extras
from vqa_jax.media.container import MediaError, UnreadableFileError, still_extension

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
_BYTES = (bytes, bytearray, memoryview)
MOST_BYTES = 16 << 30  # of a URL: larger files are scored where they are
_HEAD = 12  # bytes that tell a still picture


def is_source(value: Any) -> bool:
    """Whether a value is one video's encoded bytes, or says where they are."""
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(
        value, "read"
    )


def is_remote(path: str) -> bool:
    """Whether a path is a URL for fsspec (gs://, s3://, https:// ...) rather than a local file."""
    return "://" in path


def name_of(source: Source) -> str:
    """How results call a source: its path or URL as given, an open file's name; "" for bytes."""
    if isinstance(source, _BYTES):
        return ""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", "")
    return name if isinstance(name, str) else ""


@contextlib.contextmanager
def local(source: Source, seconds: float) -> Iterator[str]:
    """A local path of the bytes while the context lasts.

    Errors about the file that stands in for them name the source instead.

    Args:
      source: a path, as it is; a URL; bytes; or a binary file, read from where it stands.
      seconds: that fetching a URL may take, 0 for no limit; silence is for its store's client to
        end. A URL of more than MOST_BYTES is refused.

    Raises:
      UnreadableFileError: (stage "fetch") the bytes cannot be had, or came incomplete. Local files
        are not looked at.
      MissingExtraError: a URL, and fsspec is not installed.
    """
    name = name_of(source)
    if isinstance(source, str | os.PathLike) and (not is_remote(name) or os.path.lexists(name)):
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="vqa_fetch_") as folder:
        path = os.path.join(folder, "file")
        with extras.asked_for("urls"):
            try:
                _fetch(source, path, seconds)
            except (MediaError, ModuleNotFoundError):
                raise
            except Exception as error:  # every store's client has its own exceptions
                reason = f"cannot be fetched ({type(error).__name__}: {error})"
                raise UnreadableFileError(name, "fetch", reason) from error
        path = _with_extension(path, name)
        try:
            yield path
        except MediaError as error:
            if error.path == path:
                error.path, error.args = name, (name, *error.args[1:])
            raise


def _fetch(source: Source, path: str, seconds: float) -> None:
    if isinstance(source, str | os.PathLike):
        import fsspec

        url = os.fspath(source)
        began = time.monotonic()

        def check(size: int | None, value: int) -> None:
            if max(size or 0, value) > MOST_BYTES:
                reason = f"holds more than {MOST_BYTES >> 30} GiB: copy it and name the copy"
                raise UnreadableFileError(url, "fetch", reason)
            if seconds and time.monotonic() - began > seconds:
                raise UnreadableFileError(url, "fetch", f"took longer than {seconds:g} s to fetch")

        filesystem = fsspec.filesystem(url.split("://")[0])  # one: no chains of a listing's making
        expected = filesystem.size(url)
        check(expected, 0)
        filesystem.get_file(url, path, callback=fsspec.Callback(hooks={"limits": check}))
        got = os.path.getsize(path)
        if expected is not None and got != expected:
            reason = f"came incomplete: {got} of {expected} bytes"
            raise UnreadableFileError(url, "fetch", reason)
        return
    with open(path, "wb") as file:
        if isinstance(source, _BYTES):
            file.write(source)
        else:
            shutil.copyfileobj(source, file)


def _with_extension(path: str, name: str) -> str:
    """The file under the extension of its source's name, which tells a still; else by content."""
    extension = os.path.splitext(name.partition("?")[0])[1]
    if not extension:
        with open(path, "rb") as file:
            extension = still_extension(file.read(_HEAD))
    named = path + extension[:8].replace(os.sep, "_").replace("\0", "_")
    os.rename(path, named)
    return named
