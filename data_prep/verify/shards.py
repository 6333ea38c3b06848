"""What can be told of one shard by itself: its hash, its schema, every record's content.

Runs in the workers of `verify`; what needs other files (the video table, other shards) is handed
back as rows without pixels.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqa_jax.corpus import store, view_coding
from vqa_jax.jobs import files
from vqa_jax.media.preprocess import Preprocess

# Fields that are handed back, by kind of record.
_KEPT = {
    "vqa_videos": (
        "video_id",
        "source_id",
        "path",
        "segment",
        "simulator",
        "level",
        "effective",
        "parameter",
    ),
    "vqa_clips": ("video_id",),
    "vqa_views": ("video_id", "view"),
    "vqa_motion": ("video_id", "extractor"),
    "vqa_tokens": ("video_id", "tower"),
    "vqa_pairs": ("pair_id", "first_id", "second_id", "label", "label_source", "iteration"),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
      kind: "missing", "hash", "count", "schema", "reference" or "label".
      path: the file it is in.
      message: what is wrong, and where in the file.
    """

    kind: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}: {self.message}"


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A shard to read, as its manifest lists it."""

    path: str
    dataset: str
    kind: str
    split: str
    records: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """What a worker found: problems, and the rows that can be compared with other files."""

    problems: tuple[Problem, ...]
    rows: tuple[dict[str, Any], ...]


def key_field(kind: str) -> str:
    """Name of the field that is the key of a kind of record."""
    return "pair_id" if kind == "vqa_pairs" else "video_id"


def check_shard(task: ShardTask) -> ShardReport:
    """Hashes a shard and reads every record of it, one in memory at a time; never raises for bad
    content."""
    problems: list[Problem] = []

    def wrong(kind: str, message: str, path: str = task.path) -> None:
        problems.append(Problem(kind, path, message))

    for file in (task.path, task.path + ".json"):
        if not os.path.exists(file):
            wrong("missing", "the manifest lists it", file)
            return ShardReport(tuple(problems), ())
    if files.file_sha256(task.path) != task.sha256:
        wrong("hash", "differs from the manifest's SHA-256")
        return ShardReport(tuple(problems), ())
    rows: list[dict[str, Any]] = []
    try:
        ids = files.read_json(task.path + ".json", {"ids": [str]})["ids"]
        for number, record in enumerate(store.shard_records(task.path, task.kind)):
            key = record[key_field(task.kind)]
            if number >= len(ids) or key != ids[number]:
                wrong("schema", f"record {number} is {key!r}, not what its sidecar says")
            for kind, message in _content(task.kind, record):
                wrong(kind, f"{key}: {message}")
            rows.append({name: record[name] for name in _KEPT[task.kind]})
    except Exception as e:  # decoders and parsers of damaged bytes raise anything
        wrong("schema", f"record {len(rows)} cannot be read ({type(e).__name__}: {e})")
    else:
        if not len(rows) == len(ids) == task.records:
            found = f"{len(rows)} records, {len(ids)} in its sidecar"
            wrong("count", f"{found}, but the manifest says {task.records}")
    return ShardReport(tuple(problems), tuple(rows))


def _content(kind: str, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind of problem, message) of what a record itself shows to be wrong."""
    if kind == "vqa_videos":
        return _video(record)
    if kind in ("vqa_clips", "vqa_views"):
        name, axes = ("clips", 5) if kind == "vqa_clips" else ("pictures", 4)
        found = record["clips"] if kind == "vqa_clips" else view_coding.decode(record)
        if found.ndim != axes or not found.size or found.dtype != np.uint8:
            return [("schema", f"{name} are {found.dtype} {found.shape}")]
    if kind in ("vqa_motion", "vqa_tokens"):
        name = "features" if kind == "vqa_motion" else "frames"
        numbers = record[name]
        if not (numbers.size and np.isfinite(numbers).all()):
            return [("schema", f"{name} are not finite numbers")]
    if kind == "vqa_pairs":
        probs = record["level_probs"]
        if probs.min() < 0 or not np.isclose(probs.sum(), 1, atol=1e-4):
            return [("label", f"level_probs {probs} are no probabilities")]
        odd = [k for k, v in record.items() if np.ndim(v) == 0 and v != v]  # only NaN differs
        if odd:
            return [("schema", f"{odd} are no numbers")]
    return []


def _video(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    try:
        pre = Preprocess.from_json(record["preprocess"])
        json.loads(record["parameter"])
    except (ValueError, TypeError) as e:
        return [("schema", str(e))]
    frames = record["frames"]
    side = pre.tile_size if pre.view == "crops" else pre.image_size
    sizes = pre.fit_shapes() if pre.view == "fit" else ((side, side),)
    shapes = [(len(frames), *size, 3) for size in sizes]
    if frames.shape not in shapes or frames.dtype != np.uint8 or not frames.size:
        return [("schema", f"frames are {frames.dtype} {frames.shape}")]
    return []
