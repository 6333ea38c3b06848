"""Checks a whole corpus: every byte is hashed and every record read again.

    python -m data_prep verify DIR [--workers N] [--contact_sheet FILE]

Looks at the manifest's counts and hashes, TFDS's metadata, the schema and keys of every record,
agreement of records with the video table, sources of simulated videos, the pairs' references,
labels and splits, motion features where they exist, and the quarantine. All problems are found, not
just the first. Shards are read by several processes; here only the table's columns are held.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tqdm import tqdm

from data_prep.verify import contact_sheet as contact_sheet_lib
from data_prep.verify.shards import Problem, ShardTask, check_shard, key_field
from vqa_jax.corpus import pair_shards, schemas, shards, store
from vqa_jax.corpus.shards import DATASET, DATASETS, MANIFEST, QUARANTINE
from vqa_jax.corpus.video_table import VideoTable, read_video_table, table_path, table_sha256
from vqa_jax.jobs import fields, files, outputs
from vqa_jax.jobs import workers as worker_processes
from vqa_jax.jobs.files import CorpusError
from vqa_jax.pairs import levels
from vqa_jax.pairs.across import ACROSS

MOTION_MANIFEST = "motion.json"
DUPLICATES = "duplicates.csv"
_SHOWN = 20  # problems that an error message lists
_TABLE_FIELDS = ("source_id", "path", "segment", "simulator", "level", "effective", "parameter")

Place = tuple[str, int]  # shard and number of a record in it


class DamagedCorpusError(CorpusError):
    """A corpus is not what its manifests say. `problems` holds them all."""

    def __init__(self, data: str, problems: Sequence[Problem]):
        lines = [
            f"{data}: {len(problems)} problems; restore the files named, or delete them, their"
            " dataset's manifest, and make them again"
        ]
        lines += [str(p) for p in problems[:_SHOWN]]
        super().__init__("\n  ".join(lines))
        self.problems = tuple(problems)


class _Verifier:
    """Collects problems; holds the table's columns and the number of each video in it."""

    def __init__(self, data: str, workers: int):
        self.data, self.workers = data, workers
        self.problems: list[Problem] = []
        self.table = VideoTable.empty()
        self.number: dict[str, int] = {}  # video id -> row of the table
        self.videos = contact_sheet_lib.Sample(contact_sheet_lib.NUM_VIDEOS)
        self.pairs = contact_sheet_lib.Sample(contact_sheet_lib.NUM_PAIRS)
        self.places: dict[str, Place] = {}  # of the videos that sampled pairs name

    def wrong(self, kind: str, path: str, message: str) -> None:
        self.problems.append(Problem(kind, path, message))

    def path(self, *parts: str) -> str:
        return os.path.join(self.data, *parts)

    def count(self, path: str, what: str, found: int, wanted: int) -> None:
        if found != wanted:
            self.wrong("count", path, f"{found} {what}, but the manifest says {wanted}")

    # --- table and lists ----------------------------------------------------------------------

    def lists(self, manifest: Mapping[str, Any]) -> None:
        """Video table, quarantine, duplicates, and the manifest's counts."""
        path, counts = table_path(self.data), manifest["counts"]
        if not os.path.exists(path):
            self.wrong("missing", path, "the video table does not exist")
        elif table_sha256(self.data) != manifest["video_table_sha256"]:
            self.wrong("hash", path, "differs from the manifest's SHA-256")
        else:
            self.table = read_video_table(self.data)
            self.rows(path, counts)
        together = counts["sources"]
        for name, what in ((QUARANTINE, "quarantined"), (DUPLICATES, "duplicates")):
            if what not in counts:
                continue
            together += counts[what]
            if not os.path.exists(self.path(name)):
                self.wrong("missing", self.path(name), "the manifest counts its rows")
                continue
            with open(self.path(name), newline="", encoding="utf-8") as f:
                self.count(self.path(name), "rows", sum(1 for _ in csv.DictReader(f)), counts[what])
        what = "sources, quarantined and duplicates together"
        self.count(self.path(MANIFEST), what, together, counts["inputs"])

    def rows(self, path: str, counts: Mapping[str, int]) -> None:
        """The table by itself: keys, splits, and the source of every simulated video."""
        self.number = {key: k for k, key in enumerate(self.table.column("video_id"))}
        self.count(path, "videos", len(self.number), counts["videos"])
        self.count(path, "rows", len(self.table), counts["videos"])
        split_of: dict[str, str] = {}
        segments = set()
        for row in self.table.where(level=0):
            segments.add((row["source_id"], row["segment"]))
        for row in self.table:
            source = row["source_id"]
            if split_of.setdefault(source, row["split"]) != row["split"]:
                self.wrong("reference", path, f"source {source} is in two splits")
            if (source, row["segment"]) not in segments:
                self.wrong("reference", path, f"{row['video_id']} has no undistorted source")
        self.count(path, "sources", len(split_of), counts["sources"])

    # --- shards -------------------------------------------------------------------------------

    def dataset(
        self, name: str, entry: Mapping[str, Any]
    ) -> Iterator[tuple[ShardTask, Sequence[dict[str, Any]]]]:
        """Shards with the rows of their records, checked by themselves on the way."""
        folder, kind = shards.builder_dir(self.data, name), entry["kind"]
        tasks = [
            ShardTask(
                os.path.join(folder, row["name"]), name, kind, split, row["records"], row["sha256"]
            )
            for split, rows in entry["splits"].items()
            for row in rows
        ]
        listed = {os.path.basename(task.path) for task in tasks}
        present = os.listdir(folder) if os.path.isdir(folder) else []
        for extra in sorted(n for n in present if ".array_record-" in n and n[-5:] != ".json"):
            if extra not in listed:
                self.wrong("count", os.path.join(folder, extra), "is not in the manifest")
        if kind not in schemas.FEATURES:
            self.wrong("schema", folder, f"the manifest calls it {kind!r:.200}, which is no kind")
            return
        self.metadata(folder, entry)
        key, seen = key_field(kind), set()
        for task, report in self.read(name, tasks):
            self.problems.extend(report.problems)
            for row in report.rows:
                if row[key] in seen:
                    self.wrong("schema", task.path, f"record {row[key]!r} is there twice")
                seen.add(row[key])
            yield task, report.rows

    def read(self, name: str, tasks: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, Any]]:
        """Reports of shards in order, with a progress bar that counts bytes."""
        sizes = [os.path.getsize(t.path) if os.path.exists(t.path) else 0 for t in tasks]
        bar = tqdm(total=sum(sizes), desc=name, unit="B", unit_scale=True, mininterval=2)
        with bar, _mapper(min(self.workers, len(tasks))) as apply:
            for task, size, report in zip(tasks, sizes, apply(check_shard, tasks), strict=True):
                bar.update(size)
                yield task, report

    def metadata(self, folder: str, entry: Mapping[str, Any]) -> None:
        """What TFDS will believe of the dataset; it would import any class that it names."""
        try:
            named = _classes(fields.read_object(os.path.join(folder, "features.json"), CorpusError))
        except CorpusError as error:
            self.wrong("schema", folder, str(error))
            return
        ours = set().union(*(_classes(f.to_json()) for f in schemas.FEATURES.values()))
        if strange := sorted(named - ours):
            message = f"features.json names {strange[0]!r:.200}, no class of a corpus's features"
            self.wrong("schema", folder, message)
            return
        try:
            info = tfds.builder_from_directory(folder).info
        except Exception as e:  # TFDS raises many kinds for missing or broken files
            self.wrong("schema", folder, f"TFDS cannot read it ({type(e).__name__}: {e})")
            return
        wanted = {s: [row["records"] for row in rows] for s, rows in entry["splits"].items()}
        if {s: list(split.shard_lengths) for s, split in info.splits.items()} != wanted:
            self.wrong("count", folder, "dataset_info.json and the manifest differ")
        if (set(info.features) ^ set(schemas.FEATURES[entry["kind"]])) - schemas.SPARSE:
            self.wrong("schema", folder, "features.json holds other fields")

    # --- kinds of dataset ---------------------------------------------------------------------

    def video_datasets(self, manifest: Mapping[str, Any]) -> None:
        """Video and clip records against the table."""
        for name, entry in manifest["datasets"].items():
            gone = not os.path.isdir(shards.builder_dir(self.data, name))
            if entry["kind"] == "vqa_clips" and gone and os.path.exists(self.path(MOTION_MANIFEST)):
                logging.info("%s: motion clips were deleted, their features exist", self.data)
                continue
            if entry["kind"] == "vqa_views" and gone:
                logging.info("%s: %s was deleted", self.data, name)
                continue
            self.keyed(name, entry)

    def keyed(
        self, name: str, entry: Mapping[str, Any], maker: tuple[str, str] | None = None
    ) -> int:
        """A dataset with a record for every video of the table; returns the records found.

        `maker`: field and value that every record has.
        """
        found, unknown = np.zeros(len(self.table), bool), 0
        total = 0
        for task, rows in self.dataset(name, entry):
            known = [row for row in rows if row["video_id"] in self.number]
            unknown += len(rows) - len(known)
            total += len(rows)
            numbers = [self.number[row["video_id"]] for row in known]
            found[numbers] = True
            if entry["kind"] == "vqa_videos":
                self.same_as_table(task, known, numbers)
                self.sample_videos(task, rows)
            for row in rows:
                if maker is not None and row[maker[0]] != maker[1]:
                    message = f"{row['video_id']} is of another {maker[0]}"
                    self.wrong("schema", task.path, message)
        if len(self.table) and (unknown or not found.all()):
            missing = len(found) - int(found.sum())
            message = f"{missing} videos of the table are missing, {unknown} are not in it"
            self.wrong("reference", shards.builder_dir(self.data, name), message)
        return total

    def same_as_table(
        self, task: ShardTask, rows: Sequence[Mapping[str, Any]], numbers: Sequence[int]
    ) -> None:
        for row, told in zip(rows, self.table.take(numbers), strict=True):
            if told["split"] != task.split or any(row[f] != told[f] for f in _TABLE_FIELDS):
                message = f"{row['video_id']} differs from its row in the video table"
                self.wrong("schema", task.path, message)

    def sample_videos(self, task: ShardTask, rows: Sequence[Mapping[str, Any]]) -> None:
        wanted = {k for pair in self.pairs.values() for k in (pair["first_id"], pair["second_id"])}
        for place, row in enumerate(rows):
            self.videos.offer(row["video_id"], (task.path, place))
            if row["video_id"] in wanted:
                self.places[row["video_id"]] = (task.path, place)

    def sidecars(self) -> None:
        """Motion features and tokens: a record a video, of the network that the manifest names."""
        for name, dataset, network in (
            (MOTION_MANIFEST, "vqa_motion", "extractor"),
            (store.TOKENS_MANIFEST, "vqa_tokens", "tower"),
        ):
            path = self.path(name)
            if os.path.exists(path):
                shape = {"identity": {network: str}, "dataset": DATASET, "videos": int}
                manifest = files.read_json(path, shape)
                maker = (network, manifest["identity"][network])
                found = self.keyed(dataset, manifest["dataset"], maker)
                self.count(path, "records", found, manifest["videos"])

    def pair_datasets(self, iteration: int) -> Counter[str]:
        """One iteration's pairs; returns how often each label occurs."""
        manifest_path = pair_shards.manifest_path(self.data, iteration)
        shape = {"dataset": DATASETS, "counts": {str: int}, "labels": {str: int}}
        manifest = files.read_json(manifest_path, shape)
        labels: Counter[str] = collections.Counter()
        splits: Counter[str] = collections.Counter()
        for name, entry in manifest["dataset"].items():
            for task, rows in self.dataset(name, entry):
                splits[task.split] += len(rows)
                labels.update(levels.LEVELS[row["label"]] for row in rows)
                self.pair_rows(task, rows, iteration)
        for split, wanted in manifest["counts"].items():
            self.count(manifest_path, f"{split} pairs", splits[split], wanted)
        for label, wanted in manifest["labels"].items():
            self.count(manifest_path, f"{label!r} pairs", labels[label], wanted)
        return labels

    def pair_rows(self, task: ShardTask, rows: Sequence[dict[str, Any]], iteration: int) -> None:
        known = []
        for row in rows:
            self.pairs.offer(row["pair_id"], row)
            if row["iteration"] != iteration:
                self.wrong("schema", task.path, f"{row['pair_id']} is of another iteration")
            if row["first_id"] in self.number and row["second_id"] in self.number:
                known.append(row)
            elif self.number:
                message = f"{row['pair_id']} names a video that does not exist"
                self.wrong("reference", task.path, message)
        videos = [
            self.table.take([self.number[row[name]] for row in known])
            for name in ("first_id", "second_id")
        ]
        for row, first, second in zip(known, *videos, strict=True):
            for kind, message in _pair(row, first, second, task.split):
                self.wrong(kind, task.path, f"{row['pair_id']}: {message}")

    # --- contact sheet ------------------------------------------------------------------------

    def draw(self, path: str) -> None:
        """Reads the sample's records and draws them."""
        videos = [_record(place) for place in self.videos.values()]
        pairs = [
            (pair, *(_record(self.places[pair[name]]) for name in ("first_id", "second_id")))
            for pair in self.pairs.values()
            if pair["first_id"] in self.places and pair["second_id"] in self.places
        ]
        contact_sheet_lib.draw(path, videos, pairs, self.videos.seen, self.pairs.seen)
        logging.info("contact sheet of %d videos, %d pairs: %s", len(videos), len(pairs), path)


