"""Motion features of a whole corpus: clip shards in, motion shards out, resumable by shard.

Any number of processes, on one machine or on many that see the same folder, share the work: process
i of n computes every n-th shard. A shard's features appear by rename when they are complete, and
whichever process finds the last of them publishes the dataset, under a lock, manifest last.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from vqa_jax.corpus import shards as records
from vqa_jax.corpus import store
from vqa_jax.jobs import files, ranges
from vqa_jax.jobs.published import Publication
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.motion.extractor import MotionExtractor

MANIFEST = "motion.json"
COST = "motion_cost.json"  # beside the manifest, which must not depend on the clock
_VIDEOS_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class MotionOutcome:
    """What a process found when its share was done.

    Attributes:
      videos: videos with features, of all processes so far.
      missing: clip shards whose features other processes still have to compute; with none
        missing, the dataset is published.
    """

    videos: int
    missing: int


@dataclasses.dataclass(frozen=True)
class _Task:
    """One clip shard and where its features go."""

    split: str
    clips: str
    target: str
    videos: int

    @property
    def last(self) -> str:
        """The file of the features that is written last."""
        return self.target + ".json"


def run(
    data: str,
    extractor: MotionExtractor,
    *,
    process: int = 0,
    processes: int = 1,
    delete_clips: bool = False,
) -> MotionOutcome:
    """Writes the motion dataset of a corpus; shards that are done are kept.

    The result does not depend on how many processes or devices took part.

    Args:
      data: corpus folder with `vqa_clips`.
      extractor: the fast pathway.
      process: number of this process, 0 <= process < processes.
      processes: how many processes share the corpus, each with its own number.
      delete_clips: removes the clips once the published features have been read back and checked.

    Raises:
      files.CorpusError: the corpus is incomplete, its clips are gone before these features
        exist, or the features that were read back are not those of the clips.
    """
    share = ranges.Share(process, processes)
    corpus = files.read_json(os.path.join(data, records.MANIFEST))
    fingerprint = extractor.fingerprint(Preprocess(**corpus["settings"]["preprocess"]))
    identity = {"extractor": fingerprint, "corpus": corpus["video_table_sha256"]}
    work = os.path.join(data, f"work_motion_{files.key_hash(str(identity)):016x}")
    tasks = _tasks(data, corpus, work)
    publication = Publication(
        os.path.join(data, MANIFEST), work, lambda found: found["identity"] == identity
    )
    clips_are_there = os.path.isdir(records.builder_dir(data, "vqa_clips"))
    if publication.read() is None and not clips_are_there:
        raise files.CorpusError(
            f"{data}: the clips were deleted, and there are no features of extractor"
            f" {fingerprint}: prepare the corpus again"
        )
    manifest = publication.found()
    if manifest is None:
        missing = _compute(tasks, extractor, fingerprint, share)
        manifest = publication.publish(missing, lambda: _publish(data, tasks, identity))
    if manifest is None:
        return MotionOutcome(sum(t.videos for t in tasks if os.path.exists(t.last)), missing)
    if delete_clips:
        with ranges.alone_in(work):
            _delete_clips(data, tasks, manifest, work)
            shutil.rmtree(work, ignore_errors=True)
    return MotionOutcome(int(manifest["videos"]), 0)


def _tasks(data: str, corpus: Mapping[str, Any], work: str) -> list[_Task]:
    """One task a clip shard, in the order of the corpus's manifest."""
    folder = records.builder_dir(data, "vqa_clips")
    return [
        _Task(
            split,
            os.path.join(folder, row["name"]),
            os.path.join(work, row["name"]),
            row["records"],
        )
        for split, rows in sorted(corpus["datasets"]["vqa_clips"]["splits"].items())
        for row in rows
    ]


def _compute(
    tasks: list[_Task], extractor: MotionExtractor, fingerprint: str, share: ranges.Share
) -> int:
    """Features of this process's shards; returns how many of all shards are not there."""

    def is_done(k: int) -> bool:
        return records.finished_shard(tasks[k].target) is not None

    def make(k: int, bar: tqdm) -> None:
        start, before = time.monotonic(), bar.n
        features = _features(tasks[k].clips, extractor, fingerprint)
        records.write_shard(tasks[k].target, "vqa_motion", _told(features, bar))
        cost = {"seconds": time.monotonic() - start, "videos": bar.n - before}
        files.write_json(_cost_path(tasks[k]), cost)

    sizes, paths = [t.videos for t in tasks], [t.last for t in tasks]
    return ranges.compute(sizes, paths, make, share, "motion", is_done)


