"""How well a student orders held-out simulator pairs, and scores them against severity.

    python -m vqa_jax evaluate --student DIR --data DIR --out DIR

Writes `evaluation.json`, `pairs.csv` and `scores.csv` to the output folder.
"""

from __future__ import annotations

import collections
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from vqa_jax import anchors as anchors_lib
from vqa_jax import files, metrics
from vqa_jax.gmad import GmadPair
from vqa_jax.levels import LEVELS, preference
from vqa_jax.pair_corpus import VideoStore
from vqa_jax.pair_shards import pair_id, simulated_sets
from vqa_jax.pairs import Pair
from vqa_jax.scoring import EncodedVideo, Engine, VideoInput, video_input
from vqa_jax.simulator_pairs import all_simulator_pairs
from vqa_jax.video_table import read_video_table, table_sha256


def encode_videos(engine: Engine, data: str, video_ids: Sequence[str]) -> dict[str, EncodedVideo]:
    """Encodes videos of a corpus by id.

    Raises:
      files.CorpusError: a video's motion features are missing or of another extractor.
    """
    videos = VideoStore(data, engine.spec.extractor)

    def inputs() -> Iterator[VideoInput]:
        for key in tqdm(video_ids, desc="encode", unit="video", mininterval=5):
            record, features = videos[key]
            yield video_input(record["frames"], features, engine.spec)

    return dict(zip(video_ids, engine.encode(inputs()), strict=True))


def pair_preferences(
    engine: Engine, encoded: Mapping[str, EncodedVideo], pairs: Sequence[Pair | GmadPair]
) -> tuple[np.ndarray, np.ndarray]:
    """Level logits [n, 5] in the given order and in the swapped one."""
    forward, backward = [], []
    step = 256  # pairs between two updates of the progress bar
    for start in tqdm(range(0, len(pairs), step), desc="compare", unit="block", mininterval=5):
        chunk = [(encoded[p.first_id], encoded[p.second_id]) for p in pairs[start : start + step]]
        forward.append(engine.compare(chunk))
        backward.append(engine.compare([(b, a) for a, b in chunk]))
    return np.concatenate(forward), np.concatenate(backward)


def order_consistent(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Probability [n] that the second video is better, from both orders of the pair."""
    return 0.5 * (preference(forward) + 1.0 - preference(backward))


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
        points = [(0, sources[source, segment]), *points]
        if len(points) > 2:
            levels, scores = zip(*sorted(points), strict=True)
            values[simulator].append(np.nan_to_num(metrics.correlate(scores, levels)["srcc"]))
    return {s: float(np.mean(v)) for s, v in values.items()}


def evaluate(
    engine: Engine, scale: anchors_lib.Scale | None, fingerprint: str, data: str, out: str
) -> dict[str, Any]:
    """Evaluates on the held-out split of a corpus.

    Args:
      engine: the student.
      scale: its anchors, or None to leave scores out.
      fingerprint: of the student; a finished evaluation of the same student is kept.
      data: corpus folder.
      out: folder of the results.

    Returns:
      The content of evaluation.json.
    """
    target = os.path.join(out, "evaluation.json")
    corpus = table_sha256(data)
    identity = {"student": fingerprint, "corpus": corpus}
    if os.path.exists(target):
        done = files.read_json(target)
        if {k: done[k] for k in identity} == identity:
            logging.info("%s is up to date", target)
            return done
    table = read_video_table(data)
    heldout = [r for r in table if r["split"] == "heldout" and r["effective"]]
    pairs = all_simulator_pairs(simulated_sets(table, "heldout"))
    if not pairs:
        raise files.CorpusError(f"{data}: no held-out simulator pairs to evaluate on")
    encoded = encode_videos(engine, data, [r["video_id"] for r in heldout])
    forward, backward = pair_preferences(engine, encoded, pairs)
    rows: list[dict[str, Any]] = []
    if scale is not None:
        for row in tqdm(heldout, desc="score", unit="video", mininterval=5):
            result = scale.score(encoded[row["video_id"]])
            kept = {k: row[k] for k in ("video_id", "source_id", "segment", "simulator", "level")}
            rows.append({**kept, "score": result.score, "q": result.q, "std": result.std})
    levels_of = {r["video_id"]: r["level"] for r in heldout}
    summary = {**identity, **summarize(pairs, levels_of, forward, backward, rows)}
    os.makedirs(out, exist_ok=True)
    preferred = order_consistent(forward, backward)
    write_csv(
        os.path.join(out, "pairs.csv"),
        [
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
        ],
    )
    if rows:
        write_csv(os.path.join(out, "scores.csv"), rows)
    files.write_json(target, summary)
    return summary


def write_csv(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of equal keys as CSV, under a temporary name first."""
    with files.written(path, newline="") as f:
        writer = csv.DictWriter(f, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
