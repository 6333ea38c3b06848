"""From a folder of files to usable sources: find, probe, split, quarantine."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping

from vqa_jax.frames import MediaError, VideoInfo, find_videos, probe
from vqa_jax.records import CorpusError, key_hash, read_json

SPLITS = ("train", "heldout")
_SPLIT_FILE = "scenes.json"


@dataclasses.dataclass(frozen=True)
class Source:
    """One usable input file.

    Attributes:
      source_id: see `source_id`.
      path: below the input root.
      split: one of SPLITS.
      info: what the probe found.
      stamp: see `file_stamp`.
      pool: name of its part of the training sources, see `data_prep.pools`.
      location: local path or URL to read it from.
    """

    source_id: str
    path: str
    split: str
    info: VideoInfo
    stamp: tuple[int, int]
    pool: str = "all"
    location: str = ""


@dataclasses.dataclass(frozen=True)
class Rejected:
    """One input that cannot be used, as a row of quarantine.csv."""

    path: str
    stage: str
    reason: str


def list_inputs(root: str) -> list[str]:
    """Paths, relative to `root`, of every video below it (by extension or by content), sorted."""
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{root} is not a folder: give a folder of videos")
    return [os.path.relpath(p, root) for p in find_videos([root])]


def source_id(relative_path: str) -> str:
    """Stable id of a source: 16 hex digits of the SHA-256 of its path below the root."""
    return hashlib.sha256(relative_path.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def file_stamp(root: str, relative_path: str) -> tuple[int, int]:
    """(bytes, time of change in ns): tells a file from a later one of its name; -1 if missing."""
    try:
        stat = os.stat(os.path.join(root, relative_path))
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def printable(path: str) -> str:
    """A path as text for records and tables; bytes that are not UTF-8 come out as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def probe_input(root: str, relative_path: str) -> VideoInfo | Rejected:
    """Probes one file; a file that cannot be used becomes a Rejected, never an exception."""
    try:
        return probe(os.path.join(root, relative_path))
    except MediaError as e:
        return Rejected(relative_path, e.stage, e.reason)


def _given_split(root: str) -> dict[str, str]:
    path = os.path.join(root, _SPLIT_FILE)
    if not os.path.exists(path):
        return {}
    try:
        given = {row["file"]: row["split"] for row in read_json(path)["scenes"]}
        if not set(given.values()) <= set(SPLITS):
            raise ValueError(f"splits are {SPLITS}")
    except (KeyError, TypeError, ValueError) as e:
        raise CorpusError(
            f'{path} should hold {{"scenes": [{{"file", "split"}}]}} ({e!r}): correct or rename it'
        ) from e
    return given


def split_sources(
    root: str,
    probed: Mapping[str, VideoInfo],
    stamps: Mapping[str, tuple[int, int]],
    heldout_fraction: float,
) -> list[Source]:
    """Gives every usable source its split.

    A `scenes.json` in `root` decides where it names a file. The others are ordered by key hash
    and the first `heldout_fraction` is held out, so that the split does not depend on listing
    order. Between 0 and 1, at least one is held out, and one is not.

    Args:
      root: input folder.
      probed: path below it -> what the probe found.
      stamps: path -> `file_stamp`.
      heldout_fraction: in [0, 1]; 1 holds out everything, whatever `scenes.json` says.
    """
    given = _given_split(root) if heldout_fraction < 1 else {}
    free = sorted((p for p in probed if p not in given), key=lambda p: key_hash("split:" + p))
    count = round(heldout_fraction * len(free))
    if free and 0 < heldout_fraction < 1:
        count = min(max(1, count), len(free) - 1)
    heldout = set(free[:count])
    return [
        Source(
            source_id(p), p, given.get(p, "heldout" if p in heldout else "train"), info, stamps[p]
        )
        for p, info in probed.items()
    ]
