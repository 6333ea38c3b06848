"""Finds the videos below folders and behind globs; the one place that walks through folders.

Paths stay as the system gives them: `link/../clip.mp4` is what the system takes it for. Names may
be any bytes.
"""

from __future__ import annotations

import collections
import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence

from absl import logging

from vqa_jax.media import isolation
from vqa_jax.media.container import STILL_EXTENSIONS, VIDEO_EXTENSIONS, MediaError
from vqa_jax.media.probe import probe
from vqa_jax.settings import DEFAULT_LIMITS


def find_videos(
    paths: Sequence[str | os.PathLike[str]], stills: bool = False, by_content: bool = True
) -> list[str]:
    """Expands files, folders (recursively) and glob patterns to the videos among them.

    A file counts if its extension is one of `VIDEO_EXTENSIONS` in any case (readable or not, so
    that a broken video is reported and not passed over), or if its contents are a video. A name
    that matches nothing is kept, for the same reason, and so is a folder that cannot be listed.
    Files that are named and left out are logged.

    Args:
      paths: names.
      stills: list still pictures (`STILL_EXTENSIONS`) too.
      by_content: look into files of other extensions.

    Returns:
      Sorted paths, each file once.
    """
    found: dict[tuple[str, str], str] = {}
    places: dict[str, str] = {}  # folder as written -> as the system resolves it

    def add(path: str) -> None:
        folder, name = os.path.split(path)
        if folder not in places:
            places[folder] = os.path.realpath(folder)
        found.setdefault((places[folder], name), path)

    for name in map(os.fspath, paths):
        matches = [name] if os.path.lexists(name) else _matching(name)
        if not matches:
            add(name)
        for path in matches:
            if os.path.isdir(path):
                for file in files_below(path):
                    if os.path.isdir(file) or _is_video(file, stills, by_content):
                        add(file)
            elif _is_video(path, stills, by_content):
                add(path)
            else:
                logging.warning("%s is not a video: left out", path)
    return sorted(found.values())


def files_below(folder: str) -> Iterator[str]:
    """All files under a folder, through links to folders too, and folders that cannot be listed.

    Each real folder is entered once, under its own name if that is below `folder` too: links to a
    parent neither repeat nor hang, and what is found does not depend on the order of a disk.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = collections.deque([folder]), collections.deque[str]()
    while folders or links:
        place = folders.popleft() if folders else links.popleft()
        try:
            facts = os.stat(place)
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            logging.warning("%s cannot be listed: %s", place, error.strerror)
            yield place
            continue
        for entry in entries:
            if not _is_folder(entry):
                yield entry.path
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                folders.append(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, a disk that fails: whoever opens it says why
        return False


def _matching(pattern: str) -> list[str]:
    """What a glob matches; `**` as `files_below` walks, since glob's own follows every loop."""
    parts = pattern.split(os.sep)
    if "\0" in pattern:
        return []
    if "**" not in parts:
        return sorted(glob.glob(pattern))
    first = parts.index("**")
    starts = [os.sep.join(parts[:first]) or (os.sep if first else ".")]
    if first and glob.has_magic(starts[0]):
        starts = sorted(filter(os.path.isdir, glob.glob(starts[0])))
    *others, last = parts[first:]
    wanted = re.compile("".join([_rule(part, False) for part in others] + [_rule(last, True)]))
    matches = []
    for start in starts:
        for file in files_below(start):
            below = os.path.relpath(file, start)
            if os.path.isdir(file) or wanted.fullmatch(below):
                matches.append(file if first else below)
    return matches


def _rule(part: str, is_last: bool) -> str:
    """Expression for a part of a pattern from its first `**` on; hidden names need to be named."""
    if part == "**":
        return r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if is_last else "")
    inside = fnmatch.translate(part).removesuffix(r"\Z").replace(".*", "[^/]*")
    return ("" if part.startswith(".") else r"(?!\.)") + inside + ("" if is_last else "/")


def _is_video(path: str, stills: bool, by_content: bool) -> bool:
    if path.lower().endswith(VIDEO_EXTENSIONS):
        return True
    if path.lower().endswith(STILL_EXTENSIONS):
        return stills
    if not by_content:
        return False
    limits = DEFAULT_LIMITS
    try:
        isolation.call(limits, path, probe, path, limits.pixels)
    except MediaError as error:
        # Beyond a limit it may be one, or is one of too many pixels: whoever uses it says so.
        return error.stage == "limit"
    return True
