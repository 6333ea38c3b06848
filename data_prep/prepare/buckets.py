"""Buckets of sources: what a worker writes in one go, and reports in one summary.

A bucket's shards are written where they are made, under a temporary name, then the rows of its
videos, then a JSON summary, last. A bucket that is done and intact is left alone, so that retries
and restarts are harmless on any runner, and no frame crosses a shuffle.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from data_prep.inputs import listing
from data_prep.inputs.source import Rejected, Source
from data_prep.prepare.beam import run_units
from data_prep.prepare.config import PrepConfig
from data_prep.prepare.probing import isolated
from data_prep.prepare.segments import prepare_source
from data_prep.prepare.versions import CLIPS, Part, PreparedVideo
from data_prep.simulators.encode import EncodeError
from vqa_jax.corpus import schemas, shards
from vqa_jax.jobs import files
from vqa_jax.media import sources as media_sources
from vqa_jax.media.container import MediaError
from vqa_jax.media.probe import VideoInfo

Bucket = tuple[str, list[Source]]


class _PartlyWrittenError(Exception):
    """A source failed after some of its records were written: the shards must be begun again."""


def shard_path(work: str, bucket: str, dataset: str) -> str:
    """A bucket's shard of a dataset."""
    return os.path.join(work, f"{bucket}.{dataset}.array_record")


def _summary_path(work: str, bucket: str) -> str:
    return os.path.join(work, f"{bucket}.json")


def _rows_path(work: str, bucket: str) -> str:
    return os.path.join(work, f"{bucket}.rows.jsonl")


# --- which sources are in it ------------------------------------------------------------------


