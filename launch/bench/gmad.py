"""What gMAD takes at pool size: one student against weak models, made-up scores."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from vqa_jax.pairs import gmad


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
    names = [f"weak {k}" for k in range(1, models)]
    start = time.monotonic()
    found = gmad.against_all(scores[0], scores[1:].T, names, ids, quota)
    return {
        "videos": videos,
        "models": models,
        "pairs": len(found),
        "seconds": time.monotonic() - start,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def table(found: dict[str, Any]) -> str:
    """The figures as one line."""
    return (
        f"{found['pairs']:,} gMAD pairs from {found['videos']:,} videos x {found['models']} models:"
        f" {found['seconds']:.1f} s, peak {found['peak_gb']:.2f} GB"
    )
