"""The preparation job: a listing of videos in, a verified corpus of shards out.

    python -m data_prep build --config quickstart --videos LISTING --data DIR \
        [-- BEAM_OPTION ...]

Two Beam pipelines of one leaf each: probe every input, then build one bucket of sources at a time.
Both leave files in DIR/work that a rerun takes up. The manifest is written last of all.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from data_prep.inputs import listing, source
from data_prep.inputs.deduplicate import Duplicate, Fingerprint, find_duplicates
from data_prep.prepare.buckets import (
    bucket_rows,
    finished_bucket,
    num_buckets,
    prepare_buckets,
    read_bucket,
    shard_path,
    write_buckets,
)
from data_prep.prepare.config import PrepConfig
from data_prep.prepare.pools import ALL, assign_pools, assign_splits
from data_prep.prepare.probing import probe_inputs, read_probed
from vqa_jax.corpus import shards as records
from vqa_jax.corpus.shards import MANIFEST, QUARANTINE
from vqa_jax.corpus.video_table import write_video_table
from vqa_jax.jobs import csv_cells, files, published
from vqa_jax.teachers import vmaf

DUPLICATES = "duplicates.csv"
_OWN = r"(?:probe-[0-9a-f]{16}|(?:train|heldout)-\d{5})\..+"  # files of the working folder


def build(
    videos: str, data: str, config: PrepConfig, beam_args: Sequence[str] = ()
) -> dict[str, Any]:
    """Runs the whole job; returns the manifest. A corpus that is already complete is kept.

    Args:
      videos: folder, glob or table of input videos, see `listing.read_listing`.
      data: corpus folder to write; every worker must see it under this name.
      config: see PrepConfig.
      beam_args: Beam options, e.g. ["--direct_running_mode=multi_processing"].

    Raises:
      MissingExtraError, vmaf.VmafError: `config.vmaf` without its program.
      files.CorpusError: no input is usable, the folder holds another corpus or is in use, or
        the counts do not add up.
      work.UnfinishedWorkError: the runner lost units.
    """
    if config.vmaf:
        vmaf.ffmpeg()  # before anything is decoded
    entries = listing.read_listing(videos, config.stills)
    if not entries:
        raise files.CorpusError(f"{videos} holds no video (told by extension and by content)")
    stamps = listing.file_stamps(entries)
    identity = {
        "config": config.fingerprint(),
        "inputs": _input_identity(entries, stamps),
        "contents": listing.content_hash(entries, stamps),
    }
    work = os.path.join(data, "work")
    with files.exclusive(data):
        manifest = _complete(data, work, identity, len(entries))
        if manifest is not None:
            return manifest
        os.makedirs(work, exist_ok=True)
        for folder in (data, work):
            files.remove_temporary(folder)
        probed = probe_inputs(entries, stamps, work, config, beam_args)
        del stamps
        rejected, duplicates, sources = _sources(probed, config)
        names = write_buckets(work, sources.read(), num_buckets(len(sources.splits), config))
        logging.info("preparing %d sources in %d buckets", len(sources.splits), len(names))
        prepare_buckets(names, work, config, beam_args)
        left_out = _LeftOut(rejected, duplicates)
        return _finish(data, work, len(entries), left_out, names, config, identity)


@dataclasses.dataclass(frozen=True)
class _Sources:
    """Usable inputs: their choice in memory, all else in the files of the probe.

    Attributes:
      probed: see `probing.probe_inputs`.
      splits: key -> split.
      pools: source id -> pool, of those in training.
    """

    probed: Sequence[str]
    splits: Mapping[str, str]
    pools: Mapping[str, str]

    def read(self) -> Iterator[source.Source]:
        """Every source, one in memory at a time."""
        for row in read_probed(self.probed):
            key = row.entry.key
            if row.info is not None and key in self.splits:
                source_id = source.source_id(key)
                yield source.Source(
                    source_id,
                    key,
                    self.splits[key],
                    row.info,
                    row.stamp,
                    self.pools.get(source_id, ALL),
                    row.entry.path,
                )


@dataclasses.dataclass(frozen=True)
class _LeftOut:
    """Inputs that become no records: rows of quarantine.csv and of duplicates.csv."""

    rejected: list[source.Rejected]
    duplicates: list[Duplicate]


def _sources(
    probed: Sequence[str], config: PrepConfig
) -> tuple[list[source.Rejected], list[Duplicate], _Sources]:
    """Quarantine, copies, and use of the inputs that were probed."""
    rejected: list[source.Rejected] = []
    given: dict[str, str] = {}
    fingerprints: dict[str, Fingerprint] = {}
    for row in read_probed(probed):
        if row.rejected is not None:
            rejected.append(row.rejected)
            continue
        given[row.entry.key] = row.entry.split
        if row.fingerprint is not None:
            fingerprints[row.entry.key] = row.fingerprint
    duplicates = find_duplicates(fingerprints)
    for duplicate in duplicates:
        del given[duplicate.key]
    splits = assign_splits(given, config.heldout_fraction)
    training = (source.source_id(key) for key, split in splits.items() if split == "train")
    sources = _Sources(probed, splits, assign_pools(training, config.pools))
    return rejected, duplicates, sources


def _complete(
    data: str, work: str, identity: Mapping[str, str], num_inputs: int
) -> dict[str, Any] | None:
    """The manifest of a corpus that is already there; CorpusError if it is another one."""
    path = os.path.join(data, MANIFEST)
    if not os.path.exists(path):
        return None
    manifest = files.read_json(path, dict)
    if not {"identity", "counts", "datasets"} <= manifest.keys():
        raise files.CorpusError(f"{path} is not a corpus's: choose another --data")
    files.read_json(
        path, {"identity": dict, "counts": {"inputs": int}, "datasets": records.DATASETS}
    )
    changed = published.changed(path, manifest["identity"], identity)
    if changed:
        then = manifest["counts"]["inputs"]
        what = {
            "config": "other settings",
            "inputs": f"other input files ({then} then, {num_inputs} now)",
            "contents": "input files of other contents",
        }
        if "inputs" in changed:
            changed.remove("contents")
        made_from = " and ".join(what[name] for name in changed)
        raise files.CorpusError(
            f"{data} holds a corpus made from {made_from}: choose another --data, or delete that"
            " folder to prepare it anew"
        )
    records.check_present(data, manifest["datasets"])
    files.remove_own(work, _OWN)  # of a job killed at its very end
    logging.info("%s is complete: nothing to prepare", data)
    return manifest


def _finish(
    data: str,
    work: str,
    num_inputs: int,
    left_out: _LeftOut,
    names: Sequence[str],
    config: PrepConfig,
    identity: Mapping[str, str],
) -> dict[str, Any]:
    """Publishes the buckets' shards and writes table, what is left out and the manifest, last."""
    kinds = config.datasets()
    shards: dict[str, dict[str, list[str]]] = {dataset: {} for dataset in kinds}
    num_sources = num_videos = 0
    rejected, duplicates = list(left_out.rejected), left_out.duplicates
    for name in names:
        bucket = read_bucket(work, name)
        summary = finished_bucket(work, bucket, config)
        if summary is None:
            raise files.CorpusError(f"bucket {name} in {work} is incomplete: run again")
        rejected.extend(source.Rejected(**r) for r in summary["rejected"])
        num_sources += summary["sources"]
        num_videos += summary["videos"]
        if summary["videos"]:
            for dataset, splits in shards.items():
                splits.setdefault(bucket[1][0].split, []).append(shard_path(work, name, dataset))
    _write_left_out(data, rejected, duplicates)
    if num_inputs != num_sources + len(rejected) + len(duplicates):
        raise files.CorpusError(
            f"{num_inputs} inputs, but {num_sources} with records, {len(rejected)} quarantined and"
            f" {len(duplicates)} copies: delete {work} and run again"
        )
    if not num_sources:
        raise files.CorpusError(f"none of {num_inputs} inputs is usable: see {data}/{QUARANTINE}")
    entries = {
        dataset: records.publish(data, dataset, kinds[dataset], splits)
        for dataset, splits in shards.items()
    }
    rows = itertools.chain.from_iterable(bucket_rows(work, name) for name in names)
    table_digest = write_video_table(data, rows)
    manifest = {
        "identity": dict(identity),
        "seed": config.seed,
        "settings": dataclasses.asdict(config),
        "counts": {
            "inputs": num_inputs,
            "sources": num_sources,
            "quarantined": len(rejected),
            "duplicates": len(duplicates),
            "videos": num_videos,
        },
        "datasets": entries,
        "video_table_sha256": table_digest,
    }
    files.write_sealed(os.path.join(data, MANIFEST), manifest)
    files.remove_own(work, _OWN)
    return manifest


def _input_identity(entries: Sequence[listing.Input], stamps: Sequence[listing.Stamp]) -> str:
    """Names, splits and sizes."""
    named = [
        (entry.key, entry.split, stamp.size) for entry, stamp in zip(entries, stamps, strict=True)
    ]
    return f"{files.key_hash(repr(named)):016x}"


def _write_left_out(
    data: str, rejected: Sequence[source.Rejected], duplicates: Sequence[Duplicate]
) -> None:
    with files.written(os.path.join(data, QUARANTINE), newline="") as f:
        writer = csv_cells.Writer(f)
        writer.writerow(["path", "stage", "reason"])
        for row in sorted(rejected, key=lambda r: r.path):
            writer.writerow([files.printable(row.path), row.stage, files.printable(row.reason)])
    with files.written(os.path.join(data, DUPLICATES), newline="") as f:
        writer = csv_cells.Writer(f)
        writer.writerow(["path", "duplicate_of", "kind", "distance"])
        for copy in duplicates:
            paths = [files.printable(copy.key), files.printable(copy.of)]
            writer.writerow([*paths, copy.kind, f"{copy.distance:.2f}"])
