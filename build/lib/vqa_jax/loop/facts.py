"""What an iteration's relabelling tells: new pairs beside old labels, and what was hard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax.loop.labels import Opinions, by_votes
from vqa_jax.pairs.gmad import GmadPair
from vqa_jax.pairs.levels import LEVEL_WEIGHTS, LEVELS, level_index
from vqa_jax.pairs.table import Pair, PairTable

_THIRDS = ("low", "middle", "high")


def entropy(probs: np.ndarray) -> np.ndarray:
    """Entropy [n] in nats of level probabilities [n, 5]; log 5 = 1.61 knows nothing."""
    return -np.sum(probs * np.log(np.maximum(probs, 1e-12)), axis=-1)


def pair_rows(
    pairs: Sequence[Pair],
    probs: np.ndarray,
    old_labels: Sequence[str | None],
    found: Sequence[GmadPair | None],
) -> list[dict[str, Any]]:
    """A row for each new pair: its labels, the student's posterior, and how it was found."""
    return [
        {
            "kind": "misordered" if how is None else "gmad",
            "first_id": pair.first_id,
            "second_id": pair.second_id,
            "label": pair.label,
            "label_source": pair.label_source,
            "old_label": old,
            "student_label": LEVELS[int(p.argmax())],
            "preference": float(p @ LEVEL_WEIGHTS),
            "entropy": float(h),
            "weak_model": how.weak if how else None,
            "attacker": how.attacker if how else None,
            "bin": how.bin if how else None,
            "gap": how.gap if how else None,
        }
        for pair, p, h, old, how in zip(
            pairs, probs, entropy(probs), old_labels, found, strict=True
        )
    ]


def old_labels(found: Sequence[GmadPair], opinions: Opinions, std_floor: float) -> list[str | None]:
    """What the old teachers say of gMAD pairs (method 3.1); None where none scored both."""
    row = {key: k for k, key in enumerate(opinions.ids)}
    votes = [
        by_votes(opinions.teachers, row[p.first_id], row[p.second_id], std_floor) for p in found
    ]
    return [vote[0] if vote else None for vote in votes]


def label_agreement(old: Sequence[str | None], new: Sequence[str]) -> dict[str, Any]:
    """How the student's levels stand to old labels, over pairs that have one.

    Returns:
      "matrix" [5][5], counts of (old, student's); "same", share of equal levels; "direction",
      share that point the same way, of pairs that neither calls similar; "pairs".
    """
    known = [(level_index(a), level_index(b)) for a, b in zip(old, new, strict=True) if a]
    matrix = np.zeros((len(LEVELS), len(LEVELS)), int)
    np.add.at(matrix, tuple(np.array(known, int).reshape(-1, 2).T), 1)
    middle = level_index("similar")
    decided = np.delete(np.delete(matrix, middle, 0), middle, 1)
    alike = decided[:2, :2].sum() + decided[2:, 2:].sum()
    return {
        "pairs": len(known),
        "same": float(np.trace(matrix) / len(known)) if known else None,
        "direction": float(alike / decided.sum()) if decided.sum() else None,
        "matrix": matrix.tolist(),
    }


def hard_kinds(
    candidates: PairTable, wrong: np.ndarray, pool: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, dict[str, int]]]:
    """Simulator pairs asked and misordered, by what kind of clip they are of.

    Args:
      candidates: simulator pairs that were compared.
      wrong: bool [pairs].
      pool: rows of the video table.

    Returns:
      property -> class -> {"pairs", "wrong"}. Properties: simulator, distance of the severities,
      and, by thirds of the undistorted clips, each of the built-in teachers' raw scores.
    """
    by_id = {r["video_id"]: r for r in pool}
    sources = {(r["source_id"], r["segment"]): r for r in pool if r["level"] == 0}
    bounds = {
        name: np.nanpercentile([s["scores"][name] for s in sources.values()], [100 / 3, 200 / 3])
        for name in sorted(next(iter(sources.values()))["scores"])
    }
    tally: dict[str, dict[str, list[int]]] = {}
    for pair, bad in zip(candidates, wrong.tolist(), strict=True):
        first, second = by_id[pair.first_id], by_id[pair.second_id]
        source = sources[first["source_id"], first["segment"]]
        classes = {
            "simulator": pair.label_source.split(":")[1],
            "distance": str(abs(first["level"] - second["level"])),
        }
        for name, cut in bounds.items():
            value = source["scores"][name]
            if np.isfinite(value):
                classes[name] = _THIRDS[int(np.searchsorted(cut, value, "left"))]
        for name, kind in classes.items():
            counts = tally.setdefault(name, {}).setdefault(kind, [0, 0])
            counts[0] += 1
            counts[1] += bad
    return {
        name: {kind: {"pairs": n, "wrong": bad} for kind, (n, bad) in sorted(kinds.items())}
        for name, kinds in tally.items()
    }


def mean_entropy(probs: np.ndarray) -> float | None:
    """Mean `entropy`, or None of no pair."""
    return float(entropy(probs).mean()) if len(probs) else None


def gmad_counts(found: Sequence[GmadPair], labelled: Sequence[Pair]) -> dict[str, Any]:
    """gMAD pairs by attacker, weak model, bin and label."""
    return {
        "gmad": len(labelled),
        "gmad_by_attacker": dict(sorted(Counter(p.attacker for p in found).items())),
        "gmad_by_weak_model": dict(sorted(Counter(p.weak for p in found).items())),
        "gmad_labels": {x: sum(p.label == x for p in labelled) for x in LEVELS},
    }
