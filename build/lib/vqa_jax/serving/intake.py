"""How a request's videos come in: uploads, and URLs of an allow-list, as files of their own."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from starlette.datastructures import UploadFile

from vqa_jax.media import sources
from vqa_jax.media.container import UnreadableFileError
from vqa_jax.settings import SettingsError

_PIECE = 1 << 20
_PATIENCE = 10.0  # seconds without a byte
_NAMELESS = "video"


class AllowedUrls:
    """The URLs that may be fetched: those below some prefixes, over http or https alone.

    Args:
      prefixes: as https://host/folder.

    Raises:
      SettingsError: another scheme, no host, a user, a query.
    """

    def __init__(self, prefixes: Sequence[str]):
        self._below = []
        for prefix in prefixes:
            parts = urllib.parse.urlsplit(prefix)
            bad = "@" in parts.netloc or parts.query or parts.fragment or not parts.netloc
            if parts.scheme not in ("http", "https") or bad:
                raise SettingsError(f"allowed URL {prefix}: give http(s)://HOST/FOLDER")
            self._below.append((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/") + "/"))

    def __contains__(self, url: str) -> bool:
        """Whether a URL is below one of the prefixes, and says so plainly."""
        if not re.fullmatch(r"[!-~]{1,2000}", url) or "\\" in url:
            return False
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:
            return False
        steps = urllib.parse.unquote(parts.path).replace("\\", "/").split("/")
        if ".." in steps or "." in steps or "%2f" in parts.path.lower():
            return False
        return any(
            (parts.scheme, parts.netloc.lower()) == (scheme, host) and parts.path.startswith(path)
            for scheme, host, path in self._below
        )


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: what is behind a redirect is not on the list."""

    def redirect_request(self, *args: object) -> None:
        """There is none."""


@contextlib.contextmanager
def uploaded(upload: UploadFile) -> Iterator[str]:
    """A local path of an uploaded video while the context lasts."""
    with sources.local(upload.file, 0) as path:  # it has come
        yield path


@contextlib.contextmanager
def fetched(url: str, most_mb: int, seconds: float) -> Iterator[str]:
    """A local path of a URL's video while the context lasts.

    Args:
      url: of the list.
      most_mb: of the file, MiB.
      seconds: until it has come.

    Raises:
      UnreadableFileError: (stage "fetch") it cannot be had within the limits.
    """
    opener, until = urllib.request.build_opener(_Stay), time.monotonic() + seconds
    try:
        answer = opener.open(url, timeout=min(_PATIENCE, seconds))
    except urllib.error.HTTPError as error:
        reason = f"cannot be fetched (status {error.code})"
        raise UnreadableFileError(name_of(url), "fetch", reason) from error
    except (OSError, http.client.HTTPException) as error:
        reason = f"cannot be fetched ({type(error).__name__}: {error})"
        raise UnreadableFileError(name_of(url), "fetch", reason) from error
    with answer, sources.local(_Bounded(answer, url, most_mb, until), 0) as path:
        answer.close()
        yield path


class _Bounded:
    """A file that ends with an error where it is too large or too slow."""

    def __init__(self, file: BinaryIO, url: str, most_mb: int, until: float):
        self._file, self._url, self._most, self._until = file, url, most_mb << 20, until
        self._expected, self._read = file.length, 0

    def read(self, size: int = _PIECE) -> bytes:
        found = self._file.read(size)
        self._read += len(found)
        if self._read > self._most:
            reason = f"is larger than {self._most >> 20} MB (--upload_mb)"
            raise UnreadableFileError(name_of(self._url), "fetch", reason)
        if time.monotonic() > self._until:
            reason = "took too long to come (--upload_seconds)"
            raise UnreadableFileError(name_of(self._url), "fetch", reason)
        if not found and self._expected and self._read < self._expected:
            reason = f"came incomplete: {self._read} of {self._expected} bytes"
            raise UnreadableFileError(name_of(self._url), "fetch", reason)
        return found


def name_of(given: str | None) -> str:
    """What answers call a video: the last part of its name, never more of the path."""
    given = (given or "").partition("?")[0].replace("\\", "/")
    name = urllib.parse.unquote(given.rstrip("/").rpartition("/")[2])
    return "".join(c for c in name if c.isprintable())[:200] or _NAMELESS
