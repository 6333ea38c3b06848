"""The preparation job: a folder of videos in, a verified corpus of shards out.

    python -m data_prep.build --config configs/quickstart.py --videos DIR --data DIR \
        [--runner=FnApiRunner] [any Beam option]

Two Beam pipelines of one leaf each: probe every input, then build one bucket of sources at a time.
A bucket's shards are written where they are made, under a temporary name, with a JSON summary
last; a rerun skips buckets whose summary and bytes are intact, so retries and restarts are
harmless on any runner and no frame crosses a shuffle. The manifest is written last of all.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from absl import app, flags, logging
from apache_beam.options.pipeline_options import PipelineOptions
from ml_collections import config_flags

from data_prep import ingest
from data_prep.config import PrepConfig
from data_prep.segments import prepare_source
from vqa_jax import records
from vqa_jax.frames import MediaError, VideoInfo

MANIFEST = "manifest.json"
VIDEO_TABLE = "videos.json"
QUARANTINE = "quarantine.csv"
DEFAULT_RUNNER = "FnApiRunner"  # in process; DirectRunner would download a binary first

Bucket = tuple[str, list[ingest.Source]]


def _bucket_path(work: str, bucket: str, kind: str) -> str:
    return os.path.join(work, f"{bucket}.{kind}.array_record")


def _finished_summary(work: str, bucket: str, fingerprint: str) -> dict[str, Any] | None:
    path = os.path.join(work, f"{bucket}.json")
    if not os.path.exists(path):
        return None
    summary = records.read_json(path)
    if summary["fingerprint"] != fingerprint:
        return None
    for kind in ("vqa_videos", "vqa_clips"):
        if summary["rows"] and records.finished_shard(_bucket_path(work, bucket, kind)) is None:
            return None
    return summary


def build_bucket(bucket: Bucket, root: str, work: str, config: PrepConfig) -> dict[str, Any]:
    """Writes the video and clip shards of one bucket of sources; idempotent.

    Returns:
      The summary that is also written as JSON: {"fingerprint", "sources", "rows", "rejected"}.
    """
    name, sources = bucket
    fingerprint = _work_fingerprint(config, sources)
    done = _finished_summary(work, name, fingerprint)
    if done is not None:
        return done
    rows: list[dict[str, Any]] = []
    rejected: list[ingest.Rejected] = []
    with (
        records.ShardWriter(_bucket_path(work, name, "vqa_videos"), "vqa_videos") as videos,
        records.ShardWriter(_bucket_path(work, name, "vqa_clips"), "vqa_clips") as clips,
    ):
        for source in sources:
            try:
                # A source is all or nothing: half of its segments would be a silent gap.
                prepared = list(prepare_source(root, source, config))
            except MediaError as e:
                rejected.append(ingest.Rejected(source.path, e.stage, e.reason))
                continue
            for video in prepared:
                videos.write(video.video)
                clips.write({"video_id": video.video["video_id"], "clips": video.clips})
                rows.append(video.row)
    videos.finish()
    clips.finish()
    summary = {
        "fingerprint": fingerprint,
        "sources": len(sources),
        "rows": rows,
        "rejected": [dataclasses.asdict(r) for r in rejected],
    }
    records.write_json(os.path.join(work, f"{name}.json"), summary)
    return summary


def _work_fingerprint(config: PrepConfig, sources: Sequence[ingest.Source]) -> str:
    return f"{config.fingerprint()}:{records.key_hash(repr(list(sources))):016x}"


class _ProbeFn(beam.DoFn):
    def __init__(self, root: str, work: str):
        self._root, self._work = root, work

    def process(self, relative_path: str) -> Iterator[str]:
        target = _probe_path(self._work, relative_path)
        if not os.path.exists(target):
            result = ingest.probe_input(self._root, relative_path)
            kind = "info" if isinstance(result, VideoInfo) else "rejected"
            records.write_json(target, {kind: dataclasses.asdict(result)})
        yield relative_path


class _BucketFn(beam.DoFn):
    def __init__(self, root: str, work: str, config: PrepConfig):
        self._root, self._work, self._config = root, work, config

    def process(self, bucket: Bucket) -> Iterator[str]:
        summary = build_bucket(bucket, self._root, self._work, self._config)
        logging.info(
            "%s: %d videos from %d sources", bucket[0], len(summary["rows"]), len(bucket[1])
        )
        yield bucket[0]


def _probe_path(work: str, relative_path: str) -> str:
    return os.path.join(work, f"probe-{ingest.source_id(relative_path)}.json")


def _run(items: Sequence[Any], fn: beam.DoFn, name: str, beam_args: Sequence[str]) -> None:
    if not any(a.startswith("--runner") for a in beam_args):
        beam_args = [*beam_args, f"--runner={DEFAULT_RUNNER}"]
    with beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
        # Reshuffle: without it the multi-processing runner keeps all items in one worker.
        _ = pipeline | beam.Create(list(items)) | beam.Reshuffle() | name >> beam.ParDo(fn)


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
      records.CorpusError: no input is usable, or the counts do not add up.
    """
    inputs = ingest.list_inputs(root)
    identity = {"config": config.fingerprint(), "inputs": _input_identity(root, inputs)}
    manifest_path = os.path.join(data, MANIFEST)
    if os.path.exists(manifest_path):
        manifest = records.read_json(manifest_path)
        if manifest["identity"] == identity:
            logging.info("%s is complete: nothing to prepare", data)
            return manifest
        raise records.CorpusError(
            f"{data} holds a corpus of other inputs or settings: choose another --data or delete it"
        )
    work = os.path.join(data, "work")
    os.makedirs(work, exist_ok=True)
    _run(inputs, _ProbeFn(root, work), "Probe", beam_args)
    probed, rejected = [], []
    for path in inputs:
        result = records.read_json(_probe_path(work, path))
        if "info" in result:
            probed.append((path, VideoInfo(**result["info"])))
        else:
            rejected.append(ingest.Rejected(**result["rejected"]))
    if not probed:
        _write_quarantine(data, rejected)
        raise records.CorpusError(f"no usable video in {root}: see {data}/{QUARANTINE}")
    sources = ingest.split_sources(root, probed, config.heldout_fraction)
    buckets = form_buckets(sources, config.num_buckets)
    logging.info("preparing %d sources in %d buckets", len(sources), len(buckets))
    _run(buckets, _BucketFn(root, work, config), "Build", beam_args)
    return _finish(data, work, inputs, rejected, buckets, config, identity)


