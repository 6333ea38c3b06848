"""Which simulators' levels the teachers order rightly, and so may vote on [beyond method 3.1].

Teachers of pictures can have a distortion upside down: over-sharpened pictures look crisp to them.
The levels of a simulator tell, without any human score, where that is so.
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
    scores = np.array([means.get(key, np.nan) for key in sets.video_id], np.float64)
    right: dict[str, float] = {}
    known: dict[str, int] = {}
    start = 0
    for name, length in zip(sets.simulator.tolist(), sets.lengths.tolist(), strict=True):
        part = scores[start : start + length]  # rising severity
        start += length
        falls = part[:, None] - part
        falls = falls[np.triu_indices(length, 1)]
        falls = falls[np.isfinite(falls)]
        right[name] = right.get(name, 0.0) + float(np.sum((np.sign(falls) + 1) / 2))
        known[name] = known.get(name, 0) + len(falls)
    return {name: right[name] / count for name, count in sorted(known.items()) if count}
