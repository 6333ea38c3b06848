"""The preparation job: a folder of videos in, a verified corpus of shards out.

    python -m data_prep.build --config configs/quickstart.py --videos DIR --data DIR \
        [--runner=FnApiRunner] [any Beam option]

Two Beam pipelines of one leaf each: probe every input, then build one bucket of sources at a time.
A bucket's shards are written where they are made, under a temporary name, with a JSON summary
last; a rerun skips buckets whose summary and bytes are intact, so retries and restarts are
harmless on any runner and no frame crosses a shuffle. The manifest is written last of all.
"""

# No `from __future__ import annotations`: Beam reads the type hints of DoFns and wants no strings.
import contextlib
import csv
import dataclasses
import logging as standard_logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import cv2
from absl import app, flags, logging
from apache_beam.options.pipeline_options import PipelineOptions
from ml_collections import config_flags
from tqdm import tqdm

from data_prep import ingest
from data_prep.config import PrepConfig
from data_prep.encode import EncodeError
from data_prep.segments import prepare_source
from vqa_jax import records
from vqa_jax.frames import MediaError, VideoInfo
from vqa_jax.records import MANIFEST, QUARANTINE, VIDEO_TABLE

DEFAULT_RUNNER = "FnApiRunner"  # in process; DirectRunner would download a binary first
_KINDS = ("vqa_videos", "vqa_clips")
_PROGRESS_SECONDS = 2.0

Bucket = tuple[str, list[ingest.Source]]


# --- one bucket -------------------------------------------------------------------------------


class _PartlyWrittenError(Exception):
    """A source failed after some of its records were written: the shards must be begun again."""


def _bucket_path(work: str, bucket: str, kind: str) -> str:
    return os.path.join(work, f"{bucket}.{kind}.array_record")


def _summary_path(work: str, bucket: str) -> str:
    return os.path.join(work, f"{bucket}.json")


def _summary(work: str, bucket: Bucket, config: PrepConfig) -> dict[str, Any] | None:
    """The summary of a bucket made from these very sources and settings, if there is one."""
    path = _summary_path(work, bucket[0])
    if not os.path.exists(path):
        return None
    summary = records.read_json(path)
    return summary if summary["fingerprint"] == _work_fingerprint(config, bucket[1]) else None


def _work_fingerprint(config: PrepConfig, sources: Sequence[ingest.Source]) -> str:
    return f"{config.fingerprint()}:{records.key_hash(repr(list(sources))):016x}"


def build_bucket(bucket: Bucket, root: str, work: str, config: PrepConfig) -> dict[str, Any]:
    """Writes the video and clip shards of one bucket of sources; idempotent.

    Returns:
      The summary that is also written as JSON: {"fingerprint", "rows", "rejected"}.
    """
    name, sources = bucket
    done = _summary(work, bucket, config)
    if done is not None and (
        not done["rows"]
        or all(records.finished_shard(_bucket_path(work, name, kind)) for kind in _KINDS)
    ):
        return done
    rejected: dict[str, ingest.Rejected] = {}
    rows = None
    while rows is None:  # once, and once more for each source that fails half-way
        with contextlib.suppress(_PartlyWrittenError):
            rows = _write_shards(bucket, root, work, config, rejected)
    summary = {
        "fingerprint": _work_fingerprint(config, sources),
        "rows": rows,
        "rejected": [dataclasses.asdict(r) for r in rejected.values()],
    }
    records.write_json(_summary_path(work, name), summary)
    return summary


def _write_shards(
    bucket: Bucket, root: str, work: str, config: PrepConfig, rejected: dict[str, ingest.Rejected]
) -> list[dict[str, Any]]:
    """Rows of the videos written. A source is all or nothing: a part would be a silent gap.

    `rejected` (source id -> why) is skipped and added to; one record is in memory at a time.
    """
    rows: list[dict[str, Any]] = []
    name, sources = bucket
    videos_path, clips_path = (_bucket_path(work, name, kind) for kind in _KINDS)
    with (
        records.ShardWriter(videos_path, "vqa_videos") as videos,
        records.ShardWriter(clips_path, "vqa_clips") as clips,
    ):
        for source in sources:
            if source.source_id in rejected:
                continue
            before = len(rows)
            try:
                for video in prepare_source(root, source, config):
                    videos.write(video.video)
                    clips.write({"video_id": video.video["video_id"], "clips": video.clips})
                    rows.append(video.row)
            except (MediaError, EncodeError) as e:
                stage, reason = getattr(e, "stage", "simulate"), getattr(e, "reason", str(e))
                rejected[source.source_id] = ingest.Rejected(source.path, stage, reason)
                if len(rows) > before:
                    raise _PartlyWrittenError from e
    videos.finish()
    clips.finish()
    return rows


# --- pipelines --------------------------------------------------------------------------------


