"""On which versions the teachers may vote: where they order them as the levels do [beyond 3.1].

Teachers of pictures can have a distortion upside down: over-sharpened pictures look crisp to them,
and haze may flatter a noisy source. The levels of a simulator tell, without any human score, where
that is so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vqa_jax.pairs.simulators import SimulatedSet, SimulatedSets


def share_in_order(table: Sequence[SimulatedSet], means: Mapping[str, float]) -> dict[str, float]:
    """How many pairs of versions of one source the teachers order as the levels do.

    Args:
      table: versions of sources, effective levels only, each with its source (level 0).
      means: teachers' mean score of versions by their key, higher is better, finite; a version
        without one counts nowhere.

    Returns:
      Simulator -> share in [0, 1], ties counting half; without those of which no pair is known.
    """
    sets = SimulatedSets.of(table)
    right, known = _pairs_in_order(sets, means)
    names, of_name = np.unique(sets.simulator.astype(str), return_inverse=True)
    pairs = np.bincount(of_name, known, len(names))
    shares = np.bincount(of_name, right, len(names)) / np.maximum(pairs, 1)
    return {name: float(shares[k]) for k, name in enumerate(names.tolist()) if pairs[k]}


def out_of_order(
    table: Sequence[SimulatedSet], means: Mapping[str, float], least: float
) -> frozenset[str]:
    """Versions in sets that the teachers do not have in order, one source and one simulator each.

    Args:
      table: as of `share_in_order`.
      means: as of `share_in_order`.
      least: share in [0, 1] of a set's pairs that are to be in order, ties counting half.

    Returns:
      Keys of the distorted versions of all sets below it. The sources themselves are not among
      them: another simulator's set may have them in order.
    """
    sets = SimulatedSets.of(table)
    right, known = _pairs_in_order(sets, means)
    low = np.repeat(right < least * known, sets.lengths)
    return frozenset(sets.video_id[low & (sets.severity > 0)].tolist())


def _pairs_in_order(
    sets: SimulatedSets, means: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Of every set, float64 [sets]: pairs in order, ties half; pairs of known scores."""
    scores = np.array([means.get(key, np.nan) for key in sets.video_id], np.float64)
    right, known = np.zeros(len(sets)), np.zeros(len(sets))
    start = 0
    for index, length in enumerate(sets.lengths.tolist()):
        part = scores[start : start + length]  # rising severity
        start += length
        falls = (part[:, None] - part)[np.triu_indices(length, 1)]
        falls = falls[np.isfinite(falls)]
        right[index] = np.sum((np.sign(falls) + 1) / 2)
        known[index] = len(falls)
    return right, known
