"""Pairs of different sources that simulators label, where the gap leaves no doubt.

Beyond method 3.2, whose pairs share their source, so that a student learns nothing of how contents
compare. Here the first is the undistorted version of a source that teachers call good, the second
the worst version of one that they call no better undistorted: no teacher is asked about versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vqa_jax.pairs import levels
from vqa_jax.pairs.simulators import SimulatedSet, SimulatedSets
from vqa_jax.pairs.table import SIMULATOR, PairTable, directions, generator

ACROSS = f"{SIMULATOR}:across"
_GOOD = 2 / 3  # quantile of the teachers' means from which a source is good


def sample_across_pairs(
    table: Sequence[SimulatedSet],
    contents: Sequence[str],
    means: Mapping[str, float],
    wanted: int,
    seed: int,
) -> PairTable:
    """Draws pairs of a good source and the worst version of another.

    The simulators take turns, and so do each one's worst versions. A simulator's worst version is
    that of its highest level in the table; where that one is not effective, a source has none.

    Args:
      table: versions of sources, effective levels only, each with its source (level 0).
      contents: [sets] what a set shows: sets of one content are not paired.
      means: teachers' mean score of undistorted versions by their key, higher is better, finite;
        those without one are in no pair.
      wanted: number of pairs; fewer come back where the table has fewer.
      seed: of the draw.

    Returns:
      Pairs in a shuffled order, each `superior` or `inferior`, half of each; none occurs twice.
    """
    content_of = {(g.source_id, g.simulator): c for g, c in zip(table, contents, strict=True)}
    sets = SimulatedSets.of(table)
    ends = np.cumsum(sets.lengths)
    base, worst = sets.mildest, sets.video_id[ends - 1]
    level = sets.severity[ends - 1]
    content = [
        content_of[key]
        for key in zip(sets.source_id.tolist(), sets.simulator.tolist(), strict=True)
    ]
    top: dict[str, int] = {}
    for name, number in zip(sets.simulator, level.tolist(), strict=True):
        top[name] = max(top.get(name, 1), number)
    good = sorted(
        {(means[key], key, c) for key, c in zip(base, content, strict=True) if key in means}
    )
    values = np.array([value for value, _, _ in good])
    lowest = np.quantile(values, _GOOD) if len(values) else np.inf
    rng = generator(seed, "pairs across sources")
    queues: dict[str, list[int]] = {name: [] for name in sorted(top)}
    for index in rng.permutation(len(sets)).tolist():
        name = sets.simulator[index]
        if level[index] == top[name] and base[index] in means:
            queues[name].append(index)
    found: dict[tuple[str, str], int] = {}
    while len(found) < wanted and any(queues.values()):
        for queue in queues.values():
            if not queue or len(found) == wanted:
                continue
            index = queue.pop(0)
            start = int(np.searchsorted(values, max(lowest, means[base[index]])))
            order = (start + rng.permutation(len(good) - start)).tolist()
            partners = (good[k][1] for k in order if good[k][2] != content[index])
            partner = next((key for key in partners if (key, worst[index]) not in found), None)
            if partner is not None:
                found[partner, worst[index]] = int(level[index])
                queue.append(index)
    return _labelled(found, rng)


def _labelled(found: Mapping[tuple[str, str], int], rng: np.random.Generator) -> PairTable:
    """Pairs (better, worse) -> level of the worse, as a table in a random order."""
    pairs = [list(found)[k] for k in rng.permutation(len(found)).tolist()]
    level = np.array([found[pair] for pair in pairs], np.float64)
    better, worse = (np.array([pair[k] for pair in pairs], object) for k in (0, 1))
    half = len(pairs) // 2
    rise = directions(len(pairs), len(pairs) - half, half, rng)
    names = np.where(rise, levels.level_index("superior"), levels.level_index("inferior"))
    return PairTable(
        first_id=np.where(rise, worse, better),
        second_id=np.where(rise, better, worse),
        label=names.astype(np.int8),
        label_source=np.full(len(pairs), ACROSS, object),
        margin=np.where(rise, level, -level),
        normalized_margin=np.zeros(len(pairs)),
        first_mean=np.where(rise, -level, 0.0),
        first_std=np.zeros(len(pairs)),
        second_mean=np.where(rise, 0.0, -level),
        second_std=np.zeros(len(pairs)),
    )
