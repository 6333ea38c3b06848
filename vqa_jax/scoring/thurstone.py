"""Scores from preference probabilities: Thurstone case V, MAP, solved exactly (method 8).

The scores maximize sum_ij M_ij log link(q_i - q_j) - sum_i q_i^2 / 2. The problem is strictly
concave, so a damped Newton iteration reaches the one solution; it runs in float64 with numpy, over
blocks of matrices that fit a core's cache (six by six each: an accelerator would only wait).
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import os
from collections.abc import Callable, Sequence

import numpy as np
from scipy import interpolate, special

_MAX_STEPS = 100
_LAST_STEP = 1e-7  # Newton's error is squared: after so small a step it is rounding
_BLOCK = 1024  # problems that are solved together; one pair's numbers for them are 8 kB
_GROUPS = 6  # of anchors, where there are twice as many and more


def map_scores(matrix: np.ndarray, link: str = "normal") -> tuple[np.ndarray, np.ndarray]:
    """Most probable scores under a unit normal prior, and their standard deviations.

    Args:
      matrix: [..., n, n], entry [i, j] = probability (0..1) that i is preferred to j.
      link: "normal" (Thurstone case V) or "logistic" (the sigmoid in its place).

    Returns:
      (scores [..., n], std [..., n]) float64. Higher is better; scores sum to 0 by themselves. std
      is the square root of the diagonal of the inverse Hessian of the negative log posterior
      (prior included, no sum constraint).

    Raises:
      ValueError: not square, entries outside 0..1 or not finite, unknown link.
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise ValueError(f"a preference matrix is [..., n, n], got {matrix.shape}")
    if not np.isfinite(matrix).all() or (matrix < 0).any() or (matrix > 1).any():
        raise ValueError("preference probabilities must be finite and in 0..1")
    if link not in _LINKS:
        raise ValueError(f"link must be one of {', '.join(_LINKS)}, got {link!r}")
    n = matrix.shape[-1]
    flat = matrix.reshape(-1, n * n)
    scores, std = np.empty((len(flat), n)), np.empty((len(flat), n))

    def solve(start: int) -> None:
        rows = slice(start, start + _BLOCK)
        # Problems along the last axis, so that every operation runs over neighbours in memory.
        block = np.ascontiguousarray(flat[rows].T).reshape(n, n, -1)
        found, variance = _solve_block(block, _LINKS[link])
        scores[rows], std[rows] = found.T, np.sqrt(variance.T)

    # Numpy works outside of the interpreter's lock.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(solve, range(0, len(flat), _BLOCK)))
    shape = matrix.shape[:-1]
    return scores.reshape(shape), std.reshape(shape)


def log_posterior(matrix: np.ndarray, scores: np.ndarray, link: str = "normal") -> np.ndarray:
    """What `map_scores` maximizes: [...] for matrix [..., n, n] and scores [..., n]."""
    gap = scores[..., :, None] - scores[..., None, :]
    likelihood = (matrix * _LINKS[link](gap)[0]).sum(axis=(-2, -1))
    return likelihood - 0.5 * (np.asarray(scores) ** 2).sum(axis=-1)


