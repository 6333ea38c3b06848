"""How fast comparisons become scores, and how near the exact optimum they are."""

from __future__ import annotations

import os
import platform
import resource
import time
from typing import Any

import numpy as np
from scipy import optimize, stats

from vqa_jax.scoring import thurstone

_CHECKED = 20  # problems that a general optimizer solves as well
_GRADIENT_BLOCK = 100_000


def problems(num: int, seed: int) -> np.ndarray:
    """Preference matrices [num, 6, 6]: noisy comparisons, some uninformative, some separable."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=(num, 6)) * rng.choice([0.1, 1.0, 5.0], (num, 1))
    gap = quality[:, :, None] - quality[:, None, :] + rng.normal(0.0, 0.3, (num, 6, 6))
    upper = np.triu(1 / (1 + np.exp(-gap)), 1)
    matrix = upper + np.tril(1 - upper.transpose(0, 2, 1), -1) + 0.5 * np.eye(6)
    matrix[::1000] = 0.5
    matrix[1::1000] = (gap[1::1000] > 0) + 0.0
    return matrix


def measure(num: int, seed: int) -> dict[str, Any]:
    """Solves `num` six-by-six problems.

    Returns:
      {"machine", "problems", "seconds", "cpu_seconds", "finite" (share of scores and std),
      "largest_gradient" (over all problems; it bounds the scores' error, because the negative
      Hessian is at least 1), "optimizer_error" (largest difference to scipy's BFGS), "peak_gb"}.
    """
    matrix = problems(num, seed)
    start, cpu = time.perf_counter(), time.process_time()
    scores, std = thurstone.map_scores(matrix)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    largest = max(
        _gradient_norm(matrix[k : k + _GRADIENT_BLOCK], scores[k : k + _GRADIENT_BLOCK])
        for k in range(0, num, _GRADIENT_BLOCK)
    )
    differences = []
    for k in range(min(_CHECKED, num)):
        best = optimize.minimize(
            lambda q, m=matrix[k]: -thurstone.log_posterior(m, q), np.zeros(6), tol=1e-12
        )
        differences.append(np.abs(best.x - scores[k]).max())
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "problems": num,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "finite": float((np.isfinite(scores) & np.isfinite(std)).mean()),
        "largest_gradient": largest,
        "optimizer_error": float(max(differences)),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _gradient_norm(matrix: np.ndarray, scores: np.ndarray) -> float:
    """Largest norm of the log posterior's gradient, in float64 and from all 36 entries."""
    gap = scores[:, :, None] - scores[:, None, :]
    pull = matrix * np.exp(stats.norm.logpdf(gap) - stats.norm.logcdf(gap))
    gradient = pull.sum(axis=2) - pull.sum(axis=1) - scores
    return float(np.linalg.norm(gradient, axis=1).max())


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as text."""
    return "\n".join(
        [
            f"{found['machine']}; {found['problems']} problems, peak {found['peak_gb']:.1f} GB",
            f"{found['seconds']:.1f} s ({found['cpu_seconds']:.1f} CPU s)",
            f"finite: {found['finite']:.2%}; scores within {found['largest_gradient']:.1e} of the"
            f" optimum, within {found['optimizer_error']:.1e} of a general optimizer's",
        ]
    )
