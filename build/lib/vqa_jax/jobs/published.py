"""One publication of what many processes compute: found and kept, or made by the last of them.

Every resumable job is made of the same parts. Its inputs and settings are its identity. The work is
cut into ranges (see `ranges`), whose files, whole or not at all, lie in a folder named by the
identity. Whichever process finds the last range publishes the result, under a lock, its manifest
last; the manifest tells the identity, so that whoever comes later keeps the result.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

from vqa_jax.jobs import files, ranges

Manifest = dict[str, Any]


def changed(path: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which parts of a job's identity are others now than those in its manifest at `path`.

    What a manifest of an earlier version does not tell is taken to be the same, and said.
    """
    untold = [name for name in now if name not in then]
    if untold:
        logging.info("%s does not tell its %s: taken to be the same", path, ", ".join(untold))
    return sorted(name for name in now if name in then and then[name] != now[name])


class Publication:
    """The result of a job, which is published once."""

    def __init__(
        self,
        path: str,
        work: str,
        is_same: Callable[[Mapping[str, Any]], bool],
        lock: str | None = None,
    ):
        """Describes a job; nothing is read or written yet.

        Args:
          path: JSON file that the job writes last, its manifest.
          work: folder of the ranges' files, removed once the result is published.
          is_same: whether a manifest is that of this job: of the same inputs and settings.
          lock: folder in which only one process publishes; None: `work`.
        """
        self._path, self._work, self._is_same, self._lock = path, work, is_same, lock or work

    def read(self) -> Manifest | None:
        """The manifest, if this very job is published."""
        if not os.path.exists(self._path):
            return None
        manifest = files.read_json(self._path, dict)
        return manifest if self._is_same(manifest) else None

    def found(self) -> Manifest | None:
        """The manifest if the job is finished, else None."""
        manifest = self.read()
        if manifest is None:
            return None
        logging.info("%s is up to date", self._path)
        shutil.rmtree(self._work, ignore_errors=True)  # of a process killed at its very end
        return manifest

    def publish(self, missing: int, write: Callable[[], Manifest]) -> Manifest | None:
        """Publishes if no range is missing and nobody else has done so; tidies up.

        Args:
          missing: how many ranges are not there.
          write: writes the result from the ranges' files, its manifest last, and returns that.

        Returns:
          The manifest; None while ranges are left to other processes.
        """
        # Another process may have published, and tidied up, at this very moment.
        if missing and self.read() is None:
            logging.info("%s: %d ranges are left to other processes", self._path, missing)
            return None
        with ranges.alone_in(self._lock):
            manifest = self.read() or write()
            shutil.rmtree(self._work, ignore_errors=True)
        return manifest