class _WorkerFn(beam.DoFn):
    """Common to both stages: what a worker needs, and one thread for each worker."""

    def __init__(self, root: str, work: str, config: PrepConfig):
        self._root, self._work, self._config = root, work, config

    def setup(self) -> None:
        cv2.setNumThreads(1)


class _ProbeFn(_WorkerFn):
    def process(self, encoded_path: bytes) -> Iterator[bytes]:
        path = os.fsdecode(encoded_path)
        target = _probe_path(self._work, path)
        stamp = list(ingest.file_stamp(self._root, path))
        if not os.path.exists(target) or records.read_json(target)["stamp"] != stamp:
            result = ingest.probe_input(self._root, path)
            kind = "info" if isinstance(result, VideoInfo) else "rejected"
            records.write_json(target, {kind: dataclasses.asdict(result), "stamp": stamp})
        yield encoded_path


class _BucketFn(_WorkerFn):
    def process(self, bucket: Bucket) -> Iterator[str]:
        build_bucket(bucket, self._root, self._work, self._config)
        yield bucket[0]


def _probe_path(work: str, relative_path: str) -> str:
    return os.path.join(work, f"probe-{ingest.source_id(relative_path)}.json")


def _run(
    title: str,
    items: Sequence[Any],
    targets: Sequence[str],
    fn: beam.DoFn,
    beam_args: Sequence[str],
) -> None:
    """Applies `fn` to all items; item i is done when the file targets[i] exists."""
    defaults = {"runner": DEFAULT_RUNNER, "default_sdk_harness_log_level": "WARNING"}
    given = {a.split("=")[0].lstrip("-") for a in beam_args}
    args = [*beam_args, *(f"--{k}={v}" for k, v in defaults.items() if k not in given)]
    standard_logging.getLogger("apache_beam").setLevel(standard_logging.WARNING)
    with _progress(title, targets), beam.Pipeline(options=PipelineOptions(args)) as pipeline:
        # Reshuffle: without it the multi-processing runner keeps all items in one worker.
        _ = pipeline | beam.Create(list(items)) | beam.Reshuffle() | title >> beam.ParDo(fn)


@contextlib.contextmanager
def _progress(title: str, targets: Sequence[str]) -> Iterator[None]:
    """A progress bar that counts files; so it works with every runner and its remote workers."""
    ended = threading.Event()

    def watch() -> None:
        pending = list(targets)
        with tqdm(total=len(pending), desc=title, mininterval=_PROGRESS_SECONDS) as bar:
            last = False
            while not last:
                last = ended.wait(_PROGRESS_SECONDS)
                pending = [path for path in pending if not os.path.exists(path)]
                if done := len(targets) - len(pending) - bar.n:
                    bar.update(done)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# --- the job ----------------------------------------------------------------------------------


def form_buckets(sources: Sequence[ingest.Source], num_buckets: int) -> list[Bucket]:
    """Groups sources by split and key hash; empty buckets do not exist."""
    groups: dict[str, list[ingest.Source]] = {}
    for source in sorted(sources, key=lambda s: s.source_id):
        bucket = f"{source.split}-{records.key_hash(source.source_id) % num_buckets:05d}"
        groups.setdefault(bucket, []).append(source)
    return sorted(groups.items())


def build(
    root: str, data: str, config: PrepConfig, beam_args: Sequence[str] = ()
) -> dict[str, Any]:
    """Runs the whole job; returns the manifest. A corpus that is already complete is kept.

    Args:
      root: folder of input videos.
      data: corpus folder to write.
      config: see PrepConfig.
      beam_args: Beam options, e.g. ["--direct_running_mode=multi_processing"].

    Raises:
      records.CorpusError: no input is usable, the folder holds another corpus or is in use, or
        the counts do not add up.
      FileNotFoundError: `root` is no folder.
    """
    inputs = ingest.list_inputs(root)
    if not inputs:
        raise records.CorpusError(f"{root} holds no video (told by extension and by content)")
    stamps = {path: ingest.file_stamp(root, path) for path in inputs}
    identity = {"config": config.fingerprint(), "inputs": _input_identity(stamps)}
    work = os.path.join(data, "work")
    with records.exclusive(data):
        manifest = _complete(data, work, identity, len(inputs))
        if manifest is not None:
            return manifest
        os.makedirs(work, exist_ok=True)
        for folder in (data, work):
            records.remove_temporary(folder)
        paths = [os.fsencode(path) for path in inputs]  # not every name is text
        targets = [_probe_path(work, path) for path in inputs]
        _run("probe", paths, targets, _ProbeFn(root, work, config), beam_args)
        probed: dict[str, VideoInfo] = {}
        rejected: list[ingest.Rejected] = []
        for path, target in zip(inputs, targets, strict=True):
            result = records.read_json(target)
            if "info" in result:
                probed[path] = VideoInfo(**result["info"])
            else:
                rejected.append(ingest.Rejected(**result["rejected"]))
        sources = ingest.split_sources(root, probed, stamps, config.heldout_fraction)
        buckets = form_buckets(sources, config.num_buckets)
        logging.info("preparing %d sources in %d buckets", len(sources), len(buckets))
        targets = [_summary_path(work, name) for name, _ in buckets]
        if buckets:
            _run("prepare", buckets, targets, _BucketFn(root, work, config), beam_args)
        return _finish(data, work, len(inputs), rejected, buckets, config, identity)


