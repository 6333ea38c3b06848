"""Pairs of a prepared corpus, with access to their videos by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vqa_jax import frames
from vqa_jax.files import CorpusError
from vqa_jax.records import RecordStore


class VideoStore:
    """Videos of a corpus with their motion features, by key."""

    def __init__(self, root: str, extractor: str):
        """Opens the shards; `extractor` is the fingerprint that motion records must carry."""
        self._root, self._extractor = root, extractor
        self._videos = RecordStore(root, "vqa_videos")
        self._motion = RecordStore(root, "vqa_motion")

    def __getitem__(self, video_id: str) -> tuple[dict[str, Any], np.ndarray]:
        """Video record and motion features [M, D] of a key; a zero [1, D] for images (METHOD 4).

        Raises:
          CorpusError: the motion record is missing or of another extractor.
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
        video, features = self._videos[video_id], motion["features"]
        if frames.is_image(video["path"], int(video["num_frames"])):
            features = np.zeros_like(features[:1])
        return video, features

    def place(self, video_id: str) -> tuple[int, int]:
        """(number of the shard, offset in it) of a video.

        Raises:
          CorpusError: it has no record.
        """
        if video_id not in self._videos:
            raise CorpusError(
                f"{self._root}: no record of {video_id}, which videos.parquet lists: run"
                " `python -m data_prep verify`"
            )
        return self._videos.place(video_id)


class PairCorpus:
    """Pairs of one split with access to their videos."""

    def __init__(self, root: str, pair_datasets: Sequence[str], split: str, extractor: str):
        """Opens the datasets.

        Args:
          root: corpus folder.
          pair_datasets: names of pair datasets; later iterations add theirs.
          split: "train" or "heldout".
          extractor: fingerprint that the motion records must carry.
        """
        self.root = root
        self.videos = VideoStore(root, extractor)
        self.pairs: list[dict[str, Any]] = []
        for name in pair_datasets:
            self.pairs.extend(RecordStore(root, name, "vqa_pairs", split).records())
