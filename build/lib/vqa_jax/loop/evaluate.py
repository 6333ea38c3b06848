"""How well a student orders held-out simulator pairs, and scores them against severity.

    python -m vqa_jax evaluate --student DIR --data DIR --out DIR

Writes `evaluation.json` and, as CSV and Parquet, `pairs` and `scores` to the output folder: a row a
pair and a row a video, one that could not be read with its error.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax.benchmarks import metrics
from vqa_jax.corpus.pair_shards import pair_id
from vqa_jax.corpus.store import VideoStore
from vqa_jax.corpus.video_table import read_video_table, simulated_sets, table_sha256
from vqa_jax.jobs import files
from vqa_jax.jobs.published import Publication
from vqa_jax.jobs.ranges import Share
from vqa_jax.jobs.tables import write_tables
from vqa_jax.loop.looks import Looks, RangeJob, check_readable, segment_ranges
from vqa_jax.pairs.levels import LEVELS, order_consistent, preference
from vqa_jax.pairs.simulators import all_simulator_pairs
from vqa_jax.pairs.table import Pair, PairTable
from vqa_jax.scoring.judge import Judge
from vqa_jax.settings import VIDEOS_A_RANGE


def _accuracy(correct: Sequence[bool]) -> dict[str, float | int]:
    return {"accuracy": float(np.mean(correct)), "pairs": len(correct)}


def _truth(pair: Pair) -> int:
    return LEVELS.index(pair.label)


def summarize(
    pairs: Sequence[Pair],
    levels_of: Mapping[str, int],
    forward: np.ndarray,
    backward: np.ndarray,
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Accuracy and rank correlation, macro-averaged over simulators.

    A pair is right when the preference, averaged over both orders, is on the label's side of 0.5;
    a tie is wrong. SRCC is that of score against severity within a segment, averaged: -1 is best.

    Args:
      pairs: simulator pairs with labels.
      levels_of: video id -> severity level.
      forward: level logits [n, 5] as stored.
      backward: level logits [n, 5] of the swapped pairs.
      rows: score rows (source_id, segment, simulator, level, score).
    """
    preferred = order_consistent(forward, backward)
    better = np.array([_truth(p) > LEVELS.index("similar") for p in pairs])
    correct = np.where(better, preferred > 0.5, preferred < 0.5)
    one_order = np.where(better, preference(forward) > 0.5, preference(forward) < 0.5)
    groups: dict[str, dict[str, list[bool]]] = {}
    for pair, ok in zip(pairs, correct, strict=True):
        simulator = pair.label_source.split(":")[1]
        low, high = sorted((levels_of[pair.first_id], levels_of[pair.second_id]))
        group = groups.setdefault(simulator, collections.defaultdict(list))
        group["all"].append(bool(ok))
        group[f"distance:{high - low}"].append(bool(ok))
        group[f"levels:{low}-{high}"].append(bool(ok))
    srcc = severity_srcc(rows)
    by_simulator: dict[str, Any] = {}
    for simulator, group in sorted(groups.items()):
        entry: dict[str, Any] = {**_accuracy(group["all"]), "srcc": srcc.get(simulator)}
        for part in ("distance", "levels"):
            entry[f"by_{part}"] = {
                name.split(":")[1]: _accuracy(values)
                for name, values in sorted(group.items())
                if name.startswith(part)
            }
        by_simulator[simulator] = entry
    confusion = np.zeros((5, 5), int)
    np.add.at(confusion, ([_truth(p) for p in pairs], forward.argmax(-1)), 1)
    contradicts = (preference(forward) > 0.5) == (preference(backward) > 0.5)
    return {
        "num_pairs": len(pairs),
        "accuracy": float(np.mean([v["accuracy"] for v in by_simulator.values()])),
        "accuracy_ci": _source_bootstrap(pairs, correct),
        "accuracy_one_order": float(one_order.mean()),
        "by_simulator": by_simulator,
        "srcc": float(np.mean(list(srcc.values()))) if srcc else None,
        "confusion": confusion.tolist(),
        "self_contradiction": float(contradicts.mean()),
    }


def _source_bootstrap(pairs: Sequence[Pair], correct: np.ndarray, draws: int = 500) -> list[float]:
    """95% interval of the macro accuracy, drawing sources (pairs of one are not independent)."""
    cells: dict[tuple[str, str], list[bool]] = collections.defaultdict(list)
    for pair, ok in zip(pairs, correct, strict=True):
        source = pair.first_id.rsplit("-", 3)[0]  # of "source-segment-simulator-level"
        cells[source, pair.label_source].append(bool(ok))
    sources = sorted({s for s, _ in cells})
    simulators = sorted({s for _, s in cells})
    right = np.array([[sum(cells.get((s, k), [])) for k in simulators] for s in sources], float)
    total = np.array([[len(cells.get((s, k), [])) for k in simulators] for s in sources], float)
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(sources), (draws, len(sources)))
    with np.errstate(invalid="ignore"):
        values = np.nanmean(right[picks].sum(1) / total[picks].sum(1), axis=1)
    return [float(v) for v in np.percentile(values, [2.5, 97.5])]


