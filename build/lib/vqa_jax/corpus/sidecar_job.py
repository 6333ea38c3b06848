"""What a frozen network makes of a whole corpus: records in, records out, resumable by shard.

Any number of processes, on one machine or on many that see the same folder, share the work: process
i of n computes every n-th shard. A shard's records appear by rename when they are complete, and
whichever process finds the last of them publishes the dataset, under a lock, manifest last.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import logging
from tqdm import tqdm

from vqa_jax.corpus import shards as records
from vqa_jax.corpus import store
from vqa_jax.jobs import files, ranges
from vqa_jax.jobs.published import Publication

Records = Iterator[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """A dataset that follows from another one, record by record.

    Attributes:
      name: of the work, for people and for its files: NAME.json, NAME_cost.json.
      source: kind of the records that are read.
      kind: kind of the records that are made.
      identity: what the result depends on besides the corpus.
      compute: records of a shard -> records with the same `video_id`s, in order.
      sizes: what the records read and made are called where their bytes a video are told.
    """

    name: str
    source: str
    kind: str
    identity: Mapping[str, str]
    compute: Callable[[Records], Records]
    sizes: tuple[str, str]

    def manifest(self, data: str) -> str:
        """Path of the manifest in a corpus."""
        return os.path.join(data, f"{self.name}.json")

    def cost(self, data: str) -> str:
        """Path of the cost: beside the manifest, which must not depend on the clock."""
        return os.path.join(data, f"{self.name}_cost.json")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a process found when its share was done.

    Attributes:
      videos: videos that have a record, of all processes so far.
      missing: shards that other processes still have to compute; with none missing, the dataset is
        published.
    """

    videos: int
    missing: int


_COST = {"videos": files.is_number, "seconds": files.is_number}


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard that is read, and where its records go."""

    split: str
    source: str
    target: str
    videos: int

    @property
    def last(self) -> str:
        """The file of the records that is written last."""
        return self.target + ".json"


class SidecarJob:
    """The work on one corpus.

    Args:
      data: corpus folder.
      sidecar: what is made.

    Raises:
      files.CorpusError: the corpus is incomplete.
    """

    def __init__(self, data: str, sidecar: Sidecar):
        shape = {"video_table_sha256": str, "datasets": {sidecar.source: records.DATASET}}
        corpus = files.read_json(os.path.join(data, records.MANIFEST), shape)
        self.data, self.sidecar = data, sidecar
        identity = {**sidecar.identity, "corpus": corpus["video_table_sha256"]}
        self._identity = identity
        self.work = os.path.join(data, f"work_{sidecar.name}_{files.key_hash(str(identity)):016x}")
        folder = records.builder_dir(data, sidecar.source)
        self._read = {sidecar.source: corpus["datasets"][sidecar.source]}
        self.tasks = [
            Task(
                split,
                os.path.join(folder, row["name"]),
                os.path.join(self.work, row["name"]),
                row["records"],
            )
            for split, rows in sorted(self._read[sidecar.source]["splits"].items())
            for row in rows
        ]
        self._publication = Publication(
            sidecar.manifest(data), self.work, lambda found: found["identity"] == identity
        )

    def is_published(self) -> bool:
        """Whether there is a manifest of this very work."""
        return self._publication.read() is not None

    def run(self, share: ranges.Share) -> tuple[Outcome, dict[str, Any] | None]:
        """This process's share, and the manifest once all shares are done; what is done is kept.

        Raises:
          files.CorpusError: a shard that is to be read is missing or damaged.
        """
        manifest, missing = self._publication.found(), 0
        if manifest is None:
            records.check_present(self.data, self._read)  # before hours of work
            missing = self._compute(share)
            manifest = self._publication.publish(missing, self._publish)
        if manifest is None:
            done = sum(t.videos for t in self.tasks if os.path.exists(t.last))
            return Outcome(done, missing), None
        return Outcome(int(manifest["videos"]), 0), manifest

    def _compute(self, share: ranges.Share) -> int:
        """Records of this process's shards; returns how many of all shards are not there."""
        tasks, sidecar = self.tasks, self.sidecar

        def is_done(k: int) -> bool:
            return records.finished_shard(tasks[k].target) is not None

        def make(k: int, bar: tqdm) -> None:
            start, before = time.monotonic(), bar.n
            made = sidecar.compute(store.shard_records(tasks[k].source, sidecar.source))
            records.write_shard(tasks[k].target, sidecar.kind, _told(made, bar))
            cost = {"seconds": time.monotonic() - start, "videos": bar.n - before}
            files.write_json(_cost_path(tasks[k]), cost)

        sizes, paths = [t.videos for t in tasks], [t.last for t in tasks]
        return ranges.compute(sizes, paths, make, share, sidecar.name, is_done)

    def _publish(self) -> dict[str, Any]:
        """Makes the shards of all processes a dataset; returns its manifest."""
        sidecar, tasks = self.sidecar, self.tasks
        path = sidecar.manifest(self.data)
        if os.path.exists(path):
            # Before the old records go: a manifest must never name records that are not there.
            os.remove(path)
        shards: dict[str, list[str]] = {}
        for task in tasks:
            shards.setdefault(task.split, []).append(task.target)
        read, made = (
            sum(os.path.getsize(getattr(task, end)) for task in tasks)
            for end in ("source", "target")
        )
        videos = sum(task.videos for task in tasks)
        # A killed process may have left a shard without its cost: the mean is over those told.
        told = [_cost_path(t) for t in tasks if os.path.exists(_cost_path(t))]
        costs = [files.read_json(p, _COST) for p in told]
        timed = sum(cost["videos"] for cost in costs)
        seconds = sum(cost["seconds"] for cost in costs) / timed if timed else None
        sizes = zip(sidecar.sizes, (read / videos, made / videos), strict=True)
        manifest = {
            "identity": dict(self._identity),
            "videos": videos,
            "dataset": records.publish(self.data, sidecar.kind, sidecar.kind, shards),
            "bytes_per_video": dict(sizes),
        }
        cost = {"seconds_per_video": seconds, "timed": timed}
        files.write_json(sidecar.cost(self.data), cost)
        files.write_sealed(path, manifest)
        logging.info(
            "%s of %d videos: %.4f s, %.0f bytes read and %.0f written a video",
            *(sidecar.name, videos, seconds or 0.0, read / videos, made / videos),
        )
        return manifest


def _told(items: Records, bar: tqdm) -> Records:
    for item in items:
        yield item
        bar.update()


def _cost_path(task: Task) -> str:
    return task.target + ".cost.json"