def _features(shard: str, extractor: MotionExtractor, fingerprint: str) -> Iterator[dict[str, Any]]:
    """Motion records of a clip shard, several videos in one call of the extractor."""
    for videos in _chunks(store.shard_records(shard, "vqa_clips")):
        features = extractor(np.concatenate([v["clips"] for v in videos]))
        ends = np.cumsum([len(v["clips"]) for v in videos])[:-1]
        for video, part in zip(videos, np.split(features, ends), strict=True):
            yield {
                "video_id": video["video_id"],
                "extractor": fingerprint,
                "features": part,
            }


def _chunks(videos: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(itertools.islice(videos, _VIDEOS_AT_ONCE)):
        yield chunk


def _told(items: Iterator[dict[str, Any]], bar: tqdm) -> Iterator[dict[str, Any]]:
    for item in items:
        yield item
        bar.update()


def _cost_path(task: _Task) -> str:
    return task.target + ".cost.json"


def _publish(data: str, tasks: list[_Task], identity: Mapping[str, str]) -> dict[str, Any]:
    """Makes the shards of all processes a dataset; returns its manifest."""
    path = os.path.join(data, MANIFEST)
    if os.path.exists(path):
        # Before the old features go: a manifest must never name features that are not there.
        os.remove(path)
    shards: dict[str, list[str]] = {}
    for task in tasks:
        shards.setdefault(task.split, []).append(task.target)
    clip_bytes = sum(os.path.getsize(task.clips) for task in tasks)
    motion_bytes = sum(os.path.getsize(task.target) for task in tasks)
    videos = sum(task.videos for task in tasks)
    # A killed process may have left a shard without its cost: the mean is over those that are told.
    costs = [files.read_json(_cost_path(t)) for t in tasks if os.path.exists(_cost_path(t))]
    timed = sum(cost["videos"] for cost in costs)
    seconds = sum(cost["seconds"] for cost in costs) / timed if timed else None
    manifest = {
        "identity": dict(identity),
        "videos": videos,
        "dataset": records.publish(data, "vqa_motion", "vqa_motion", shards),
        "bytes_per_video": {"clips": clip_bytes / videos, "features": motion_bytes / videos},
    }
    files.write_json(os.path.join(data, COST), {"seconds_per_video": seconds, "timed": timed})
    files.write_sealed(path, manifest)
    logging.info(
        "motion features of %d videos: %.4f s, %.0f bytes of clips and %.0f of features a video",
        videos,
        seconds or 0.0,
        clip_bytes / videos,
        motion_bytes / videos,
    )
    return manifest


def _delete_clips(data: str, tasks: list[_Task], manifest: Mapping[str, Any], work: str) -> None:
    """Reads the published features back and, if they are all there, removes the clips."""
    clips = records.builder_dir(data, "vqa_clips")
    if not os.path.isdir(clips):
        return
    folder = records.builder_dir(data, "vqa_motion")
    rows = [row for _, rows in sorted(manifest["dataset"]["splits"].items()) for row in rows]
    for task, row in zip(tasks, rows, strict=True):
        path = os.path.join(folder, row["name"])
        shard = records.finished_shard(path)
        wanted = files.read_json(task.clips + ".json")["ids"]
        if shard is None or list(shard.ids) != wanted or not _is_sound(path, wanted, manifest):
            raise files.CorpusError(
                f"{path} does not hold the features of {task.clips}: delete {data}/{MANIFEST} and"
                " run the motion command again; the clips are kept"
            )
    # Renamed first: half a folder of clips would look like a damaged corpus.
    os.replace(os.path.dirname(clips), os.path.join(work, "deleted_clips"))
    logging.info("%s: clips of %d videos deleted", data, manifest["videos"])


def _is_sound(path: str, wanted: list[str], manifest: Mapping[str, Any]) -> bool:
    ids = []
    for record in store.shard_records(path, "vqa_motion"):
        features = record["features"]
        if record["extractor"] != manifest["identity"]["extractor"]:
            return False
        if not (features.size and np.isfinite(features).all()):
            return False
        ids.append(record["video_id"])
    return ids == wanted
