"""The next iteration's pairs, found with the student: misordered and gMAD ones (method 7).

    python -m vqa_jax relabel --config FILE --student DIR --data DIR --iteration 2

Simulator pairs that the student misorders keep the simulator's label; gMAD pairs are labelled by
the student. The video and motion shards are not touched. Beside the pairs: relabel_N.json, which
tells about them, and relabel_N/, a row a video and a row a new pair as CSV and Parquet.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from vqa_jax.benchmarks import score_tables
from vqa_jax.corpus import pair_shards, video_table
from vqa_jax.corpus.store import RecordStore, VideoStore
from vqa_jax.corpus.video_table import read_video_table, table_sha256
from vqa_jax.jobs import files
from vqa_jax.jobs.published import Publication
from vqa_jax.jobs.ranges import Share, wait_for
from vqa_jax.jobs.tables import write_tables
from vqa_jax.loop.facts import (
    gmad_counts,
    hard_kinds,
    label_agreement,
    mean_entropy,
    old_labels,
    pair_rows,
)
from vqa_jax.loop.labels import Opinions, label_gmad
from vqa_jax.loop.looks import Looks, RangeJob, check_readable, pair_ranges, segment_ranges
from vqa_jax.pairs import gmad
from vqa_jax.pairs.levels import LEVELS, order_consistent, posterior
from vqa_jax.pairs.simulators import all_simulator_pairs, misordered
from vqa_jax.pairs.table import Pair, PairTable
from vqa_jax.scoring.judge import Judge
from vqa_jax.settings import RelabelConfig
from vqa_jax.teachers import corpus_scores


def choose_pool(table: Sequence[dict[str, Any]], config: RelabelConfig) -> list[dict[str, Any]]:
    """Rows of the training segments that are looked at: whole segments, all effective levels."""
    rows = [r for r in table if r["split"] == "train" and r["effective"]]
    segments = sorted(
        {(r["source_id"], r["segment"]) for r in rows},
        key=lambda s: files.key_hash(f"{config.seed}:{s[0]}:{s[1]}"),
    )
    kept = set(segments[: config.pool_segments or None])
    return [r for r in rows if (r["source_id"], r["segment"]) in kept]


def _earlier_pairs(data: str, iteration: int) -> set[frozenset[str]]:
    seen: set[frozenset[str]] = set()
    for i in range(1, iteration):
        store = RecordStore(data, pair_shards.dataset_name(i), "vqa_pairs", "train")
        seen.update(frozenset((r["first_id"], r["second_id"])) for r in store.records())
    return seen


def _hardest(wrong: Sequence[Pair], tested: PairTable, config: RelabelConfig) -> list[Pair]:
    """As many as the quotas allow, the most confidently wrong first; or as many at random."""
    if config.choice == "random":
        number = len(_hardest(wrong, tested, dataclasses.replace(config, choice="hard")))
        rng = np.random.default_rng(config.seed)
        return [*tested[np.sort(rng.permutation(len(tested))[:number])]]
    if not config.misordered_pools:
        return list(wrong[: config.misordered_quota])
    taken: list[Pair] = []
    for pool in config.misordered_pools:
        mine = [p for p in wrong if p.label_source.split(":")[1] in pool["simulators"]]
        taken.extend(mine[: pool["pairs"]])
    return taken


def relabel(
    judge: Judge,
    data: str,
    iteration: int,
    config: RelabelConfig,
    score_files: Sequence[str] = (),
    share: Share = Share(),
) -> dict[str, Any] | None:
    """Writes the pairs of `iteration` (from 2 on); a finished iteration is kept.

    First all videos of the pool are scored and their simulator pairs compared; when the last
    process has done so, gMAD pairs are sought among all of them and compared. Processes of one job
    must therefore run at the same time: each waits for the others in between.

    Args:
      judge: the promoted student with its anchors.
      data: corpus folder.
      iteration: whose pairs are written.
      config: quotas.
      score_files: further teachers, as given to pair labelling.
      share: this process's part.

    Returns:
      Facts about the new pairs, also written to relabel_<iteration>.json; None while ranges are
      left to other processes.

    Raises:
      files.CorpusError: no pair is hard, an earlier iteration is missing, no video can be read, or
        this iteration's pairs were made with another student or other settings.
    """
    table = read_video_table(data)
    identity = {
        "student": judge.fingerprint,
        "settings": _settings(config),
        "corpus": table_sha256(data),
        "scores": sorted(map(files.file_sha256, score_files)),
    }
    job = f"{files.key_hash(repr(sorted(identity.items()))):016x}"
    facts_path = os.path.join(data, f"relabel_{iteration}.json")
    work = os.path.join(data, f"work_relabel_{iteration}_{job}")

    def is_same(facts: Mapping[str, Any]) -> bool:
        return facts.get("job") == job and bool(pair_shards.finished(data, iteration, identity))

    pair_shards.finished(data, iteration, identity)  # other pairs are refused before the work
    publication = Publication(facts_path, work, is_same)
    if done := publication.found():
        return done
    seen = _earlier_pairs(data, iteration)
    imported = None
    if score_files:
        imported = score_tables.read_scores(score_files, config.lower_is_better)
    pool = choose_pool(table, config)
    united = corpus_scores.united_votes(pool, imported, config.unite)
    videos = VideoStore(data, judge.engine.spec.extractor, judge.engine.spec.tower)
    check_readable(videos, [r["video_id"] for r in pool])

    simulated = all_simulator_pairs(video_table.simulated_sets(pool, "train"), config.seed)
    ends = list(zip(simulated.first_id, simulated.second_id, strict=True))
    candidates = simulated[np.array([frozenset(e) not in seen for e in ends], bool)]
    ranges = segment_ranges(
        videos, pool, candidates.first_id, candidates.second_id, config.range_videos
    )
    looking = RangeJob(work, "look", ranges)
    looking.run(judge, videos, share)
    if not wait_for(looking.paths, lambda: publication.read() is not None):
        return publication.read()
    looks = looking.looks()

    # Of two versions of one segment the simulator knows the order: the student has no say.
    opinions = Opinions.of(looks.videos, [r["video_id"] for r in pool], united, config.unite)
    found = _disputed(opinions, united.names, seen | {frozenset(e) for e in ends}, config)
    comparing = RangeJob(
        work,
        "gmad",
        pair_ranges([(p.first_id, p.second_id) for p in found], config.range_videos),
    )
    missing = comparing.run(judge, videos, share, scores=False)

    def write() -> dict[str, Any]:
        said = _Said(pool, len(simulated), candidates, looks, found, comparing.looks(), opinions)
        return _publish(data, iteration, config, identity, job, said)

    return publication.publish(missing, write)


def _disputed(
    opinions: Opinions,
    names: Sequence[str],
    known: AbstractSet[frozenset[str]],
    config: RelabelConfig,
) -> list[gmad.GmadPair]:
    """gMAD pairs against every weak model, or as many at random."""
    found = gmad.against_all(
        opinions.student,
        opinions.teachers,
        names,
        opinions.ids,
        config.gmad_quota,
        config.num_bins,
        config.max_per_video,
        config.xi,
        known,
    )
    if config.choice == "random":
        found = gmad.at_random(found, opinions.student, opinions.ids, known, config.seed)
    return found


def _settings(config: RelabelConfig) -> dict[str, Any]:
    """As JSON gives them back; one that came later counts only where it does something."""
    told = json.loads(json.dumps(dataclasses.asdict(config)))  # lists, not tuples
    return told if config.choice != "hard" else {k: v for k, v in told.items() if k != "choice"}


@dataclasses.dataclass(frozen=True)
class _Said:
    """The pool, and what the student said of its simulator pairs and of its gMAD pairs."""

    pool: Sequence[dict[str, Any]]
    simulated: int  # pairs of the pool, with those that an earlier iteration held
    candidates: PairTable
    looks: Looks
    gmad: Sequence[gmad.GmadPair]
    compared: Looks
    opinions: Opinions


def _publish(
    data: str,
    iteration: int,
    config: RelabelConfig,
    identity: dict[str, Any],
    job: str,
    said: _Said,
) -> dict[str, Any]:
    """Writes the tables, the pairs, and last what is told about them; returns that."""
    seen = np.isfinite(said.looks.forward).all(axis=1)
    tested = said.candidates[seen]
    asked = posterior(said.looks.forward[seen], said.looks.backward[seen])
    all_wrong: list[Pair] = []
    if len(tested):
        preferred = order_consistent(said.looks.forward[seen], said.looks.backward[seen])
        all_wrong = misordered(tested, preferred)
    hard = _hardest(all_wrong, tested, config)
    place = {(p.first_id, p.second_id): k for k, p in enumerate(tested)}
    hard_at = [place[p.first_id, p.second_id] for p in hard]

    good = np.isfinite(said.compared.forward).all(axis=1)
    found = [p for p, ok in zip(said.gmad, good, strict=True) if ok]
    probs = posterior(said.compared.forward[good], said.compared.backward[good])
    labelled = label_gmad(found, probs, said.opinions, config.labels, config.std_floor)
    if not hard and not labelled:
        raise files.CorpusError(f"{data}: {_why_empty(said, len(tested), len(all_wrong), config)}")
    old = old_labels(found, said.opinions, config.std_floor)
    rows = pair_rows(
        [*hard, *labelled],
        np.concatenate([asked[hard_at], probs]),
        [*(p.label for p in hard), *old],
        [*(None for _ in hard), *found],
    )
    wrong = np.zeros(len(tested), bool)
    wrong[[place[p.first_id, p.second_id] for p in all_wrong]] = True
    folder = os.path.join(data, f"relabel_{iteration}")
    os.makedirs(folder, exist_ok=True)
    files.remove_temporary(folder)
    videos = said.looks.videos.to_pylist()
    write_tables(os.path.join(folder, "videos"), videos)
    write_tables(os.path.join(folder, "pairs"), rows)
    pair_shards.write(data, iteration, {"train": hard + labelled}, config.num_shards, identity)
    facts = {
        "job": job,
        "iteration": iteration,
        "labels": config.labels,
        "pool_videos": len(said.pool),
        "failed_videos": sum(r["error"] is not None for r in videos),
        "simulator_pairs_tested": len(tested),
        "misordered": len(all_wrong),
        "misordered_taken": len(hard),
        "misordered_by_simulator": dict(
            sorted(Counter(p.label_source.split(":")[1] for p in hard).items())
        ),
        **gmad_counts(found, labelled),
        "agreement": {
            "simulators": label_agreement([p.label for p in tested], _levels(asked)),
            "teachers": label_agreement(old, _levels(probs)),
        },
        "entropy": {
            "simulator_pairs": mean_entropy(asked),
            "misordered": mean_entropy(asked[wrong]),
            "gmad": mean_entropy(probs),
        },
        "hard": hard_kinds(tested, wrong, said.pool),
    }
    files.write_sealed(os.path.join(data, f"relabel_{iteration}.json"), facts)
    return facts


def _why_empty(said: _Said, tested: int, wrong: int, config: RelabelConfig) -> str:
    """Why no pair is hard, with the numbers that say what would help."""
    segments = len({(row["source_id"], row["segment"]) for row in said.pool})
    readable = int(np.isfinite(said.opinions.student).sum())
    if wrong:
        simulators = "misordered simulator pairs are not taken: their quota is 0"
    elif tested:
        simulators = f"the student orders all {tested} new simulator pairs as they are"
    elif len(said.candidates):
        simulators = f"none of {len(said.candidates)} new simulator pairs could be read"
    else:
        simulators = f"all {said.simulated} simulator pairs are in earlier iterations"
    if said.gmad:
        voted = f"none of {len(said.gmad)} gMAD pairs could be read"
    elif config.gmad_quota < 1:
        voted = "gMAD pairs are not taken: their quota is 0"
    else:
        voted = (
            f"no two of {readable} videos of different segments are alike to one of"
            f" {said.opinions.teachers.shape[1]} teachers or to the student and apart to the other"
            f" (bins: {config.num_bins})"
        )
    return (
        f"no pair is hard. The pool holds {len(said.pool)} videos of {segments} segments;"
        f" {simulators}; {voted}. Add inputs, raise relabel.pool_segments, lower relabel.num_bins, "
        "or end the iterations here"
    )


def _levels(probs: np.ndarray) -> list[str]:
    return [LEVELS[k] for k in probs.argmax(axis=-1)]
