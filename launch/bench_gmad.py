"""What gMAD takes at pool size: one student against weak models, made-up scores."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from vqa_jax import gmad


def measure(videos: int, models: int, quota: int) -> dict[str, Any]:
    """Finds gMAD pairs of the first model against every other, in both roles, none twice.

    Args:
      videos: in the pool.
      models: the student and the weak ones, at least two.
      quota: pairs wanted in all.

    Returns:
      videos, models, pairs found, seconds, peak_gb (of the whole process, imports included).
    """
    if models < 2:
        raise ValueError(f"{models} models: gMAD takes a student and at least one weak model")
    rng = np.random.default_rng(0)
    quality = rng.normal(size=videos)
    scores = quality + rng.normal(0, 0.6, (models, videos))
    ids = [f"{k:012x}-000-source-0" for k in range(videos)]
    share = -(-quota // (models - 1))
    taken: set[frozenset[str]] = set()
    found = 0
    start = time.monotonic()
    for weak in scores[1:]:
        pairs = gmad.gmad_pairs(scores[0], weak, ids, share, exclude=taken)
        taken.update(frozenset((p.first_id, p.second_id)) for p in pairs)
        found += len(pairs)
    return {
        "videos": videos,
        "models": models,
        "pairs": found,
        "seconds": time.monotonic() - start,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def table(found: dict[str, Any]) -> str:
    """The figures as one line."""
    return (
        f"{found['pairs']:,} gMAD pairs from {found['videos']:,} videos x {found['models']} models:"
        f" {found['seconds']:.1f} s, peak {found['peak_gb']:.2f} GB"
    )
