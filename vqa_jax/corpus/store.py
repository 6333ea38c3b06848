"""Pairs of a prepared corpus, with access to their videos by key."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_data_source

from vqa_jax.corpus.schemas import deserialize
from vqa_jax.corpus.shards import (
    DATASETS,
    MANIFEST,
    RESTORE,
    builder_dir,
    check_present,
    dataset_shards,
)
from vqa_jax.jobs.contents import sampled_sha256
from vqa_jax.jobs.files import CorpusError, read_json
from vqa_jax.media import view

TOKENS_MANIFEST = "tokens.json"
_SIDECARS = {"motion.json": "motion", TOKENS_MANIFEST: "tokens"}
_AT_ONCE = 64  # records read together; a video's takes a megabyte


class VideoStore:
    """Videos of a corpus with their motion features, by key."""

    def __init__(self, root: str, extractor: str, tower: str = ""):
        """Opens the shards.

        Args:
          root: corpus folder.
          extractor: fingerprint that motion records must carry.
          tower: fingerprint of a frozen tower; its tokens then stand in place of the frames.
        """
        self._root, self._extractor, self._tower = root, extractor, tower
        manifest = os.path.join(root, MANIFEST)
        if os.path.exists(manifest):
            corpus = read_json(manifest, {"datasets": DATASETS})
            check_present(root, corpus["datasets"])
            _check_sidecars(root, corpus.get("video_table_sha256"))
        if tower and not os.path.exists(os.path.join(root, TOKENS_MANIFEST)):
            raise CorpusError(
                f"{root}: no tokens of a frozen tower: run `python -m vqa_jax tokens`"
            )
        self._videos = RecordStore(root, "vqa_tokens" if tower else "vqa_videos")
        self._motion = RecordStore(root, "vqa_motion")

    def __getitem__(self, video_id: str) -> tuple[dict[str, Any], np.ndarray]:
        """Video record and motion features [M, D] of a key; a zero [1, D] for images (method 4).

        Raises:
          CorpusError: a record is missing, or of another extractor or tower.
        """
        if video_id not in self._motion:
            raise CorpusError(
                f"{self._root}: no motion features of {video_id}: run `python -m vqa_jax motion`"
            )
        motion = self._motion[video_id]
        if motion["extractor"] != self._extractor:
            raise CorpusError(
                f"{self._root}: motion features of extractor {motion['extractor']}, the student "
                f"wants {self._extractor}: run `python -m vqa_jax motion` again"
            )
        self._check_listed(video_id)
        video, features = self._videos[video_id], motion["features"]
        if self._tower and video["tower"] != self._tower:
            raise CorpusError(
                f"{self._root}: tokens of tower {video['tower']}, the student wants {self._tower}:"
                " run `python -m vqa_jax tokens` again"
            )
        if view.is_image(video["path"], int(video["num_frames"])):
            features = np.zeros_like(features[:1])
        return video, features

    def digests(self) -> dict[str, str]:
        """What the pictures and motion features are: dataset -> hash of its shards.

        Sidecars tell a shard's hash; sampled blocks of the shard itself tell one put in its place.
        """
        return {"videos": self._videos.digest(), "motion": self._motion.digest()}

    def place(self, video_id: str) -> tuple[int, int]:
        """(number of the shard, offset in it) of a video.

        Raises:
          CorpusError: it has no record.
        """
        self._check_listed(video_id)
        return self._videos.place(video_id)

    def _check_listed(self, video_id: str) -> None:
        if video_id not in self._videos:
            raise CorpusError(
                f"{self._root}: no record of {video_id}, which videos.parquet lists: run"
                " `python -m data_prep verify`"
            )


def _check_sidecars(root: str, corpus: str | None) -> None:
    """Raises CorpusError if what networks made of a corpus was made of an earlier build of it."""
    for name, command in _SIDECARS.items():
        path = os.path.join(root, name)
        made_of = None
        if os.path.exists(path):
            made_of = read_json(path, {"identity": dict})["identity"].get("corpus")
        if None not in (made_of, corpus) and made_of != corpus:
            raise CorpusError(
                f"{path} tells of another build of this corpus: run `python -m vqa_jax {command}`"
                " again"
            )


class PairCorpus:
    """Pairs of one split with access to their videos."""

    def __init__(
        self,
        root: str,
        pair_datasets: Sequence[str],
        split: str,
        extractor: str,
        tower: str = "",
    ):
        """Opens the datasets.

        Args:
          root: corpus folder.
          pair_datasets: names of pair datasets; later iterations add theirs.
          split: "train" or "heldout".
          extractor, tower: as of `VideoStore`.
        """
        self.root = root
        self.videos = VideoStore(root, extractor, tower)
        self.pairs: list[dict[str, Any]] = []
        for name in pair_datasets:
            self.pairs.extend(RecordStore(root, name, "vqa_pairs", split).records())


def heldout_pairs(root: str, name: str) -> list[dict[str, Any]]:
    """Pairs of a dataset whose sources are held out; relabelled pairs have none."""
    if not any("-heldout." in os.path.basename(path) for path in dataset_shards(root, name)):
        return []
    return list(RecordStore(root, name, "vqa_pairs", "heldout").records())


class RecordStore:
    """Random access by key to all records of a published dataset (any thread)."""

    def __init__(self, root: str, name: str, kind: str | None = None, split: str | None = None):
        self.kind = kind or name
        self._paths = dataset_shards(root, name, split)
        self.ids: list[str] = []
        self._starts: list[int] = []
        self._hashes: list[str] = []
        for path in self._paths:
            told = read_json(path + ".json", {"sha256": str, "ids": [str]})
            self._starts.append(len(self.ids))
            self._hashes.append(told["sha256"])
            self.ids.extend(told["ids"])
        self._position = {key: i for i, key in enumerate(self.ids)}
        self._source = _opened(self._paths)
        if len(self._source) != len(self.ids):
            raise CorpusError(
                f"{builder_dir(root, name)}: sidecars and shards disagree; rerun prep"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, key: str) -> bool:
        return key in self._position

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The record of `key`; KeyError if absent.

        Raises:
          CorpusError: its shard is damaged.
        """
        return self._record(self._position[key])

    def place(self, key: str) -> tuple[int, int]:
        """(number of the shard, offset in it) of `key`; KeyError if absent."""
        position = self._position[key]
        shard = self._shard(position)
        return shard, position - self._starts[shard]

    def records(self) -> Iterator[dict[str, Any]]:
        """All records in stored order; errors as `__getitem__`."""
        for start in range(0, len(self.ids), _AT_ONCE):
            places = range(start, min(start + _AT_ONCE, len(self.ids)))
            try:
                found = self._source.__getitems__(places)  # a sixth of the time of one by one
            except Exception:
                yield from map(self._record, places)  # which names the shard that is damaged
                continue
            for place, data in zip(places, found, strict=True):
                with _naming(self._paths[self._shard(place)]):
                    record = deserialize(self.kind, data)
                yield record

    def digest(self) -> str:
        """Hash of what the shards' sidecars and a few blocks of each tell."""
        names = map(os.path.basename, self._paths)
        told = list(zip(names, self._hashes, map(sampled_sha256, self._paths), strict=True))
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def _shard(self, position: int) -> int:
        return bisect.bisect_right(self._starts, position) - 1

    def _record(self, position: int) -> dict[str, Any]:
        with _naming(self._paths[self._shard(position)]):
            return deserialize(self.kind, self._source[position])


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turns what a reader says of damaged bytes into an error that names the shard."""
    try:
        yield
    except CorpusError:
        raise
    except Exception as error:  # of ArrayRecord (RuntimeError), protobuf or NumPy
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(f"{path} is damaged ({reason}): {RESTORE}") from error


def _opened(paths: Sequence[str]) -> array_record_data_source.ArrayRecordDataSource:
    try:
        return array_record_data_source.ArrayRecordDataSource(paths)
    except Exception:
        for path in paths:  # which one, in the few milliseconds that a header takes
            with _naming(path):
                array_record_data_source.ArrayRecordDataSource([path])
        raise


class ShardReader:
    """The records of one shard, by their places in it (any thread).

    Raises:
      CorpusError: the shard, or a record that is read, is damaged.
    """

    def __init__(self, path: str, kind: str):
        self._path, self._kind = path, kind
        self._source = _opened([path])

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> dict[str, Any]:
        with _naming(self._path):
            return deserialize(self._kind, self._source[number])


def shard_records(path: str, kind: str) -> Iterator[dict[str, Any]]:
    """All records of one shard in stored order, one in memory at a time; errors as ShardReader."""
    reader = ShardReader(path, kind)
    for number in range(len(reader)):
        yield reader[number]
