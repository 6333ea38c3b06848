"""Labels the first iteration's pairs: by the simulators' order and by the teachers' votes.

    python -m data_prep pairs --config quickstart --data DIR [--scores scores.csv ...]

Reads the video table that `data_prep.prepare.job` wrote and writes the dataset `vqa_pairs_1`. Its
manifest tells the teachers' fitted constants and how many scores each is missing.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from data_prep.prepare.config import PairConfig, Wanted
from data_prep.simulators import KINDS, SIMULATORS
from vqa_jax.benchmarks import score_tables
from vqa_jax.corpus import pair_shards, video_table
from vqa_jax.corpus.shards import MANIFEST
from vqa_jax.corpus.video_table import VideoTable, read_video_table, table_path, table_sha256
from vqa_jax.jobs import files
from vqa_jax.pairs.across import sample_across_pairs
from vqa_jax.pairs.known_order import share_in_order
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.pairs.simulators import SimulatedSets, all_simulator_pairs, sample_simulator_pairs
from vqa_jax.pairs.table import TEACHERS, PairTable, generator
from vqa_jax.pairs.votes import sample_teacher_pairs
from vqa_jax.teachers import corpus_scores

ON_SOURCES = f"{TEACHERS}:sources"
"""Label source of votes on undistorted sources alone."""


def label_pairs(data: str, config: PairConfig, score_files: Sequence[str] = ()) -> dict[str, Any]:
    """Draws, labels and writes iteration 1's pairs; returns their manifest.

    Args:
      data: corpus folder that `data_prep.prepare.job` has finished.
      config: see PairConfig.
      score_files: scores of further teachers, see `score_tables.read_scores`.

    Returns:
      The manifest of `pair_shards.write` with `teachers` (see `Votes.facts`), `drawn` (training
      pairs by who labels them and by label, those across sources and on sources by themselves)
      and, where it decides, `teachers_order` (see `known_order.share_in_order`).

    Raises:
      files.CorpusError: the corpus is unfinished or damaged, or no training pair can be drawn.
      score_tables.ScoresError: a score file cannot be read, a teacher in it scores none of the
        videos, or there is no teacher where pairs are to follow some.
      ValueError: numbers of pairs that cannot be; see `table.label_quota`.
    """
    corpus = files.read_json(os.path.join(data, MANIFEST), {"video_table_sha256": str})
    identity = {
        "corpus": corpus["video_table_sha256"],
        "settings": config.as_json(),
        "scores": sorted(map(files.file_sha256, score_files)),
    }
    done = pair_shards.finished(data, 1, identity)
    if done is not None:
        logging.info("pairs of iteration 1 are complete")
        return done
    if table_sha256(data) != corpus["video_table_sha256"]:
        raise files.CorpusError(
            f"{table_path(data)} was changed: delete {data} and prepare it anew"
        )
    table = read_video_table(data)
    usable = table.where(split="train", effective=True)
    if not len(usable):
        raise files.CorpusError(f"{data} has no training video: add inputs, or see quarantine.csv")
    imported = None
    if score_files:
        imported = score_tables.read_scores(score_files, config.lower_is_better)
    united = corpus_scores.united_votes(usable, imported, config.unite)
    wanted = config.teachers_per_label, config.teachers_on_sources, config.across
    if (any(wanted) or config.voted_only) and not united.names:
        raise score_tables.ScoresError(
            f"{data} has no teachers' scores, and pairs are to follow them: give --scores FILE, as "
            "`vqa_jax teachers score` writes it"
        )
    sets = video_table.simulated_sets(table, "train")
    means = _means(usable, united.scores)
    if config.voted_only:
        sets = sets[np.array([key in means for key in sets.mildest], bool)]
    order = share_in_order(sets, means) if config.teachers_order else {}
    votes = _known_votes(usable, united.scores, order, config)
    by_simulators = _simulator_pairs(sets, config)
    across = _across_pairs(sets, means, config)
    by_teachers = _teacher_pairs(usable, votes, config.teachers_per_label, config)
    on_sources = _pairs_of_sources(usable, votes, config)
    train = PairTable.concatenate([by_simulators, across, by_teachers, on_sources])
    if not train:
        raise files.CorpusError(
            f"{data}: no training pair can be drawn: ask for more per label, or add inputs"
        )
    if config.permuted:
        train = _permuted(train, config.seed)
    heldout = all_simulator_pairs(video_table.simulated_sets(table, "heldout"), config.seed)
    drawn = {"simulator": _count(by_simulators), "teachers": _count(by_teachers)}
    if config.across:
        drawn["across"] = _count(across)
    if config.teachers_on_sources:
        drawn["sources"] = _count(on_sources)
    facts = {"teachers": united.facts(), "drawn": drawn}
    if order:
        facts["teachers_order"] = order
    splits = {"train": train, "heldout": heldout}
    return pair_shards.write(data, 1, splits, config.num_shards, identity, facts)


def _permuted(pairs: PairTable, seed: int) -> PairTable:
    """The same pairs, with the labels of others of their label source."""
    order, rng = np.arange(len(pairs)), generator(seed, "permuted labels")
    for source in sorted(set(pairs.label_source)):
        members = np.flatnonzero(pairs.label_source == source)
        order[members] = rng.permutation(members)
    videos = {"first_id": pairs.first_id, "second_id": pairs.second_id}
    return dataclasses.replace(pairs[order], **videos)


def _known_votes(
    videos: VideoTable, scores: np.ndarray, order: Mapping[str, float], config: PairConfig
) -> np.ndarray:
    """Votes without those on versions by simulators that the teachers have out of order."""
    unknown = sorted(name for name, share in order.items() if share < config.teachers_order)
    if unknown:
        logging.info("no votes on versions by %s", ", ".join(unknown))
    if not scores.shape[1]:  # nobody votes, which is one teacher who says nothing
        return np.full((len(videos), 1), np.nan)
    versions = np.isin(np.array(videos.column("simulator"), object), unknown)
    return np.where(versions[:, None], np.nan, scores)


def _pairs_of_sources(videos: VideoTable, scores: np.ndarray, config: PairConfig) -> PairTable:
    """Pairs of undistorted sources that the teachers label."""
    whole = videos.column("level") == 0
    wanted = config.teachers_on_sources
    found = _teacher_pairs(videos.take(np.flatnonzero(whole)), scores[whole], wanted, config)
    return dataclasses.replace(found, label_source=np.full(len(found), ON_SOURCES, object))


def _teacher_pairs(
    videos: VideoTable, scores: np.ndarray, wanted: Wanted, config: PairConfig
) -> PairTable:
    """Pairs that the teachers label; those of one segment are left to the simulators."""
    segments = zip(videos.column("source_id"), videos.column("segment"), strict=True)
    return sample_teacher_pairs(
        scores,
        videos.column("video_id"),
        wanted,
        config.seed,
        config.std_floor,
        min_teachers=min(2, scores.shape[1]),
        families=[f"{source}:{segment}" for source, segment in segments],
    )


def _simulator_pairs(sets: SimulatedSets, config: PairConfig) -> PairTable:
    wanted = config.simulator_per_label
    if isinstance(wanted, int) or not set(wanted) & set(KINDS):
        return sample_simulator_pairs(sets, wanted, config.seed)
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown:
        raise ValueError(f"simulator_per_label: {unknown} beside kinds; the kinds are {KINDS}")
    kinds = np.array([SIMULATORS[name].kind for name in sets.simulator], object)
    return PairTable.concatenate(
        [
            sample_simulator_pairs(sets[kinds == kind], number, config.seed)
            for kind, number in sorted(wanted.items())
        ]
    )


def _means(usable: VideoTable, scores: np.ndarray) -> dict[str, float]:
    """Teachers' mean score of every video that one of them scored, by its key."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a video that no teacher scored: NaN
        means = np.nanmean(scores, axis=1) if scores.shape[1] else np.full(len(usable), np.nan)
    known = np.isfinite(means)
    return dict(zip(usable.column("video_id")[known], means[known].tolist(), strict=True))


def _across_pairs(sets: SimulatedSets, means: dict[str, float], config: PairConfig) -> PairTable:
    """Pairs across sources; a set's content is its source, whatever the segment."""
    contents = [segment.rpartition("-")[0] for segment in sets.source_id]
    return sample_across_pairs(sets, contents, means, config.across, config.seed)


def _count(pairs: PairTable) -> dict[str, int]:
    counts = np.bincount(pairs.label, minlength=len(LEVELS))
    return dict(zip(LEVELS, counts.tolist(), strict=True))