def _complete(
    data: str, work: str, identity: Mapping[str, str], num_inputs: int
) -> dict[str, Any] | None:
    """The manifest of a corpus that is already there; CorpusError if it is another one."""
    path = os.path.join(data, MANIFEST)
    if not os.path.exists(path):
        return None
    manifest = records.read_json(path)
    if manifest["identity"] != identity:
        then = manifest["counts"]["inputs"]
        what = {
            "config": "other settings",
            "inputs": f"other input files ({then} then, {num_inputs} now)",
        }
        changed = [what[k] for k in what if manifest["identity"][k] != identity[k]]
        raise records.CorpusError(
            f"{data} holds a corpus made from {' and '.join(changed)}: choose another --data, or"
            " delete that folder to prepare it anew"
        )
    records.check_present(data, manifest["datasets"])
    shutil.rmtree(work, ignore_errors=True)  # of a job killed at its very end
    logging.info("%s is complete: nothing to prepare", data)
    return manifest


def _finish(
    data: str,
    work: str,
    num_inputs: int,
    rejected: Sequence[ingest.Rejected],
    buckets: Sequence[Bucket],
    config: PrepConfig,
    identity: Mapping[str, str],
) -> dict[str, Any]:
    """Publishes the buckets' shards and writes table, quarantine and manifest, in this order."""
    shards: dict[str, dict[str, list[str]]] = {kind: {} for kind in _KINDS}
    table: list[dict[str, Any]] = []
    rejected = list(rejected)
    for bucket in buckets:
        summary = _summary(work, bucket, config)
        if summary is None:
            raise records.CorpusError(f"bucket {bucket[0]} in {work} is incomplete: run again")
        rejected.extend(ingest.Rejected(**r) for r in summary["rejected"])
        table.extend(summary["rows"])
        if summary["rows"]:
            for kind, splits in shards.items():
                split = bucket[1][0].split
                splits.setdefault(split, []).append(_bucket_path(work, bucket[0], kind))
    _write_quarantine(data, rejected)
    usable = {row["source_id"] for row in table}
    if num_inputs != len(usable) + len(rejected):
        raise records.CorpusError(
            f"{num_inputs} inputs, but {len(usable)} with records and {len(rejected)} quarantined:"
            f" delete {work} and run again"
        )
    if not usable:
        raise records.CorpusError(f"none of {num_inputs} inputs is usable: see {data}/{QUARANTINE}")
    entries = {kind: records.publish(data, kind, kind, splits) for kind, splits in shards.items()}
    records.write_json(os.path.join(data, VIDEO_TABLE), table)
    manifest = {
        "identity": dict(identity),
        "seed": config.seed,
        "settings": dataclasses.asdict(config),
        "counts": {
            "inputs": num_inputs,
            "sources": len(usable),
            "quarantined": len(rejected),
            "videos": len(table),
        },
        "datasets": entries,
        "video_table_sha256": records.file_sha256(os.path.join(data, VIDEO_TABLE)),
    }
    records.write_json(os.path.join(data, MANIFEST), manifest)
    shutil.rmtree(work)
    return manifest


def _input_identity(stamps: Mapping[str, tuple[int, int]]) -> str:
    """Names and sizes; times of change would refuse a folder that was merely copied."""
    return f"{records.key_hash(repr([(path, stamps[path][0]) for path in stamps])):016x}"


def _write_quarantine(data: str, rejected: Sequence[ingest.Rejected]) -> None:
    with records.written(os.path.join(data, QUARANTINE), newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["path", "stage", "reason"])
        for row in sorted(rejected, key=lambda r: r.path):
            writer.writerow([ingest.printable(row.path), row.stage, ingest.printable(row.reason)])


def main(argv: Sequence[str]) -> None:
    """Command line; options that are not ours go to Beam."""
    args = flags.FLAGS
    try:
        config = PrepConfig.from_dict(args.config.prep.to_dict())
        manifest = build(args.videos, args.data, config, argv[1:])
    except (records.CorpusError, FileNotFoundError) as error:
        sys.exit(f"data_prep.build: {error}")
    logging.info("corpus %s: %s", args.data, manifest["counts"])


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Run configuration.")
    flags.DEFINE_string("videos", None, "Folder of input videos.")
    flags.DEFINE_string("data", None, "Corpus folder to write.")
    flags.mark_flags_as_required(["config", "videos", "data"])
    app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