def _classes(features: Any) -> set[str]:
    """What TFDS would import to make these features: values of the fields that name classes."""
    found, left = set(), [features]
    while left:
        value = left.pop()
        left += value.values() if isinstance(value, dict) else value
        left = [inner for inner in left if isinstance(inner, dict | list)]
        if isinstance(value, dict):
            found |= {str(value[key]) for key in ("type", "pythonClassName") if key in value}
    return found


def _record(place: Place) -> dict[str, Any]:
    return store.ShardReader(place[0], "vqa_videos")[place[1]]


def _pair(
    pair: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any], split: str
) -> Iterator[tuple[str, str]]:
    """(kind of problem, message) of a pair and the table's rows of its videos."""
    same = first["video_id"] == second["video_id"]
    if same or not all(r["split"] == split and r["effective"] for r in (first, second)):
        message = "pairs a video with itself, with another split's, or with an ineffective one"
        yield "reference", message
    label = levels.LEVELS[pair["label"]]
    simulator = pair["label_source"].partition("simulator:")[2]
    if pair["label_source"] == ACROSS:
        none, some = sorted((first["level"], second["level"]))
        right = "superior" if second["level"] == 0 else "inferior"
        if first["source_id"] == second["source_id"] or none or not some or label != right:
            yield "label", f"{label!r} is not of a source and another one's version"
    elif simulator and not (
        (first["source_id"], first["segment"]) == (second["source_id"], second["segment"])
        and {first["simulator"], second["simulator"]} <= {simulator, "source"}
        and first["level"] != second["level"]
        and label == levels.label_from_severity(first["level"], second["level"])
    ):
        yield "label", f"{label!r} is not what {simulator}'s order says"


