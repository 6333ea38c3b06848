"""Object stores (s3://, gs://): what lies at a URL is listed, got, put and removed by object.

Every error is one line that names the URL and the remedy, whatever the store's client raises.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vqa_jax.errors import VqaError
from vqa_jax.extras import MissingExtraError
from vqa_jax.jobs import contents, files

STAGE = "VQA_JAX_STAGE"  # names the folder of local copies, see `places`
AGAIN = "run the same command again, which goes on from what has come"
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}  # scheme -> what fsspec opens it with
_ACCESS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, of somebody who may",
    "gs": "log in (gcloud auth application-default login) as somebody who may",
}
_OTHER_STORES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST")
_PROBE = ".vqa_jax_probe"


class PlaceError(VqaError):
    """A URL cannot be read or written; the message names it and the remedy."""


class Object(NamedTuple):
    """An object of a store: what tells its version (an ETag), and its bytes."""

    version: str
    size: int


class Store:
    """A file, or a folder of files, at a URL.

    Names are those below the parent: of "s3://B/runs/a" the object "s3://B/runs/a/x.json" is
    "a/x.json", and "a" itself if that is a file.

    Attributes:
      url: without a slash at its end.
      name: the last part of the URL.
      is_folder: else it is a file, together with what jobs keep beside it under its name and a dot.
    """

    def __init__(self, url: str, is_folder: bool = True):
        """Opens the store's client; nothing is read yet.

        Raises:
          PlaceError: no such URL.
          MissingExtraError: the client is not installed.
        """
        scheme, _, rest = url.partition("://")
        rest = rest.rstrip("/")
        if scheme not in _PACKAGES:
            known = " or ".join(f"{name}://" for name in _PACKAGES)
            raise PlaceError(f"{url}: give a local path, or one of {known}, not {scheme}://")
        if not _is_safe(rest):
            raise PlaceError(f"{url} is no address: write {scheme}://BUCKET/NAME")
        self._parent, _, self.name = rest.rpartition("/")
        if not is_folder and not self._parent:
            raise PlaceError(f"{url} is a bucket: name a file in it")
        self.url, self.is_folder, self._scheme = f"{scheme}://{rest}", is_folder, scheme
        for package in ("fsspec", _PACKAGES[scheme]):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, scheme)
        import fsspec  # needed for URLs alone

        with self._told():
            self._client = fsspec.filesystem(scheme, use_listings_cache=False)

    @property
    def identity(self) -> list[Any]:
        """What tells it from other places, by whose copies it must not be mistaken."""
        return [self.url, self.is_folder, *map(os.environ.get, _OTHER_STORES)]

    def url_of(self, name: str) -> str:
        """The URL of an object."""
        return f"{self._scheme}://{self._key(name)}"

    def _key(self, name: str) -> str:
        return f"{self._parent}/{name}" if self._parent else name

    def listed(self) -> dict[str, Object]:
        """All that is there now, by name.

        Raises:
          PlaceError: it cannot be read, or holds what no file can be called.
        """
        with self._told():
            if self.is_folder:
                found = self._client.find(self._key(self.name), detail=True)
            else:
                found = self._client.find(self._parent, detail=True, prefix=self.name)
        names = {key: key.removeprefix(f"{self._parent}/") for key in found}
        listed = {
            names[key]: _object(told)
            for key, told in found.items()
            if told["type"] == "file" and self._is_ours(names[key])
        }
        for name in listed:
            if not _is_safe(name):
                raise PlaceError(
                    f"{self.url} holds {name!r}: rename it, as no file can be called so"
                )
        return listed

    def _is_ours(self, name: str) -> bool:
        if name.endswith("/"):  # marks a folder
            return False
        inside = name == self.name or name.startswith(f"{self.name}/")
        return inside or (not self.is_folder and name.startswith(f"{self.name}."))

    def look(self, name: str) -> Object | None:
        """An object as it is now; None if there is none.

        Raises:
          PlaceError: that cannot be told.
        """
        with self._told(name):
            try:
                return _object(self._client.info(self._key(name)))
            except FileNotFoundError:
                return None

    def get(self, name: str, path: str) -> None:
        """Fetches an object to a local file.

        Raises:
          PlaceError: it cannot be read, or `path` not written.
        """
        with self._told(name):
            self._client.get_file(self._key(name), path)

    def put(self, path: str, name: str) -> None:
        """Puts a local file in an object's place, whole or not at all.

        Raises:
          FileNotFoundError: there is no local file any more.
          PlaceError: it cannot be written.
        """
        with self._told(name):
            try:
                self._client.put_file(path, self._key(name))
                return
            except FileNotFoundError:
                if os.path.exists(path):
                    raise
        raise FileNotFoundError(path)

    def remove(self, name: str) -> None:
        """Removes an object; it may be gone.

        Raises:
          PlaceError: that is refused.
        """
        with self._told(name), contextlib.suppress(FileNotFoundError):
            self._client.rm_file(self._key(name))

    def check_writable(self) -> None:
        """Puts a small object and removes it.

        Raises:
          PlaceError: that is refused.
        """
        probe = f"{self.name}/{_PROBE}" if self.is_folder else _PROBE
        with self._told():
            self._client.pipe_file(self._key(probe), b"\n")
        self.remove(probe)

    @contextlib.contextmanager
    def _told(self, name: str = "") -> Iterator[None]:
        """Raises what the client says, in its own kinds of exceptions, as a PlaceError."""
        try:
            yield
        except Exception as error:
            url = self.url_of(name) if name else self.url
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise PlaceError(f"{url}: {reason}: {self._remedy(error)}") from error

    def _remedy(self, error: Exception) -> str:
        refused = getattr(error, "code", None) in (401, 403)  # of gcsfs
        if refused or isinstance(error, PermissionError) or "Credential" in type(error).__name__:
            return _ACCESS[self._scheme]
        if isinstance(error, FileNotFoundError):
            return "check the names of bucket and folder"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"free some space, or set {STAGE} to another folder"
        return AGAIN


def _object(told: Mapping[str, Any]) -> Object:
    return Object(contents.told_version(told), int(told["size"] or 0))


def _is_safe(name: str) -> bool:
    """Whether every part of a name can be a file's, and leads nowhere else."""
    return all(map(files.is_name, name.split("/")))