def _normal_terms(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log Phi(x), its derivative and the negative of its second derivative."""
    log_cdf = special.log_ndtr(x)
    # phi / Phi through logarithms: both vanish together for separable matrices.
    slope = np.exp(-0.5 * x * x - 0.5 * math.log(2 * math.pi) - log_cdf)
    return log_cdf, slope, slope * (slope + x)


def _logistic_terms(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log sigmoid(x), its derivative and the negative of its second derivative."""
    slope = special.expit(-x)
    return special.log_expit(x), slope, slope * (1 - slope)


_LINKS = {"normal": _normal_terms, "logistic": _logistic_terms}
_Terms = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def _posterior(
    wins: np.ndarray, losses: np.ndarray, scores: np.ndarray, signs: np.ndarray, terms: _Terms
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log posterior [b], its gradient [n, b] and the pairs' weights [p, b] in the Hessian."""
    gap = signs.T @ scores
    log_win, slope_win, curvature_win = terms(gap)
    log_loss, slope_loss, curvature_loss = terms(-gap)
    value = (wins * log_win + losses * log_loss).sum(axis=0) - 0.5 * (scores**2).sum(axis=0)
    gradient = signs @ (wins * slope_win - losses * slope_loss) - scores
    return value, gradient, wins * curvature_win + losses * curvature_loss


def _solve_block(matrix: np.ndarray, terms: _Terms) -> tuple[np.ndarray, np.ndarray]:
    """Scores and their variances [n, b] of matrices [n, n, b]; converged ones are left alone."""
    n, _, count = matrix.shape
    first, second = np.triu_indices(n, 1)
    signs = np.zeros((n, len(first)))  # +1 where a pair's first item is, -1 at its second
    signs[first, np.arange(len(first))], signs[second, np.arange(len(first))] = 1.0, -1.0
    wins, losses = matrix[first, second], matrix[second, first]
    scores, variance = np.empty((n, count)), np.empty((n, count))
    rows, now = np.arange(count), np.zeros((n, count))  # problems at work and their scores
    value, gradient, weights = _posterior(wins, losses, now, signs, terms)
    for _ in range(_MAX_STEPS):
        factor = _cholesky(weights, signs)
        step = _substitute(factor, gradient)
        going = np.abs(step).max(axis=0) >= _LAST_STEP
        done = ~going
        scores[:, rows[done]] = (now + step)[:, done]
        variance[:, rows[done]] = _inverse_diagonal(factor[..., done])
        if done.all():
            return scores, variance
        rows, wins, losses, now = rows[going], wins[:, going], losses[:, going], now[:, going]
        value, gradient, step = value[going], gradient[:, going], step[:, going]
        promised = 1e-4 * (step * gradient).sum(axis=0)
        size = np.ones(len(rows))
        rounding = 1e-12 * (1 + np.abs(value))
        found = _posterior(wins, losses, now + step, signs, terms)
        for _ in range(40):
            short = found[0] < value + size * promised - rounding
            if not short.any():
                break
            size[short] *= 0.5
            trial = now[:, short] + size[short] * step[:, short]
            again = _posterior(wins[:, short], losses[:, short], trial, signs, terms)
            for kept, new in zip(found, again, strict=True):
                kept[..., short] = new
        now = now + size * step
        value, gradient, weights = found
    raise FloatingPointError("the score iteration did not converge")


def _cholesky(weights: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Lower factor [n, n, b] of the negative Hessian, 1 + sum of weights on its diagonal."""
    n = len(signs)
    first, second = np.triu_indices(n, 1)
    factor = np.zeros((n, n, weights.shape[1]))
    factor[second, first] = -weights
    factor[np.arange(n), np.arange(n)] = 1.0 + np.abs(signs) @ weights
    for j in range(n):
        factor[j:, j] -= np.einsum("ikb,kb->ib", factor[j:, :j], factor[j, :j])
        factor[j, j] = np.sqrt(factor[j, j])
        factor[j + 1 :, j] /= factor[j, j]
    return factor


def _substitute(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution [n, b] of (factor times its transpose) x = right."""
    x = right.copy()
    for j in range(len(x)):
        x[j] = (x[j] - np.einsum("kb,kb->b", factor[j, :j], x[:j])) / factor[j, j]
    for j in reversed(range(len(x))):
        x[j] = (x[j] - np.einsum("kb,kb->b", factor[j + 1 :, j], x[j + 1 :])) / factor[j, j]
    return x


def _inverse_diagonal(factor: np.ndarray) -> np.ndarray:
    """Diagonal [n, b] of the inverse of factor times its transpose."""
    inverse = np.zeros_like(factor)
    for j in range(len(factor)):
        inverse[j, j] = 1.0
        inverse[j] -= np.einsum("kb,kcb->cb", factor[j, :j], inverse[:j])
        inverse[j] /= factor[j, j]
    return np.einsum("jcb,jcb->cb", inverse, inverse)


def average_orders(preferences: np.ndarray) -> np.ndarray:
    """Anchors' matrix from all ordered pairs, averaged over both orders.

    Args:
      preferences: [n, n], entry [i, j] = probability that the second video is preferred when i is
        shown first and j second. The diagonal is ignored.

    Returns:
      [n, n], entry [i, j] = probability that i is preferred to j; 0.5 on the diagonal.
    """
    preferences = np.asarray(preferences, np.float64)
    matrix = 0.5 * (preferences.T + 1 - preferences)
    np.fill_diagonal(matrix, 0.5)
    return matrix


def preference_matrix(test_vs_anchor: np.ndarray, anchor_matrix: np.ndarray) -> np.ndarray:
    """Matrix of n anchors and one test video, which comes last (method 8).

    Args:
      test_vs_anchor: [..., n] probability that the test video is preferred to each anchor (shown
        second; the anchor comes first in the prompt).
      anchor_matrix: [n, n] probability that anchor i is preferred to anchor j.

    Returns:
      float64 [..., n + 1, n + 1]: M[test, anchor] = p, M[anchor, test] = 1 - p, 0.5 on the
      diagonal.
    """
    probs = np.asarray(test_vs_anchor, np.float64)
    anchors = np.asarray(anchor_matrix, np.float64)
    n = anchors.shape[0]
    if anchors.shape != (n, n) or probs.shape[-1:] != (n,):
        raise ValueError(f"{anchors.shape} anchors do not fit {probs.shape} probabilities")
    matrix = np.full((*probs.shape[:-1], n + 1, n + 1), 0.5)
    matrix[..., :n, :n] = anchors
    matrix[..., n, :n] = probs
    matrix[..., :n, n] = 1 - probs
    diagonal = np.arange(n + 1)
    matrix[..., diagonal, diagonal] = 0.5
    return matrix


@dataclasses.dataclass(frozen=True)
class ScoreMap:
    """Monotone map from q to the anchors' scale; linear, and flagged, beyond the anchors.

    Attributes:
      knots_q: increasing q of the knots.
      knots_score: increasing scores there, on the anchors' scale.
      low_q: lowest anchor q; below it a score is extrapolated.
      high_q: highest anchor q; above it a score is extrapolated.
    """

    knots_q: tuple[float, ...]
    knots_score: tuple[float, ...]
    low_q: float
    high_q: float

    def apply(self, q: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Scores on the anchors' scale and whether each is extrapolated.

        Args:
          q: [...] solved scores.

        Returns:
          (score float64 [...], extrapolated bool [...]).
        """
        q = np.asarray(q, np.float64)
        x, y = np.asarray(self.knots_q), np.asarray(self.knots_score)
        score = interpolate.PchipInterpolator(x, y)(np.clip(q, x[0], x[-1]))
        score = score + np.minimum(q - x[0], 0) * (y[1] - y[0]) / (x[1] - x[0])
        score = score + np.maximum(q - x[-1], 0) * (y[-1] - y[-2]) / (x[-1] - x[-2])
        return score, (q < self.low_q) | (q > self.high_q)

    def slope(self, q: np.ndarray | float) -> np.ndarray:
        """Derivative of the score by q [...], that turns the std of q into one of the score."""
        q = np.asarray(q, np.float64)
        step = 1e-4 * (self.knots_q[-1] - self.knots_q[0])
        return (self.apply(q + step)[0] - self.apply(q - step)[0]) / (2 * step)


def fit_score_map(
    anchor_q: Sequence[float] | np.ndarray, anchor_mos: Sequence[float] | np.ndarray
) -> ScoreMap:
    """Fit the monotone map from the anchors' own q to their scores.

    Anchors that the student orders against their scores are pooled (isotonic regression) into one
    knot at the mean of both; between knots the map is a monotone cubic (PCHIP). Of twelve anchors
    and more, groups of neighbours are averaged first: through each of them the map would have
    steps, where two views of one video, hardly different in q, part.

    Args:
      anchor_q: [n] solved scores of the anchors among themselves.
      anchor_mos: [n] their scores on the wanted scale, higher is better.

    Raises:
      ValueError: fewer than two anchors, or the student orders them so badly against their
        scores that no increasing map is left.
    """
    q = np.asarray(anchor_q, np.float64)
    mos = np.asarray(anchor_mos, np.float64)
    if q.ndim != 1 or q.shape != mos.shape or len(q) < 2:
        raise ValueError(f"need at least two anchors with q and score: {q.shape}, {mos.shape}")
    if not (np.isfinite(q).all() and np.isfinite(mos).all()):
        raise ValueError("anchors' q and scores must be finite")
    groups = len(q) if len(q) < 2 * _GROUPS else _GROUPS
    blocks: list[tuple[float, float, int]] = []  # mean q, mean score, anchors pooled
    for group in np.array_split(np.lexsort((mos, q)), groups):
        blocks.append((float(q[group].mean()), float(mos[group].mean()), len(group)))
        while len(blocks) > 1 and (
            blocks[-1][1] <= blocks[-2][1] or blocks[-1][0] <= blocks[-2][0]
        ):
            (q2, s2, n2), (q1, s1, n1) = blocks.pop(), blocks.pop()
            total = n1 + n2
            blocks.append(((n1 * q1 + n2 * q2) / total, (n1 * s1 + n2 * s2) / total, total))
    if len(blocks) < 2:
        raise ValueError(
            "the student orders the anchors against their scores: choose other anchors or train on"
        )
    knots_q, knots_score, _ = zip(*blocks, strict=True)
    return ScoreMap(knots_q, knots_score, float(q.min()), float(q.max()))


def minmax_score(q: np.ndarray) -> np.ndarray:
    """The authors' scale: the last of [..., n + 1] scores in percent of the range of all.

    Every video above all anchors gets exactly 100 and every one below them 0; kept to reproduce
    published numbers (with `link="logistic"`), not for use.
    """
    q = np.asarray(q, np.float64)
    low, high = q.min(axis=-1), q.max(axis=-1)
    return 100 * (q[..., -1] - low) / np.maximum(high - low, 1e-12)
