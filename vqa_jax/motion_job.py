"""Motion features of a whole corpus: clip shards in, motion shards out, resumable by shard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

from absl import logging
from tqdm import tqdm

from vqa_jax import records
from vqa_jax.motion import Extractor

MANIFEST = "motion.json"


def _features(shard: str, extractor: Extractor) -> Iterator[dict[str, Any]]:
    for clips in records.shard_records(shard, "vqa_clips"):
        yield {
            "video_id": clips["video_id"],
            "extractor": extractor.fingerprint,
            "features": extractor(clips["clips"]),
        }


def run(data: str, extractor: Extractor) -> int:
    """Writes the motion dataset of a corpus; shards that are done are kept.

    Args:
      data: corpus folder with `vqa_clips`.
      extractor: the fast pathway.

    Returns:
      Number of videos with features.
    """
    manifest = os.path.join(data, MANIFEST)
    if (
        os.path.exists(manifest)
        and (found := records.read_json(manifest))
        and (found["extractor"] == extractor.fingerprint)
    ):
        logging.info("motion features of %s are complete", data)
        return int(found["videos"])
    work = os.path.join(data, f"work_motion_{extractor.fingerprint}")
    os.makedirs(work, exist_ok=True)
    published: dict[str, list[str]] = {}
    count = 0
    shards = records.dataset_shards(data, "vqa_clips")
    for shard in tqdm(shards, desc="motion", unit="shard"):
        split = os.path.basename(shard).split("-")[1].split(".")[0]
        target = os.path.join(work, os.path.basename(shard))
        done = records.finished_shard(target)
        if done is None:
            done = records.write_shard(target, "vqa_motion", _features(shard, extractor))
        count += done.records if done else 0
        published.setdefault(split, []).append(target)
    shutil.rmtree(os.path.join(data, "vqa_motion"), ignore_errors=True)
    entry = records.publish(data, "vqa_motion", "vqa_motion", published)
    records.write_json(
        manifest, {"extractor": extractor.fingerprint, "videos": count, "dataset": entry}
    )
    shutil.rmtree(work)
    return count
