"""Shards -> padded batches on devices. The batch at step t follows from (corpus, config, t) alone.

`sampling` says which pairs a batch holds. Their videos are read by key, cropped (view "crops"),
laid out as tokens and padded to a bucket of frames and motion clips, by threads that work ahead.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from vqa_jax.corpus.store import PairCorpus
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.devices import sharding
from vqa_jax.jobs.files import CorpusError
from vqa_jax.media import view
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.settings import InputConfig
from vqa_jax.training import examples, sampling
from vqa_jax.training.batch import PromptGeometry

_MAX_THREADS = 16


def index_of(
    corpus: PairCorpus, config: InputConfig, sizes: Sequence[tuple[int, int]]
) -> tuple[sampling.PairIndex, np.ndarray]:
    """What the sampler needs of the pairs, and which ones are of two images, bool [n]."""
    ends = [[pair[side] for pair in corpus.pairs] for side in ("first_id", "second_id")]
    ids, numbers = np.unique(np.array(ends, dtype=np.str_), return_inverse=True)
    first, second = numbers.reshape(2, -1)
    fits, image = _video_facts(corpus, config, ids, sizes)
    bucket = np.maximum(fits[first], fits[second])
    return sampling.PairIndex(first, second, bucket), image[first] & image[second]


def _video_facts(
    corpus: PairCorpus, config: InputConfig, ids: np.ndarray, sizes: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest bucket of each video, int [v], and whether it is an image, bool [v]."""
    known = read_video_table(corpus.root, ["video_id", "path"])
    order = np.argsort(known.column("video_id"))
    found = np.searchsorted(known.column("video_id"), ids, sorter=order)
    rows = order[np.minimum(found, len(order) - 1)]
    lost = ids[known.column("video_id")[rows] != ids]
    if len(lost):
        raise CorpusError(f"{corpus.root}: pairs name {lost[0]}, which its video table lacks")
    paths = known.column("path")[rows]
    may_be_image = np.array([view.is_image(path, 1) for path in paths])
    if len(sizes) == 1 and not may_be_image.any():
        return np.zeros(len(ids), np.int64), may_be_image
    table = read_video_table(corpus.root, ["num_frames", "fps"])
    lengths = [table.column(name)[rows] for name in ("num_frames", "fps")]
    pre = Preprocess.from_json(corpus.videos[str(ids[0])][0]["preprocess"])
    size_of = functools.cache(functools.partial(view.input_size, pre=pre))
    taken = np.array([size_of(*length) for length in zip(*lengths, strict=True)])
    taken[:, 0] = np.minimum(taken[:, 0], config.num_frames)
    image = may_be_image & (lengths[0] == 1)
    taken[image, 1] = 1
    by_axis = [np.searchsorted([s[axis] for s in sizes], taken[:, axis]) for axis in (0, 1)]
    bucket = np.maximum(*by_axis)
    if bucket.max() == len(sizes):
        worst = ids[int(np.argmax(bucket))]
        raise CorpusError(
            f"{corpus.root}: {worst} has more than {sizes[-1][1]} motion clips, the most that the "
            "student takes: prepare the corpus with the student's preprocessing"
        )
    return bucket, image


def training_batches(
    corpus: PairCorpus,
    config: InputConfig,
    geometry: PromptGeometry,
    simulators: Sequence[str],
    num_motion: int,
    rows: slice = slice(None),
    instead: Mapping[int, int] = MappingProxyType({}),
) -> examples.Batches:
    """Endless batches; element t is that of step t, counted from 0.

    Args:
      corpus: pairs and their videos.
      config: how they become batches.
      geometry: prompts and tokens per frame.
      simulators: those that the auxiliary loss knows.
      num_motion: most motion clips of a video.
      rows: of the global batch, those that this process needs; the others are not read.
      instead: steps whose pairs are those of another step.

    Raises:
      CorpusError: the corpus has no pairs of the mix, or its video table does not fit.
    """
    index, images = index_of(corpus, config, config.bucket_sizes(num_motion))
    sampler = sampling.Sampler(
        index,
        examples.sources(corpus, config, images),
        *(config.num_groups, config.group_size, config.swap, config.seed),
    )

    def draw(step: int) -> sampling.Draw:
        return sampler.draw(instead.get(step, step))

    return examples.Batches(corpus, config, geometry, simulators, num_motion, rows, draw)


def ordered_batches(
    corpus: PairCorpus,
    config: InputConfig,
    geometry: PromptGeometry,
    num_motion: int,
    rows: slice = slice(None),
) -> examples.Batches:
    """All pairs in their order, once: every other batch is the one before with all pairs turned.

    Batches are padded to the longest pairs; where the last one lacks pairs the first ones fill it.

    Args:
      corpus, config, geometry, num_motion, rows: as of `training_batches`; pairs stand alone
        (`group_size` 1).
    """
    size, bucket = config.batch_size, len(config.bucket_sizes(num_motion)) - 1

    def draw(step: int) -> sampling.Draw:
        batch, turned = divmod(step, 2)
        pairs = (batch * size + np.arange(size)) % len(corpus.pairs)
        return sampling.Draw(bucket, pairs[:, None], np.full((size, 1), bool(turned)))

    length = 2 * -(-len(corpus.pairs) // size)
    return examples.Batches(
        corpus, config, geometry, (), num_motion, rows, draw, length, fixed=True
    )


def device_batches(
    batches: examples.Batches, mesh: Mesh, size: int | None = None, first_step: int = 0
) -> Iterator[dict[str, jax.Array]]:
    """Batches from a step on, read by threads and put on the devices ahead of their use.

    Args:
      batches: of `training_batches`, with the rows of this process.
      mesh: where they go.
      size: rows of the global batch; None: `batches` hold all of them.
      first_step: step of the first one, from 0.

    Returns:
      An iterator to their end, if there is one; `close()` stops its threads. An error of a step is
      raised when that step is asked for.
    """
    threads = min(_MAX_THREADS, max(2, os.cpu_count() or 1))
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    ready = grain.MapDataset.source(batches)[first_step:].to_iter_dataset(reading)
    placed = ready.map(lambda batch: sharding.put_batch(batch, mesh, size))
    return iter(grain.experimental.ThreadPrefetchIterDataset(placed, prefetch_buffer_size=2))