def _finish(data, work, inputs, rejected, buckets, config, identity) -> dict[str, Any]:
    shards: dict[str, dict[str, list[str]]] = {"vqa_videos": {}, "vqa_clips": {}}
    table: list[dict[str, Any]] = []
    for name, sources in buckets:
        summary = _finished_summary(work, name, _work_fingerprint(config, sources))
        if summary is None:
            raise records.CorpusError(f"bucket {name} in {work} is incomplete: run again")
        rejected.extend(ingest.Rejected(**r) for r in summary["rejected"])
        table.extend(summary["rows"])
        if summary["rows"]:
            for kind, splits in shards.items():
                splits.setdefault(name.split("-")[0], []).append(_bucket_path(work, name, kind))
    usable = {row["path"] for row in table}
    if len(inputs) != len(usable) + len(rejected):
        raise records.CorpusError(
            f"{len(inputs)} inputs, but {len(usable)} with records and {len(rejected)} quarantined"
        )
    if not usable:
        _write_quarantine(data, rejected)
        raise records.CorpusError(f"no decodable video: see {data}/{QUARANTINE}")
    entries = {kind: records.publish(data, kind, kind, splits) for kind, splits in shards.items()}
    _write_quarantine(data, rejected)
    records.write_json(os.path.join(data, VIDEO_TABLE), table)
    manifest = {
        "identity": identity,
        "seed": config.seed,
        "settings": dataclasses.asdict(config),
        "counts": {
            "inputs": len(inputs),
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


def _input_identity(root: str, inputs: Sequence[str]) -> str:
    sizes = [(p, os.path.getsize(os.path.join(root, p))) for p in inputs]
    return f"{records.key_hash(repr(sizes)):016x}"


def _write_quarantine(data: str, rejected: Sequence[ingest.Rejected]) -> None:
    path = os.path.join(data, QUARANTINE)
    with open(path + ".tmp", "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["path", "stage", "reason"])
        writer.writerows(dataclasses.astuple(r) for r in sorted(rejected, key=lambda r: r.path))
    os.replace(path + ".tmp", path)


_CONFIG = config_flags.DEFINE_config_file("config", None, "Run configuration.")
_VIDEOS = flags.DEFINE_string("videos", None, "Folder of input videos.")
_DATA = flags.DEFINE_string("data", None, "Corpus folder to write.")


def main(argv: Sequence[str]) -> None:
    """Command line; options that are not ours go to Beam."""
    config = PrepConfig.from_dict(_CONFIG.value.prep.to_dict())
    manifest = build(_VIDEOS.value, _DATA.value, config, argv[1:])
    logging.info("corpus %s: %s", _DATA.value, manifest["counts"])


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "videos", "data"])
    app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
