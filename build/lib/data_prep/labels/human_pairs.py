"""Labels pairs by human scores, for fine-tuning; they become the corpus's pairs of iteration 1.

    python -m data_prep human-pairs --config finetune --data DIR --mos NAME=FILE

Method 3.1 with people in the teachers' place: D = MOS_B - MOS_A against s_D = sqrt(s_A^2 + s_B^2).
s is the standard deviation of a *mean* opinion: that of the ratings over the square root of their
number, where the table tells. The deviation of single ratings, four to six times as wide, would
call nearly every pair similar. Where the table has no deviation, s_D is a share (`margin`) of the
MOS's standard deviation over the set. Pairs are made inside a set, whose scores share a scale.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from data_prep.prepare.config import HumanConfig
from vqa_jax.benchmarks import sets
from vqa_jax.benchmarks.labels import Labels, label_files, read_labels
from vqa_jax.benchmarks.sets import Benchmark
from vqa_jax.corpus import pair_shards
from vqa_jax.corpus.shards import MANIFEST
from vqa_jax.corpus.video_table import VideoTable, read_video_table, table_sha256
from vqa_jax.jobs import files
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.pairs.table import HUMAN, PairTable
from vqa_jax.pairs.votes import sample_scored_pairs

SPLITS = ("train", "heldout")


def opinion_std(labels: Labels, margin: float, ratings: int) -> np.ndarray:
    """Standard deviation of each mean opinion, in MOS units: float64 [N], above 0 unless all agree.

    Where a deviation is unknown, or 0 (one rating), it is such that two of them give s_D = `margin`
    times the MOS's standard deviation over the set.
    """
    count = np.where(np.isfinite(labels.ratings), labels.ratings, ratings)
    unknown = margin * labels.mos.std() / np.sqrt(2)
    return np.where(labels.std > 0, labels.std / np.sqrt(count), unknown)


def label_pairs(data: str, config: HumanConfig, label_specs: Sequence[str]) -> dict[str, Any]:
    """Draws, labels and writes pairs of both splits; returns their manifest.

    Args:
      data: corpus folder that `data_prep.prepare.job` has finished.
      config: see HumanConfig.
      label_specs: label files, see `benchmarks.labels.label_files`.

    Returns:
      The manifest of `pair_shards.write` with `human`: set -> {"videos", "deviation_known"}.

    Raises:
      files.CorpusError: the corpus is unfinished or has other pairs, or no training pair can be
        drawn.
      LabelsError: a label file cannot be read.
    """
    corpus = files.read_json(os.path.join(data, MANIFEST), {"video_table_sha256": str})
    paths = label_files(label_specs)
    identity = {
        "corpus": corpus["video_table_sha256"],
        "settings": dataclasses.asdict(config),
        "human": {name: files.file_sha256(path) for name, path in sorted(paths.items())},
    }
    done = pair_shards.finished(data, 1, identity)
    if done is not None:
        logging.info("pairs of %s are complete", data)
        return done
    if table_sha256(data) != corpus["video_table_sha256"]:
        raise files.CorpusError(f"the video table was changed: delete {data} and prepare it anew")
    table = read_video_table(data).where(level=0)
    facts: dict[str, Any] = {}
    drawn: dict[str, list[PairTable]] = {split: [] for split in SPLITS}
    for spec, path in sorted(paths.items()):
        benchmark = sets.known_or_own(spec)
        labels = read_labels(path)
        facts[benchmark.name] = _draw(table, benchmark, labels, config, drawn)
    splits = {split: PairTable.concatenate(tables) for split, tables in drawn.items()}
    if not splits["train"]:
        raise files.CorpusError(
            f"{data}: no training pair can be drawn: do the labels name videos of this corpus?"
        )
    return pair_shards.write(data, 1, splits, config.num_shards, identity, {"human": facts})


def _draw(
    table: VideoTable,
    benchmark: Benchmark,
    labels: Labels,
    config: HumanConfig,
    drawn: Mapping[str, list[PairTable]],
) -> dict[str, int]:
    """Adds a set's pairs to `drawn`, split by split; returns facts about the set."""
    names, place = np.unique(table.column("path").astype(str), return_inverse=True)
    match = sets.match(benchmark, labels.names, names.tolist())
    row_of = np.full(len(names), -1)
    for row, k in enumerate(match.found):
        if k is not None:
            row_of[k] = row
    rows = row_of[place]
    std = opinion_std(labels, config.margin, config.ratings)
    ids, split = table.column("video_id"), table.column("split")
    for name, tables in drawn.items():
        mine = np.flatnonzero((rows >= 0) & (split == name))
        pairs = sample_scored_pairs(
            labels.mos[rows[mine]],
            std[rows[mine]],
            ids[mine],
            config.per_label,
            config.seed,
            families=table.column("source_id")[mine],
            source=f"{HUMAN}:{benchmark.name}",
        )
        counts = np.bincount(pairs.label, minlength=len(LEVELS)).tolist()
        logging.info("%s, %s: %s", benchmark.name, name, dict(zip(LEVELS, counts, strict=True)))
        tables.append(pairs)
    used = np.unique(rows[rows >= 0])
    if len(used) < len(labels.names):
        logging.warning(
            "%s: %d of %d labelled videos are not in the corpus",
            benchmark.name,
            len(labels.names) - len(used),
            len(labels.names),
        )
    return {"videos": len(used), "deviation_known": int((labels.std[used] > 0).sum())}
