"""The next iteration's pairs, found with the student: misordered and gMAD ones (METHOD 7).

    python -m vqa_jax relabel --config FILE --student DIR --data DIR --iteration 2

Simulator pairs that the student misorders keep the simulator's label; gMAD pairs are labelled by
the student. The video and motion shards are not touched.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from scipy.special import softmax
from tqdm import tqdm

from vqa_jax import anchors as anchors_lib
from vqa_jax import evaluate, files, gmad, pair_shards, records, score_tables, votes
from vqa_jax.levels import LEVELS
from vqa_jax.pairs import Pair
from vqa_jax.scoring import Engine
from vqa_jax.simulator_pairs import all_simulator_pairs, misordered
from vqa_jax.video_table import read_video_table, table_sha256


@dataclasses.dataclass(frozen=True)
class RelabelConfig:
    """Quotas of an iteration (METHOD 3.3 and 7).

    Attributes:
      seed: of the pool's choice.
      pool_segments: segments of the training split that are looked at, by key hash (0 = all).
      misordered_quota: most simulator pairs taken, the most confidently wrong first.
      gmad_quota: most gMAD pairs taken, over all weak models.
      num_bins: quality bins of gMAD.
      max_per_video: how often one video may serve.
      unite: how the teachers' scales become one.
      num_shards: pair shards.
      lower_is_better: imported teachers whose lower scores are the better ones.
    """

    seed: int
    pool_segments: int
    misordered_quota: int
    gmad_quota: int
    num_bins: int
    max_per_video: int
    unite: str
    num_shards: int
    lower_is_better: tuple[str, ...] = ()


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
        store = records.RecordStore(data, pair_shards.dataset_name(i), "vqa_pairs", "train")
        seen.update(frozenset((r["first_id"], r["second_id"])) for r in store.records())
    return seen


def _gmad(
    pool: Sequence[dict[str, Any]],
    scores: np.ndarray,
    config: RelabelConfig,
    imported: score_tables.ScoreTable | None,
    known: set[frozenset[str]],
) -> list[gmad.GmadPair]:
    """gMAD pairs of the student against every teacher, without repeats and `known` ones."""
    united = votes.united_votes(pool, imported, config.unite)
    ids = [r["video_id"] for r in pool]
    quota = -(-config.gmad_quota // len(united.names))
    taken, found = set(known), []
    for column in united.scores.T:
        pairs = gmad.gmad_pairs(
            scores, column, ids, quota, config.num_bins, config.max_per_video, exclude=taken
        )
        taken.update(frozenset((p.first_id, p.second_id)) for p in pairs)
        found.extend(pairs)
    return found[: config.gmad_quota]


def relabel(
    engine: Engine,
    scale: anchors_lib.Scale,
    fingerprint: str,
    data: str,
    iteration: int,
    config: RelabelConfig,
    score_files: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes the pairs of `iteration` (from 2 on); a finished iteration is kept.

    Args:
      engine: the promoted student.
      scale: its anchors.
      fingerprint: of the student.
      data: corpus folder.
      iteration: whose pairs are written.
      config: quotas.
      score_files: further teachers, as given to pair labelling.

    Returns:
      Facts about the new pairs, also written to relabel_<iteration>.json.

    Raises:
      files.CorpusError: no pair is hard, an earlier iteration is missing, or this iteration's
        pairs were made with another student or other settings.
    """
    table = read_video_table(data)
    identity = {
        "student": fingerprint,
        "settings": {**dataclasses.asdict(config), "lower_is_better": [*config.lower_is_better]},
        "corpus": table_sha256(data),
        "scores": sorted(map(files.file_sha256, score_files)),
    }
    facts_path = os.path.join(data, f"relabel_{iteration}.json")
    if pair_shards.finished(data, iteration, identity) and os.path.exists(facts_path):
        logging.info("pairs of iteration %d are complete", iteration)
        return files.read_json(facts_path)
    seen = _earlier_pairs(data, iteration)
    pool = choose_pool(table, config)
    encoded = evaluate.encode_videos(engine, data, [r["video_id"] for r in pool])

    # --- (a) simulator pairs that the student misorders -------------------------------------------
    simulated = all_simulator_pairs(pair_shards.simulated_sets(pool, "train"), config.seed)
    candidates = [p for p in simulated if frozenset((p.first_id, p.second_id)) not in seen]
    if candidates:
        forward, backward = evaluate.pair_preferences(engine, encoded, candidates)
        preferred = evaluate.order_consistent(forward, backward)
        all_wrong = misordered(candidates, preferred)
    else:
        all_wrong = []
    hard = all_wrong[: config.misordered_quota]

    # --- (b) gMAD against every weak model --------------------------------------------------------
    probabilities = [
        scale.probabilities(encoded[r["video_id"]])
        for r in tqdm(pool, desc="score", unit="video", mininterval=5)
    ]
    solved = scale.solve(np.stack(probabilities))
    scores = np.array([s.q for s in solved])
    imported = None
    if score_files:
        imported = score_tables.read_scores(score_files, config.lower_is_better)
    # Of two versions of one segment the simulator knows the order: the student has no say.
    known = seen | {frozenset((p.first_id, p.second_id)) for p in simulated}
    found = _gmad(pool, scores, config, imported, known)
    labelled: list[Pair] = []
    if found:
        forward, backward = evaluate.pair_preferences(engine, encoded, found)
        probs = 0.5 * (softmax(forward, axis=-1) + softmax(backward, axis=-1)[:, ::-1])
        by_id = {r["video_id"]: (s.q, s.q_std) for r, s in zip(pool, solved, strict=True)}
        labelled = gmad.label_by_student(found, probs, by_id)
    if not hard and not labelled:
        raise files.CorpusError(
            f"{data}: the student orders every pair and agrees with every teacher: there is "
            "nothing to learn in another iteration"
        )
    pair_shards.write(data, iteration, {"train": hard + labelled}, config.num_shards, identity)
    facts = {
        "iteration": iteration,
        "pool_videos": len(pool),
        "simulator_pairs_tested": len(candidates),
        "misordered": len(all_wrong),
        "misordered_taken": len(hard),
        "misordered_by_simulator": dict(
            sorted(Counter(p.label_source.split(":")[1] for p in hard).items())
        ),
        "gmad": len(labelled),
        "gmad_by_attacker": dict(sorted(Counter(p.attacker for p in found).items())),
        "gmad_labels": {x: sum(p.label == x for p in labelled) for x in LEVELS},
    }
    files.write_json(facts_path, facts)
    return facts
