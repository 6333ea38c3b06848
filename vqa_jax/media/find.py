"""Finds the videos below folders and behind globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence

from absl import logging

from vqa_jax.media.container import STILL_EXTENSIONS, VIDEO_EXTENSIONS, MediaError
from vqa_jax.media.probe import probe


def find_videos(paths: Sequence[str | os.PathLike[str]], stills: bool = False) -> list[str]:
    """Expands files, folders (recursively) and glob patterns to the videos among them.

    A file counts if its extension is one of `VIDEO_EXTENSIONS` in any case (readable or not, so
    that a broken video is reported and not passed over), or if its contents are a video. A name
    that matches nothing is kept, for the same reason. Files that are named and left out are logged.

    Args:
      paths: names.
      stills: list still pictures (`STILL_EXTENSIONS`) too.

    Returns:
      Sorted paths, each file once.
    """
    found: dict[str, str] = {}

    def add(path: str) -> bool:
        if not _is_video(path, stills):
            return False
        found.setdefault(os.path.abspath(path), os.path.normpath(path))
        return True

    for name in map(os.fspath, paths):
        matches = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))
        for path in matches or [name]:
            if os.path.isdir(path):
                for file in _files_below(path):
                    add(file)
            elif not matches:
                found.setdefault(os.path.abspath(path), path)
            elif not add(path):
                logging.warning("%s is not a video: left out", path)
    return sorted(found.values())


def _is_video(path: str, stills: bool) -> bool:
    if path.lower().endswith(VIDEO_EXTENSIONS):
        return True
    if path.lower().endswith(STILL_EXTENSIONS):
        return stills
    try:
        probe(path)
    except MediaError:
        return False
    return True


def _files_below(folder: str) -> Iterator[str]:
    """All files under a folder, through links to folders too, each real folder once."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (os.path.join(root, file) for file in files)
