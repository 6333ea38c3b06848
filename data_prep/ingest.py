"""From a folder of files to usable sources: find, probe, split, quarantine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence

from vqa_jax.frames import MediaError, VideoInfo, find_videos, probe
from vqa_jax.records import key_hash


@dataclasses.dataclass(frozen=True)
class Source:
    """One usable input file: stable id (hash of its path below the input root), split, facts."""

    source_id: str
    path: str
    split: str
    info: VideoInfo


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


def probe_input(root: str, relative_path: str) -> VideoInfo | Rejected:
    """Probes one file; a file that cannot be used becomes a Rejected, never an exception."""
    try:
        return probe(os.path.join(root, relative_path))
    except MediaError as e:
        return Rejected(relative_path, e.stage, e.reason)


def _given_split(root: str) -> dict[str, str]:
    path = os.path.join(root, "scenes.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return {row["file"]: row["split"] for row in json.load(f)["scenes"]}


def split_sources(
    root: str, probed: Sequence[tuple[str, VideoInfo]], heldout_fraction: float
) -> list[Source]:
    """Gives every usable source its split.

    A `scenes.json` in `root` decides where it names a file. The others are ordered by key hash
    and the first `heldout_fraction` (at least one, never all) is held out, so that the split does
    not depend on listing order.
    """
    given = _given_split(root)
    free = sorted((p for p, _ in probed if p not in given), key=lambda p: key_hash("split:" + p))
    count = min(max(1, round(heldout_fraction * len(free))), len(free) - 1) if free else 0
    heldout = set(free[:count])
    return [
        Source(source_id(p), p, given.get(p, "heldout" if p in heldout else "train"), info)
        for p, info in probed
    ]
