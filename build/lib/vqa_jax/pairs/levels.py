"""The five answer levels: words, weights, and how a pair gets one (method 1 and 3).

Every level describes the *second* video of a pair in comparison with the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, softmax

LEVELS = ("inferior", "worse", "similar", "better", "superior")
"""The levels, worst to best."""

LEVEL_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weight of each level in the probability that the second video is preferred."""


def level_index(label: str) -> int:
    """Position of `label` in `LEVELS`; ValueError for any other word."""
    try:
        return LEVELS.index(label)
    except ValueError:
        raise ValueError(f"unknown level {label!r}; the levels are {', '.join(LEVELS)}") from None


def mirror(label: str) -> str:
    """Label of the pair (B, A) when (A, B) has `label`."""
    return LEVELS[len(LEVELS) - 1 - level_index(label)]


def teacher_margin(
    first_scores: Sequence[float] | np.ndarray,
    second_scores: Sequence[float] | np.ndarray,
    std_floor: float = 0.0,
) -> tuple[float, float]:
    """Difference of the teachers' means and its standard deviation (method 3.1).

    Args:
      first_scores: scores of the first video over teachers [J], one scale, higher is better.
      second_scores: the same for the second video [J].
      std_floor: the standard deviation is at least this. With one teacher it would be 0, and no
        pair would ever be `similar`.

    Returns:
      (D, s_D): D = mean(second) - mean(first), s_D = max(sqrt(s_A^2 + s_B^2), std_floor) with
      population variances.
    """
    first = np.asarray(first_scores, np.float64)
    second = np.asarray(second_scores, np.float64)
    if first.ndim != 1 or first.shape != second.shape or first.size == 0:
        raise ValueError(f"need two equal non-empty rows of scores: {first.shape}, {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("teacher scores must be finite; drop videos with missing scores first")
    difference = second.mean() - first.mean()
    std = np.sqrt(first.var() + second.var())
    return float(difference), float(max(std, std_floor))


def levels_from_margins(difference: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Levels of pairs from D and s_D (method 3.1), as indices of `LEVELS`.

    Args:
      difference: D, of any shape; where it is 0 the pair is `similar`, whatever s_D.
      std: s_D >= 0, of the same shape.

    Returns:
      int8 of that shape.
    """
    above = [difference > bound * std for bound in (2, 1, -1, -2)]
    found = np.select(above, [4, 3, 2, 1], 0)
    return np.where(difference == 0, 2, found).astype(np.int8)


def label_from_margin(difference: float, std: float) -> str:
    """Level of one pair; see `levels_from_margins`."""
    return LEVELS[int(levels_from_margins(np.float64(difference), np.float64(std)))]


def label_from_teachers(
    first_scores: Sequence[float] | np.ndarray,
    second_scores: Sequence[float] | np.ndarray,
    std_floor: float = 0.0,
) -> str:
    """Level of a pair from the scores of several teachers; arguments as in `teacher_margin`."""
    return label_from_margin(*teacher_margin(first_scores, second_scores, std_floor))


def label_from_severity(first: int, second: int) -> str:
    """Level of two simulated versions of one source (method 3.2).

    Args:
      first: severity number of the first version; 0 is the source, higher is more distorted.
      second: severity number of the second version.

    Returns:
      One step apart: better/worse; further apart: superior/inferior; never `similar`.

    Raises:
      ValueError: equal severities (such a pair has no label) or a negative one.
    """
    if first < 0 or second < 0:
        raise ValueError(f"severity numbers start at 0, got {first} and {second}")
    if first == second:
        raise ValueError(f"both versions have severity {first}: such a pair has no label")
    if second < first:
        return "better" if first - second == 1 else "superior"
    return "worse" if second - first == 1 else "inferior"


def level_probs(label: str) -> np.ndarray:
    """One-hot float32 [5] of `label`, in the order of `LEVELS`."""
    probs = np.zeros(len(LEVELS), np.float32)
    probs[level_index(label)] = 1.0
    return probs


def chances(normalized_margin: np.ndarray | float) -> np.ndarray:
    """Chance of every level where D is known up to its deviation alone [beyond the paper].

    Args:
      normalized_margin: D / s_D, of any shape.

    Returns:
      float32 [..., 5], in the order of `LEVELS`: what a normal distribution around it, with
      deviation 1, has between the bounds of method 3.1.
    """
    bounds = np.array([-np.inf, -2, -1, 1, 2, np.inf])
    below = ndtr(bounds - np.asarray(normalized_margin, np.float64)[..., None])
    return np.diff(below).astype(np.float32)


def preference(level_logits: np.ndarray, tau: float = 1.0) -> np.ndarray:
    """Probability that the second video is preferred (method 8).

    Args:
      level_logits: logits of the five levels [..., 5], in the order of `LEVELS`.
      tau: temperature, > 0.

    Returns:
      float64 [...] in 0..1: sum over levels of weight * softmax(logits / tau).
    """
    logits = np.asarray(level_logits, np.float64)
    if logits.shape[-1:] != (len(LEVELS),):
        raise ValueError(f"level logits must end in {len(LEVELS)} levels, got {logits.shape}")
    if tau <= 0:
        raise ValueError(f"tau must be positive, got {tau}")
    logits = (logits - logits.max(axis=-1, keepdims=True)) / tau
    probs = np.exp(logits)
    probs /= probs.sum(axis=-1, keepdims=True)
    return probs @ np.asarray(LEVEL_WEIGHTS)


def posterior(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Level probabilities [n, 5] of the second video, averaged over both orders of the pair.

    Args:
      forward: level logits [n, 5] as given.
      backward: level logits [n, 5] of the swapped pairs; their levels are mirrored.
    """
    return 0.5 * (softmax(forward, axis=-1) + softmax(backward, axis=-1)[:, ::-1])


def order_consistent(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Probability [n] that the second video is better, from both orders of the pair."""
    return 0.5 * (preference(forward) + 1.0 - preference(backward))