def num_buckets(num_sources: int, config: PrepConfig) -> int:
    """Hash buckets of a corpus: more sources, more shards, not larger ones."""
    return max(config.num_buckets, -(-num_sources // config.sources_per_bucket))


def write_buckets(work: str, sources: Iterable[Source], count: int) -> list[str]:
    """Groups sources by split and key hash into files; returns the buckets' names, sorted.

    Empty buckets do not exist. The lines, some hundred bytes a source, are in memory at a time.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for source in sources:
        name = f"{source.split}-{files.key_hash(source.source_id) % count:05d}"
        line = json.dumps(dataclasses.asdict(source))
        groups.setdefault(name, []).append((source.source_id, line))
    for name, lines in groups.items():
        with files.written(os.path.join(work, f"{name}.sources.jsonl")) as f:
            f.writelines(line + "\n" for _, line in sorted(lines))
    return sorted(groups)


def read_bucket(work: str, name: str) -> Bucket:
    """The sources of a bucket, by source id."""
    sources = []
    with open(os.path.join(work, f"{name}.sources.jsonl"), encoding="ascii") as f:
        for line in f:
            fields = json.loads(line)
            fields |= {"info": VideoInfo(**fields["info"]), "stamp": tuple(fields["stamp"])}
            sources.append(Source(**fields))
    return name, sources


# --- making it --------------------------------------------------------------------------------


def prepare_buckets(
    names: Sequence[str], work: str, config: PrepConfig, beam_args: Sequence[str]
) -> None:
    """Builds all buckets on a Beam runner."""
    targets = [_summary_path(work, name) for name in names]
    fn = functools.partial(_build_named, work=work, config=config)
    # A summary may be of other sources or settings, or a shard damaged: the worker looks.
    run_units("prepare", names, targets, fn, beam_args, recheck=True)


def _build_named(name: str, work: str, config: PrepConfig) -> None:
    build_bucket(read_bucket(work, name), work, config)


def _fingerprint(config: PrepConfig, sources: Sequence[Source]) -> str:
    return f"{config.fingerprint()}:{files.key_hash(repr(list(sources))):016x}"


def finished_bucket(work: str, bucket: Bucket, config: PrepConfig) -> dict[str, Any] | None:
    """The summary of a bucket made from these very sources and settings, if there is one."""
    path = _summary_path(work, bucket[0])
    if not os.path.exists(path):
        return None
    try:
        summary = files.read_json(path, {"fingerprint": str})
    except files.CorpusError:  # a damaged one: the bucket is made again
        return None
    return summary if summary["fingerprint"] == _fingerprint(config, bucket[1]) else None


def bucket_rows(work: str, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a finished bucket's videos, in stored order."""
    with open(_rows_path(work, name), encoding="ascii") as f:
        for line in f:
            yield json.loads(line)


def build_bucket(bucket: Bucket, work: str, config: PrepConfig) -> dict[str, Any]:
    """Writes the shards of one bucket of sources, one a dataset, and their rows; idempotent.

    Returns:
      The summary that is also written as JSON: {"fingerprint", "sources" and "videos" (numbers of
      those written), "rejected"}.
    """
    name, sources = bucket
    done = finished_bucket(work, bucket, config)
    if done is not None and (
        not done["videos"]
        or all(shards.finished_shard(shard_path(work, name, k)) for k in config.datasets())
    ):
        return done
    rejected: dict[str, Rejected] = {}
    counts = None
    while counts is None:  # once, and once more for each source that fails half-way
        with contextlib.suppress(_PartlyWrittenError):
            counts = _write_shards(bucket, work, config, rejected)
    summary = {
        "fingerprint": _fingerprint(config, sources),
        "sources": counts[0],
        "videos": counts[1],
        "rejected": [dataclasses.asdict(r) for r in rejected.values()],
    }
    files.write_sealed(_summary_path(work, name), summary)
    return summary


def _write_shards(
    bucket: Bucket, work: str, config: PrepConfig, rejected: dict[str, Rejected]
) -> tuple[int, int]:
    """Numbers of sources and videos written. A source is all or nothing: a part would be a gap.

    `rejected` (source id -> why) is skipped and added to; one record is in memory at a time.
    """
    name, sources = bucket
    num_sources = num_videos = 0
    with contextlib.ExitStack() as stack:
        rows = stack.enter_context(files.written(_rows_path(work, name)))
        writers = {
            dataset: stack.enter_context(shards.ShardWriter(shard_path(work, name, dataset), kind))
            for dataset, kind in config.datasets().items()
        }
        for source in sources:
            if source.source_id in rejected:
                continue
            before = num_videos
            try:
                entry = listing.Input(source.location, source.path)
                with media_sources.local(entry.path, config.limit_seconds) as path:
                    _check_unchanged(entry, source, path)
                    made = isolated(config, source.location, prepare_source, path, source, config)
                    for video, coded in gathered(made):
                        writers["vqa_videos"].write(video.video)
                        writers[CLIPS].write_serialized(video.video["video_id"], coded)
                        for dataset, record in video.views.items():
                            writers[dataset].write(record)
                        rows.write(json.dumps(video.row) + "\n")
                        num_videos += 1
            except (MediaError, EncodeError) as e:
                stage, reason = getattr(e, "stage", "simulate"), getattr(e, "reason", str(e))
                rejected[source.source_id] = Rejected(source.path, stage, reason)
                if num_videos > before:
                    raise _PartlyWrittenError from e
            else:
                num_sources += 1
    for writer in writers.values():
        writer.finish()
    return num_sources, num_videos


def _check_unchanged(entry: listing.Input, source: Source, path: str) -> None:
    if os.path.exists(path) and listing.held(entry, path) != source.stamp[2]:
        reason = "has changed while the corpus was made: prepare it anew"
        raise MediaError(source.location, "probe", reason)


def gathered(parts: Iterable[Part]) -> Iterator[tuple[PreparedVideo, bytes]]:
    """Every video, its views whole, with the bytes of its record `vqa_clips`.

    Args:
      parts: what each video has of residuals and coded pictures in pieces, and then the video.
    """
    pieces: dict[str, collections.deque[bytes]] = collections.defaultdict(collections.deque)
    for part in parts:
        if not isinstance(part, PreparedVideo):
            dataset, piece = part
            pieces[dataset].append(piece)
            continue
        for dataset, record in part.views.items():
            record["coded"] = np.frombuffer(b"".join(pieces.pop(dataset)), np.uint8)
        key, residuals = part.video["video_id"], pieces[CLIPS]
        taken = (residuals.popleft() for _ in range(len(residuals)))  # and let go: they are large
        yield part, schemas.serialize_clips(key, part.clip_order, part.clip_shape, taken)
