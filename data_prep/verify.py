"""Checks a whole corpus: every byte is hashed and every record read again.

    python -m data_prep.verify --data DIR

Looks at the manifest's counts and hashes, TFDS's metadata, the schema and keys of every record,
agreement of records with the video table, the pairs' references, labels and splits, motion
features where they exist, and the quarantine. All problems are found, not just the first.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags, logging

from vqa_jax import levels, pair_shards, records
from vqa_jax.frames import Preprocess
from vqa_jax.records import MANIFEST, QUARANTINE
from vqa_jax.video_table import VIDEO_TABLE

MOTION_MANIFEST = "motion.json"
_SHOWN = 20  # problems that an error message lists
_TABLE_FIELDS = ("source_id", "path", "segment", "simulator", "level", "effective", "parameter")


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


class DamagedCorpusError(records.CorpusError):
    """A corpus is not what its manifests say. `problems` holds them all."""

    def __init__(self, data: str, problems: Sequence[Problem]):
        lines = [
            f"{data}: {len(problems)} problems; restore the files named, or delete them, their"
        ]
        lines[0] += " dataset's manifest, and make them again"
        lines += [str(p) for p in problems[:_SHOWN]]
        super().__init__("\n  ".join(lines))
        self.problems = tuple(problems)


class _Verifier:
    def __init__(self, data: str):
        self.data = data
        self.problems: list[Problem] = []
        self.rows: dict[str, dict[str, Any]] = {}

    def wrong(self, kind: str, path: str, message: str) -> None:
        self.problems.append(Problem(kind, path, message))

    def path(self, *parts: str) -> str:
        return os.path.join(self.data, *parts)

    def table(self, manifest: Mapping[str, Any]) -> None:
        """Video table, quarantine and the manifest's counts."""
        path, counts = self.path(VIDEO_TABLE), manifest["counts"]
        if not os.path.exists(path):
            self.wrong("missing", path, "the video table does not exist")
        elif records.file_sha256(path) != manifest["video_table_sha256"]:
            self.wrong("hash", path, "differs from the manifest's SHA-256")
        else:
            rows = records.read_json(path)
            self.rows = {row["video_id"]: row for row in rows}
            sources = {row["source_id"] for row in rows}
            self.count(path, "videos", len(self.rows), counts["videos"])
            self.count(path, "sources", len(sources), counts["sources"])
        path = self.path(QUARANTINE)
        if not os.path.exists(path):
            self.wrong("missing", path, "the quarantine does not exist")
        else:
            with open(path, newline="", encoding="utf-8") as f:
                self.count(path, "rows", sum(1 for _ in csv.DictReader(f)), counts["quarantined"])
        together = counts["sources"] + counts["quarantined"]
        self.count(self.path(MANIFEST), "sources and quarantined", together, counts["inputs"])

    def count(self, path: str, what: str, found: int, wanted: int) -> None:
        if found != wanted:
            self.wrong("count", path, f"{found} {what}, but the manifest says {wanted}")

    def dataset(
        self, name: str, entry: Mapping[str, Any]
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(split, shard path, record) of all that can be read; checks files and keys on the way."""
        folder = records.builder_dir(self.data, name)
        kind = entry["kind"]
        seen: set[str] = set()
        listed = {row["name"] for rows in entry["splits"].values() for row in rows}
        present = os.listdir(folder) if os.path.isdir(folder) else []
        for extra in sorted({n for n in present if ".array_record-" in n and n[-5:] != ".json"}):
            if extra not in listed:
                self.wrong("count", os.path.join(folder, extra), "is not in the manifest")
        self.metadata(folder, entry)
        for split, rows in entry["splits"].items():
            for row in rows:
                path = os.path.join(folder, row["name"])
                ids = self.shard(path, row)
                if ids is None:
                    continue
                for key, record in zip(ids, self.read(path, kind), strict=False):
                    found = record["pair_id" if kind == "vqa_pairs" else "video_id"]
                    if found != key or key in seen:
                        self.wrong("schema", path, f"record {found!r} repeats, or is not {key!r}")
                    seen.add(key)
                    yield split, path, record

    def shard(self, path: str, row: Mapping[str, Any]) -> list[str] | None:
        """Keys of a shard's records, or None if it should not be read."""
        for file in (path, path + ".json"):
            if not os.path.exists(file):
                self.wrong("missing", file, "the manifest lists it")
                return None
        if records.file_sha256(path) != row["sha256"]:
            self.wrong("hash", path, "differs from the manifest's SHA-256")
            return None
        sidecar = records.read_json(path + ".json")
        self.count(path, "records", len(sidecar["ids"]), row["records"])
        return sidecar["ids"]

    def read(self, path: str, kind: str) -> Iterator[dict[str, Any]]:
        try:
            yield from records.shard_records(path, kind)
        except Exception as e:  # decoders and parsers of damaged bytes raise anything
            self.wrong("schema", path, f"a record cannot be read ({type(e).__name__}: {e})")

    def metadata(self, folder: str, entry: Mapping[str, Any]) -> None:
        """What TFDS will believe of the dataset."""
        try:
            info = tfds.builder_from_directory(folder).info
        except Exception as e:  # TFDS raises many kinds for missing or broken files
            self.wrong("schema", folder, f"TFDS cannot read it ({type(e).__name__}: {e})")
            return
        wanted = {s: [row["records"] for row in rows] for s, rows in entry["splits"].items()}
        if {s: list(split.shard_lengths) for s, split in info.splits.items()} != wanted:
            self.wrong("count", folder, "dataset_info.json and the manifest differ")
        if set(info.features) != set(records.FEATURES[entry["kind"]]):
            self.wrong("schema", folder, "features.json holds other fields")

    def videos(self, manifest: Mapping[str, Any]) -> None:
        """Video and clip records against the table."""
        datasets = manifest["datasets"]
        for name, entry in datasets.items():
            gone = not os.path.isdir(records.builder_dir(self.data, name))
            if entry["kind"] == "vqa_clips" and gone and os.path.exists(self.path(MOTION_MANIFEST)):
                logging.info("%s: motion clips were deleted, their features exist", self.data)
                continue
            keys = set()
            for split, path, record in self.dataset(name, entry):
                keys.add(record["video_id"])
                if entry["kind"] == "vqa_videos":
                    self.video(split, path, record)
            self.same_videos(records.builder_dir(self.data, name), keys)

    def same_videos(self, path: str, keys: set[str]) -> None:
        if self.rows and keys != self.rows.keys():
            missing, unknown = len(self.rows.keys() - keys), len(keys - self.rows.keys())
            message = f"{missing} videos of the table are missing, {unknown} are not in it"
            self.wrong("reference", path, message)

    def video(self, split: str, path: str, record: Mapping[str, Any]) -> None:
        key, row = record["video_id"], self.rows.get(record["video_id"])
        if row is not None and (
            split != row["split"] or any(record[f] != row[f] for f in _TABLE_FIELDS)
        ):
            self.wrong("schema", path, f"{key} differs from its row in {VIDEO_TABLE}")
        try:
            pre = Preprocess.from_json(record["preprocess"])
            json.loads(record["parameter"])
        except ValueError as e:
            self.wrong("schema", path, f"{key}: {e}")
            return
        frames = record["frames"]
        side = pre.tile_size if pre.view == "crops" else pre.image_size
        if (
            frames.shape != (len(frames), side, side, 3)
            or frames.dtype != np.uint8
            or not frames.size
        ):
            self.wrong("schema", path, f"{key}: frames are {frames.dtype} {frames.shape}")

    def motion(self) -> None:
        """Motion features: one record a video, finite, of the extractor that the manifest names."""
        if not os.path.exists(self.path(MOTION_MANIFEST)):
            return
        manifest = records.read_json(self.path(MOTION_MANIFEST))
        keys = set()
        for _, path, record in self.dataset("vqa_motion", manifest["dataset"]):
            keys.add(record["video_id"])
            if record["extractor"] != manifest["identity"]["extractor"]:
                self.wrong("schema", path, f"{record['video_id']} is of another extractor")
            if not (record["features"].size and np.isfinite(record["features"]).all()):
                self.wrong("schema", path, f"{record['video_id']}: features are not finite numbers")
        self.count(self.path(MOTION_MANIFEST), "records", len(keys), manifest["videos"])
        self.same_videos(records.builder_dir(self.data, "vqa_motion"), keys)

    def pairs(self, iteration: int) -> Counter[str]:
        """One iteration's pairs; returns how often each label occurs."""
        manifest_path = pair_shards.manifest_path(self.data, iteration)
        manifest = records.read_json(manifest_path)
        labels: Counter[str] = Counter()
        splits: Counter[str] = Counter()
        for name, entry in manifest["dataset"].items():
            for split, path, record in self.dataset(name, entry):
                splits[split] += 1
                label = levels.LEVELS[record["label"]]
                labels[label] += 1
                self.pair(split, path, record, label, iteration)
        for split, wanted in manifest["counts"].items():
            self.count(manifest_path, f"{split} pairs", splits[split], wanted)
        for label, wanted in manifest["labels"].items():
            self.count(manifest_path, f"{label!r} pairs", labels[label], wanted)
        return labels

    def pair(
        self, split: str, path: str, record: Mapping[str, Any], label: str, iteration: int
    ) -> None:
        key = record["pair_id"]
        if record["iteration"] != iteration:
            self.wrong("schema", path, f"{key} is of iteration {record['iteration']}")
        probs = record["level_probs"]
        if probs.min() < 0 or not np.isclose(probs.sum(), 1, atol=1e-4):
            self.wrong("label", path, f"{key}: level_probs {probs} are no probabilities")
        rows = [self.rows.get(record[k]) for k in ("first_id", "second_id")]
        if self.rows and None in rows:
            self.wrong("reference", path, f"{key} names a video that does not exist")
        if None in rows:
            return
        first, second = rows
        if first is second or not all(r["split"] == split and r["effective"] for r in rows):
            message = "pairs a video with itself, with another split's, or with an ineffective one"
            self.wrong("reference", path, f"{key} {message}")
        simulator = record["label_source"].partition("simulator:")[2]
        if simulator and not (
            (first["source_id"], first["segment"]) == (second["source_id"], second["segment"])
            and {first["simulator"], second["simulator"]} <= {simulator, "source"}
            and label == levels.label_from_severity(first["level"], second["level"])
        ):
            self.wrong("label", path, f"{key}: {label!r} is not what {simulator}'s order says")


def verify(data: str) -> dict[str, Any]:
    """Reads all of a corpus.

    Args:
      data: corpus folder.

    Returns:
      {"counts": of the manifest, "labels": {iteration: {level: pairs}}}.

    Raises:
      DamagedCorpusError: something is missing, damaged or contradictory.
      records.CorpusError: there is no finished corpus.
    """
    manifest = records.read_json(os.path.join(data, MANIFEST))
    verifier = _Verifier(data)
    verifier.table(manifest)
    verifier.videos(manifest)
    verifier.motion()
    labels = {}
    iteration = 1
    while os.path.exists(pair_shards.manifest_path(data, iteration)):
        found = verifier.pairs(iteration)
        labels[iteration] = {level: found[level] for level in levels.LEVELS}
        iteration += 1
    if verifier.problems:
        raise DamagedCorpusError(data, verifier.problems)
    return {"counts": manifest["counts"], "labels": labels}


def main(argv: Sequence[str]) -> None:
    """Command line."""
    del argv
    data = flags.FLAGS.data
    try:
        summary = verify(data)
    except records.CorpusError as error:
        sys.exit(f"data_prep.verify: {error}")
    logging.info("%s is intact: %s", data, summary["counts"])
    for iteration, labels in summary["labels"].items():
        logging.info("pairs of iteration %d: %s", iteration, labels)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Corpus folder.")
    flags.mark_flags_as_required(["data"])
    app.run(main)
