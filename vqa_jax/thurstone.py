"""Scores from preference probabilities: Thurstone case V, MAP, solved exactly (METHOD section 8).

The scores maximize sum_ij M_ij log link(q_i - q_j) - sum_i q_i^2 / 2. The problem is strictly
concave, so a damped Newton iteration reaches the one solution; it runs in float64 with numpy, over
all matrices of a batch at once (six by six each: an accelerator would only wait).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import interpolate, special

_MAX_STEPS = 100
_TOLERANCE = 1e-11


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
    terms = _LINKS[link]
    n = matrix.shape[-1]
    flat = matrix.reshape(-1, n, n)
    scores = np.zeros(flat.shape[:2])
    for _ in range(_MAX_STEPS):
        value, gradient, hessian = _posterior(flat, scores, terms)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
        scores = scores + _damping(flat, scores, step, gradient, value, terms) * step
    else:
        raise FloatingPointError("the score iteration did not converge")
    hessian = _posterior(flat, scores, terms)[2]
    variance = np.diagonal(np.linalg.inv(hessian), axis1=-2, axis2=-1)
    shape = matrix.shape[:-1]
    return scores.reshape(shape), np.sqrt(variance).reshape(shape)


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


def _posterior(matrix, scores, terms):
    """Log posterior [b], its gradient [b, n] and the negative Hessian [b, n, n]."""
    log_cdf, slope, curvature = terms(scores[:, :, None] - scores[:, None, :])
    value = (matrix * log_cdf).sum(axis=(1, 2)) - 0.5 * (scores**2).sum(axis=1)
    pull = matrix * slope
    gradient = pull.sum(axis=2) - pull.sum(axis=1) - scores
    # The diagonal compares an item with itself: a constant, so it must not enter the Hessian.
    weight = matrix * curvature
    weight = weight + weight.transpose(0, 2, 1)
    n = matrix.shape[-1]
    weight[:, np.arange(n), np.arange(n)] = 0.0
    hessian = np.eye(n) * (1.0 + weight.sum(axis=2)[:, :, None]) - weight
    return value, gradient, hessian


def _damping(matrix, scores, step, gradient, value, terms):
    """Backtracking step sizes [b, 1] that do not lower the log posterior."""
    size = np.ones((len(matrix), 1))
    promised = (step * gradient).sum(axis=1)
    for _ in range(40):
        trial = scores + size * step
        gap = trial[:, :, None] - trial[:, None, :]
        reached = (matrix * terms(gap)[0]).sum(axis=(1, 2)) - 0.5 * (trial**2).sum(axis=1)
        rounding = 1e-12 * (1 + np.abs(value))
        short = reached < value + 1e-4 * size[:, 0] * promised - rounding
        if not short.any():
            break
        size[short] *= 0.5
    return size


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
    """Matrix of n anchors and one test video, which comes last (METHOD 8).

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
class AnchorScale:
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


def anchor_scale(
    anchor_q: Sequence[float] | np.ndarray, anchor_mos: Sequence[float] | np.ndarray
) -> AnchorScale:
    """Fit the monotone map from the anchors' own q to their scores.

    Anchors that the student orders against their scores are pooled (isotonic regression) into one
    knot at the mean of both; between knots the map is a monotone cubic (PCHIP).

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
    blocks: list[tuple[float, float, int]] = []  # mean q, mean score, anchors pooled
    for i in np.lexsort((mos, q)):
        blocks.append((float(q[i]), float(mos[i]), 1))
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
    return AnchorScale(knots_q, knots_score, float(q.min()), float(q.max()))


def minmax_score(q: np.ndarray) -> np.ndarray:
    """The authors' scale: the last of [..., n + 1] scores in percent of the range of all.

    Every video above all anchors gets exactly 100 and every one below them 0; kept to reproduce
    published numbers (with `link="logistic"`), not for use.
    """
    q = np.asarray(q, np.float64)
    low, high = q.min(axis=-1), q.max(axis=-1)
    return 100 * (q[..., -1] - low) / np.maximum(high - low, 1e-12)