@contextlib.contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """`map` in this process, or over as many others, with results in order."""
    if workers <= 1:
        yield map
        return
    with worker_processes.pool(workers) as pool:
        try:
            yield pool.map
        except concurrent.futures.process.BrokenProcessPool as e:
            raise CorpusError(
                "a process that read shards was killed: is memory short? Use fewer --workers"
            ) from e
        finally:
            pool.shutdown(cancel_futures=True)


def verify(data: str, workers: int = 1, contact_sheet: str | None = None) -> dict[str, Any]:
    """Reads all of a corpus.

    Args:
      data: corpus folder.
      workers: processes that read shards.
      contact_sheet: PNG to draw of an intact corpus, or None; that it cannot be written is a
        warning.

    Returns:
      {"counts": of the manifest, "labels": {iteration: {level: pairs}}}.

    Raises:
      DamagedCorpusError: something is missing, damaged or contradictory.
      files.CorpusError: there is no finished corpus.
    """
    counts = {str: int, **dict.fromkeys(("videos", "sources", "inputs"), int)}
    shape = {"counts": counts, "video_table_sha256": str, "datasets": DATASETS}
    manifest = files.read_json(os.path.join(data, MANIFEST), shape)
    verifier = _Verifier(data, workers)
    verifier.lists(manifest)
    labels = {}
    iteration = 1  # pairs come first: the contact sheet wants the places of their videos
    while os.path.exists(pair_shards.manifest_path(data, iteration)):
        found = verifier.pair_datasets(iteration)
        labels[iteration] = {level: found[level] for level in levels.LEVELS}
        iteration += 1
    verifier.video_datasets(manifest)
    verifier.sidecars()
    if verifier.problems:
        raise DamagedCorpusError(data, verifier.problems)
    if contact_sheet:
        try:
            verifier.draw(contact_sheet)
        except OSError as error:  # a full disk does not make the corpus less intact
            logging.warning("%s is not drawn: %s", contact_sheet, outputs.describe(error))
    return {"counts": manifest["counts"], "labels": labels}
