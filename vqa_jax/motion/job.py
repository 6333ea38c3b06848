"""Motion features of a whole corpus, as a `corpus.sidecar_job`; clips may go once they exist."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from absl import logging

from vqa_jax.corpus import shards as records
from vqa_jax.corpus import store, video_table
from vqa_jax.corpus.sidecar_job import Outcome, Records, Sidecar, SidecarJob
from vqa_jax.jobs import files, ranges
from vqa_jax.media import view
from vqa_jax.motion.extractor import MotionExtractor

MANIFEST = "motion.json"
_VIDEOS_AT_ONCE = 16


def run(
    data: str,
    extractor: MotionExtractor,
    *,
    process: int = 0,
    processes: int = 1,
    delete_clips: bool = False,
) -> Outcome:
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
    fingerprint = extractor.fingerprint(records.read_view(data))
    corpus = files.read_json(os.path.join(data, records.MANIFEST))
    motionless = _motionless(data, corpus["settings"])

    def features(videos: Records) -> Records:
        return _features(videos, extractor, fingerprint, motionless)

    identity = {"extractor": fingerprint}
    sizes = ("clips", "features")
    sidecar = Sidecar("motion", "vqa_clips", "vqa_motion", identity, features, sizes)
    job = SidecarJob(data, sidecar)
    if not job.is_published() and not os.path.isdir(records.builder_dir(data, "vqa_clips")):
        raise files.CorpusError(
            f"{data}: the clips were deleted, and there are no features of extractor"
            f" {fingerprint}: prepare the corpus again"
        )
    outcome, manifest = job.run(share)
    if delete_clips and manifest is not None:
        with ranges.alone_in(job.work):
            _delete_clips(job, manifest)
            shutil.rmtree(job.work, ignore_errors=True)
    return outcome


def _motionless(data: str, settings: Mapping[str, Any]) -> frozenset[str]:
    """Keys of the pictures whose motion is zero by rule (method 4); the others stand for a second.

    A student that saw pictures without motion alone would take what does not move in a video for
    a flaw. Which is which follows from the key.
    """
    if not settings.get("stills"):
        return frozenset()
    standing = settings.get("standing_stills", 0.0)
    fields = ("video_id", "path", "num_frames")
    table = video_table.read_video_table(data, fields)
    rows = zip(*(table.column(name) for name in fields), strict=True)
    pictures = (key for key, path, frames in rows if view.is_image(path, int(frames)))
    return frozenset(
        key for key in pictures if files.key_hash("standing:" + key) >= standing * 2**64
    )


def _features(
    clips: Records, extractor: MotionExtractor, fingerprint: str, motionless: Container[str]
) -> Records:
    """Motion records of clip records, several videos in one call of the extractor."""
    while videos := list(itertools.islice(clips, _VIDEOS_AT_ONCE)):
        moving = [v["clips"] for v in videos if v["video_id"] not in motionless]
        computed = iter(extractor(np.concatenate(moving)) if moving else ())
        for video in videos:
            count = len(video["clips"])
            part = (
                np.zeros((count, extractor.motion_dim), np.float32)
                if video["video_id"] in motionless
                else np.stack(list(itertools.islice(computed, count)))
            )
            yield {
                "video_id": video["video_id"],
                "extractor": fingerprint,
                "features": part,
            }


def _delete_clips(job: SidecarJob, manifest: Mapping[str, Any]) -> None:
    """Reads the published features back and, if they are all there, removes the clips."""
    data = job.data
    clips = records.builder_dir(data, "vqa_clips")
    if not os.path.isdir(clips):
        return
    folder = records.builder_dir(data, "vqa_motion")
    rows = [row for _, rows in sorted(manifest["dataset"]["splits"].items()) for row in rows]
    for task, row in zip(job.tasks, rows, strict=True):
        path = os.path.join(folder, row["name"])
        shard = records.finished_shard(path)
        wanted = files.read_json(task.source + ".json", {"ids": [str]})["ids"]
        if shard is None or list(shard.ids) != wanted or not _is_sound(path, wanted, manifest):
            raise files.CorpusError(
                f"{path} does not hold the features of {task.source}: delete {data}/{MANIFEST} and"
                " run the motion command again; the clips are kept"
            )
    # Renamed first: half a folder of clips would look like a damaged corpus.
    os.replace(os.path.dirname(clips), os.path.join(job.work, "deleted_clips"))
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
