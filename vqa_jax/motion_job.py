"""Motion features of a whole corpus: clip shards in, motion shards out, resumable by shard."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from vqa_jax import records
from vqa_jax.frames import Preprocess
from vqa_jax.motion import MotionExtractor

MANIFEST = "motion.json"
_VIDEOS_AT_ONCE = 16


def _features(shard: str, extractor: MotionExtractor, fingerprint: str) -> Iterator[dict[str, Any]]:
    """Motion records of a clip shard, several videos in one call of the extractor."""
    for videos in _chunks(records.shard_records(shard, "vqa_clips")):
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


def run(data: str, extractor: MotionExtractor) -> int:
    """Writes the motion dataset of a corpus; shards that are done are kept.

    Args:
      data: corpus folder with `vqa_clips`.
      extractor: the fast pathway.

    Returns:
      Number of videos with features.
    """
    corpus = records.read_json(os.path.join(data, records.MANIFEST))
    fingerprint = extractor.fingerprint(Preprocess(**corpus["settings"]["preprocess"]))
    identity = {"extractor": fingerprint, "corpus": corpus["video_table_sha256"]}
    manifest = os.path.join(data, MANIFEST)
    work = os.path.join(data, f"work_motion_{records.key_hash(str(identity)):016x}")
    if os.path.exists(manifest):
        found = records.read_json(manifest)
        if found["identity"] == identity:
            logging.info("motion features of %s are complete", data)
            shutil.rmtree(work, ignore_errors=True)  # left by a kill after the manifest
            return int(found["videos"])
        # Before the old features go: a manifest must never name features that are not there.
        os.remove(manifest)
    os.makedirs(work, exist_ok=True)
    published: dict[str, list[str]] = {}
    count = 0
    shards = records.dataset_shards(data, "vqa_clips")
    for shard in tqdm(shards, desc="motion", unit="shard"):
        split = os.path.basename(shard).split("-")[1].split(".")[0]
        target = os.path.join(work, os.path.basename(shard))
        done = records.finished_shard(target)
        if done is None:
            done = records.write_shard(
                target, "vqa_motion", _features(shard, extractor, fingerprint)
            )
        count += done.records if done else 0
        published.setdefault(split, []).append(target)
    entry = records.publish(data, "vqa_motion", "vqa_motion", published)
    records.write_json(manifest, {"identity": identity, "videos": count, "dataset": entry})
    shutil.rmtree(work)
    return count