def severity_srcc(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean over segments of the SRCC between score and severity level, by simulator.

    The undistorted segment is level 0 of each of its simulators. A student that gives all levels
    of a segment the same score has no correlation there; it counts as 0.
    """
    sources = {(r["source_id"], r["segment"]): r["score"] for r in rows if r["level"] == 0}
    series: dict[tuple[str, str, int], list[tuple[int, float]]] = collections.defaultdict(list)
    for row in rows:
        if row["level"] > 0:
            key = (row["simulator"], row["source_id"], row["segment"])
            series[key].append((row["level"], row["score"]))
    values: dict[str, list[float]] = collections.defaultdict(list)
    for (simulator, source, segment), points in series.items():
        if (source, segment) not in sources:  # it could not be read
            continue
        points = [(0, sources[source, segment]), *points]
        if len(points) > 2:
            levels, scores = zip(*sorted(points), strict=True)
            values[simulator].append(np.nan_to_num(metrics.correlate(scores, levels)["srcc"]))
    return {s: float(np.mean(v)) for s, v in values.items()}


def evaluate(
    judge: Judge,
    data: str,
    out: str,
    share: Share = Share(),
    most: int = VIDEOS_A_RANGE,
) -> dict[str, Any] | None:
    """Evaluates on the held-out split of a corpus; the work of killed runs is kept.

    Args:
      judge: the student with its anchors; a finished evaluation of the same student is kept.
      data: corpus folder.
      out: folder of the results.
      share: this process's part.
      most: videos of a range; a restart repeats at most one range a process.

    Returns:
      The content of evaluation.json; None while ranges are left to other processes.

    Raises:
      files.CorpusError: there is nothing to evaluate on, or no video can be read.
    """
    target = os.path.join(out, "evaluation.json")
    identity = {"student": judge.fingerprint, "corpus": table_sha256(data)}
    name = f"{sorted(identity.items())} {most}"
    work = os.path.join(out, f"work_{files.key_hash(name):016x}")

    def is_same(done: Mapping[str, Any]) -> bool:
        return all(done.get(name) == value for name, value in identity.items())

    publication = Publication(target, work, is_same, lock=out)
    if done := publication.found():
        return done
    table = read_video_table(data)
    heldout = [r for r in table if r["split"] == "heldout" and r["effective"]]
    pairs = all_simulator_pairs(simulated_sets(table, "heldout"))
    if not pairs:
        raise files.CorpusError(f"{data}: no held-out simulator pairs to evaluate on")
    videos = VideoStore(data, judge.engine.spec.extractor, judge.engine.spec.tower)
    check_readable(videos, [r["video_id"] for r in heldout])
    ranges = segment_ranges(videos, heldout, pairs.first_id, pairs.second_id, most)
    job = RangeJob(work, "evaluate", ranges)
    missing = job.run(judge, videos, share)

    def write() -> dict[str, Any]:
        return _publish(out, identity, pairs, heldout, job.looks())

    return publication.publish(missing, write)


def _publish(
    out: str,
    identity: Mapping[str, str],
    pairs: PairTable,
    heldout: Sequence[Mapping[str, Any]],
    looks: Looks,
) -> dict[str, Any]:
    """Writes the tables, then evaluation.json; returns its content."""
    files.remove_temporary(out)
    kept = ("video_id", "source_id", "segment", "simulator", "level")
    by_id = {row["video_id"]: {k: row[k] for k in kept} for row in heldout}
    said = looks.videos.to_pylist()
    rows = [by_id[r["video_id"]] | r for r in said]
    seen = np.flatnonzero(np.isfinite(looks.forward).all(axis=1))
    pairs, forward, backward = pairs[seen], looks.forward[seen], looks.backward[seen]
    failed = [r for r in said if r["error"]]
    if not len(pairs):
        raise files.CorpusError(f"no held-out pair can be read; the first: {failed[0]['error']}")
    levels_of = {r["video_id"]: r["level"] for r in heldout}
    good = [r for r in rows if not r["error"]]
    summary = {
        **identity,
        **summarize(pairs, levels_of, forward, backward, good),
        "failed_videos": len(failed),
    }
    write_tables(os.path.join(out, "pairs"), _pair_rows(pairs, levels_of, forward, backward))
    write_tables(os.path.join(out, "scores"), rows)
    files.write_sealed(os.path.join(out, "evaluation.json"), summary)
    return summary


def _pair_rows(
    pairs: PairTable, levels_of: Mapping[str, int], forward: np.ndarray, backward: np.ndarray
) -> list[dict[str, Any]]:
    preferred = order_consistent(forward, backward)
    return [
        {
            "pair_id": pair_id(p),
            "first_id": p.first_id,
            "second_id": p.second_id,
            "simulator": p.label_source.split(":")[1],
            "first_level": levels_of[p.first_id],
            "second_level": levels_of[p.second_id],
            "label": p.label,
            "predicted": LEVELS[int(logits.argmax())],
            "preference": float(value),
            "correct": int((value > 0.5) == (_truth(p) > 2) and value != 0.5),
        }
        for p, logits, value in zip(pairs, forward, preferred, strict=True)
    ]
