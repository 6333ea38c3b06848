"""Pairs -> examples -> padded batches, from whatever holds the videos.

Needs neither a reader of shards nor grain: `input_pipeline` gives it a corpus and reads ahead, and
a packed corpus (`launch/gpu_train`) goes the same way.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vqa_jax.jobs.files import CorpusError
from vqa_jax.media.crops import training_frames
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.pairs import levels
from vqa_jax.pairs.table import TEACHERS
from vqa_jax.settings import InputConfig
from vqa_jax.training import sampling
from vqa_jax.training.batch import PromptGeometry, label_group, pad_batch
from vqa_jax.training.grouped_batch import pad_groups

MAX_LEVEL = 5  # most levels that a simulator has (method 3.2)
IMAGES = "image"  # group of the mix


class Videos(Protocol):
    """Key -> (record, motion features), as `corpus.store.VideoStore` gives them."""

    def __getitem__(self, video_id: str) -> tuple[dict[str, Any], np.ndarray]:
        """One video."""


class Corpus(Protocol):
    """Labelled pairs and their videos, as `corpus.store.PairCorpus` holds them.

    Attributes:
      root: where it lies, for errors.
      videos: by key.
      pairs: `first_id`, `second_id`, `label_source`, `level_probs` and `normalized_margin`.
    """

    root: str
    videos: Videos
    pairs: Sequence[Mapping[str, Any]]


def severity_class(video: Mapping[str, Any], simulators: Sequence[str], max_level: int) -> int:
    """Class of the auxiliary task: 0 for a source, else one per (simulator, level), from 1 up.

    -1 (no class) for simulators outside `simulators`: single frames do not show temporal ones.
    """
    if video["level"] == 0:
        return 0
    if video["simulator"] not in simulators:
        return -1
    return 1 + simulators.index(video["simulator"]) * max_level + int(video["level"]) - 1


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches by step: assembles one when it is asked for, in whichever thread asks.

    Attributes:
      corpus, config, geometry, simulators: as of `input_pipeline.training_batches`.
      num_motion: most motion clips of a video.
      rows: those of this process.
      draw: step -> the pairs of its batch.
      length: number of steps.
      fixed: a pair shows the same crops and frames in whatever batch it is.
    """

    corpus: Corpus
    config: InputConfig
    geometry: PromptGeometry
    simulators: Sequence[str]
    num_motion: int
    rows: slice
    draw: Callable[[int], sampling.Draw]
    length: int = sys.maxsize
    fixed: bool = False

    def __len__(self) -> int:
        return self.length

    def first_of_each_bucket(self, start: int, stop: int) -> dict[int, int]:
        """Bucket -> the first step from `start` to before `stop` whose batch is of it."""
        found: dict[int, int] = {}
        for step in range(start, stop):
            found.setdefault(self.draw(step).bucket, step)
            if len(found) == len(self.config.bucket_sizes(self.num_motion)):
                break
        return found

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        draw, config = self.draw(step), self.config
        groups = []
        for row in range(config.num_groups)[self.rows]:
            kept = np.flatnonzero(draw.pairs[row] >= 0)
            pairs, swapped = draw.pairs[row, kept], draw.swapped[row, kept]
            read = functools.cache(self.corpus.videos.__getitem__)  # shared ones: once a group
            groups.append(
                [
                    self._example(
                        *(read, int(pair), bool(turned)),
                        (int(pair), 0, 0) if self.fixed else (step, row, slot),
                    )
                    for slot, (pair, turned) in enumerate(zip(pairs, swapped, strict=True))
                ]
            )
        size = config.bucket_sizes(self.num_motion)[draw.bucket]
        if config.group_size == 1:
            return pad_batch([group[0] for group in groups], self.geometry, *size)
        return pad_groups(groups, self.geometry, *size, config.group_size)

    def _example(
        self,
        read: Callable[[str], tuple[dict[str, Any], np.ndarray]],
        index: int,
        swapped: bool,
        place: tuple[int, int, int],
    ) -> dict[str, Any]:
        """One unpadded example; `read` gives (video, motion) of a key, `place` is (step, row, slot
        in the row's group)."""
        pair, config = self.corpus.pairs[index], self.config
        keys = [pair["first_id"], pair["second_id"]]
        probs = pair["level_probs"]
        if config.soft_votes and label_group(pair["label_source"]) == TEACHERS:
            probs = levels.chances(pair["normalized_margin"])
        if swapped:
            keys, probs = keys[::-1], probs[::-1]
        (first, first_motion), (second, second_motion) = map(read, keys)
        step, row, slot = place
        rngs = tuple(
            np.random.default_rng([config.seed, 3, step, row, *more]) for more in ((), (1 + slot,))
        )
        views = training_frames(
            first["frames"],
            second["frames"],
            Preprocess.from_json(first["preprocess"]),
            config.num_frames,
            config.same_crops,
            rngs,
        )
        return {
            "frames": views,
            "motion": (first_motion, second_motion),
            "level_probs": np.asarray(probs, np.float32),
            "severity": np.array(
                [severity_class(v, self.simulators, MAX_LEVEL) for v in (first, second)],
                np.int32,
            ),
            "group": label_group(pair["label_source"]),
        }


def sources(corpus: Corpus, config: InputConfig, images: np.ndarray) -> list[sampling.Source]:
    """Pairs by the source of their label, images apart, with the weights of the mix."""
    members: dict[str, list[int]] = {}
    for i, (pair, image) in enumerate(zip(corpus.pairs, images, strict=True)):
        name = pair["label_source"]
        members.setdefault(f"{IMAGES}:{name}" if image else name, []).append(i)
    # Simulators with few levels have few pairs: each gets the same share of its group's weight.
    mix = dict(config.mix)
    sizes = collections.Counter(label_group(source) for source in members if source not in mix)
    found = []
    for name in sorted(members):
        group = label_group(name)
        weight = mix[name] if name in mix else mix.get(group, 0) / sizes[group]
        if weight > 0:
            found.append(sampling.Source(np.array(members[name]), weight))
    if not found:
        raise CorpusError(f"{corpus.root}: no pairs of the groups {mix}")
    return found
