"""Fits a regression on features of rated pictures; widths and strengths are cross-validated."""

from __future__ import annotations

import numpy as np

from vqa_jax.teachers.light import folds
from vqa_jax.teachers.light.regression import REACH, Regression, design, projected

DIRECTIONS = 128  # principal directions kept of more features than that
LANDMARKS = 384
_INNER_FOLDS = 5
_WIDTHS = (0.1, 0.3, 1.0)  # gamma by one over the median squared distance
_STRENGTHS = np.geomspace(1e-3, 1e2, 11)  # of the ridge
_LINEAR = 0.1  # variance that the linear part is trusted with, by the Gaussians'
_POWER_STEPS = 4
_OVERSAMPLED = 20


def fitted(features: np.ndarray, scores: np.ndarray, group: np.ndarray, seed: int) -> Regression:
    """A regression from features to scores.

    Args:
      features: float32 [N, D].
      scores: float64 [N].
      group: [N] of pictures that inner folds keep together.
      seed: of landmarks and inner folds.
    """
    mean, scale, basis = _directions(features, seed)
    z = projected(features, mean, scale, basis)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(z))[:LANDMARKS])
    landmarks = z[chosen].astype(np.float16)
    inner = folds.folds(group, [""] * len(z), _INNER_FOLDS, seed)
    distances = _squared(z[chosen], z[chosen])
    unit = 1 / max(float(np.median(distances[np.triu_indices(len(chosen), 1)])), 1e-9)
    best = None
    for width in _WIDTHS:
        gamma = np.float32(width * unit)
        ridge = Ridge(design(z, landmarks, float(gamma)), _prior(z, landmarks, float(gamma)))
        for strength, error in zip(_STRENGTHS, ridge.errors(scores, inner), strict=True):
            if best is None or error < best[0]:
                best = (error, gamma, ridge, strength)
    assert best is not None
    _, gamma, ridge, strength = best
    weights = ridge.solved(np.arange(len(z)), scores, (strength,))[0]
    return Regression(mean, scale, basis, landmarks, weights.astype(np.float32), gamma)


def _directions(features: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and scale [D] of features, and their principal directions float16 [D, d].

    By randomized subspace iteration (Halko et al. 2011).
    """
    mean = features.mean(0, dtype=np.float64).astype(np.float32)
    deviation = features.std(0, dtype=np.float64)
    # What hardly ever changes tells nothing: it must not blow up elsewhere.
    floor = 1e-3 * max(float(np.median(deviation)), 1e-6)
    scale = np.maximum(deviation, floor).astype(np.float32)
    width = features.shape[1]
    if width <= DIRECTIONS:
        return mean, scale, np.eye(width, dtype=np.float16)
    standard = np.clip((features - mean) / scale, -REACH, REACH)
    rng = np.random.default_rng(seed)
    span = rng.standard_normal((width, min(DIRECTIONS + _OVERSAMPLED, width))).astype(np.float32)
    for _ in range(_POWER_STEPS):
        span = np.linalg.qr(standard.T @ (standard @ span))[0]
    seen = standard @ span
    turned = np.linalg.eigh(seen.T @ seen)[1][:, ::-1][:, :DIRECTIONS]
    return mean, scale, (span @ turned).astype(np.float16)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def _prior(z: np.ndarray, landmarks: np.ndarray, gamma: float) -> np.ndarray:
    """Precision [m + d + 1, m + d + 1] of the weights: the kernel's norm, and the linear part's."""
    count, width = landmarks.shape
    total = np.zeros((count + width + 1,) * 2)
    total[:count, :count] = design(landmarks, landmarks, gamma)[:, :count]
    spread = float(np.mean((z.astype(np.float64) ** 2).sum(1)))
    places = np.arange(count, count + width)
    total[places, places] = spread / _LINEAR
    total[np.arange(count), np.arange(count)] += 1e-6
    return total


class Ridge:
    """Penalized least squares for many strengths at once.

    Args:
      columns: [N, K], the last of them ones, which are not penalized.
      prior: [K, K] penalty.
    """

    def __init__(self, columns: np.ndarray, prior: np.ndarray):
        root = np.linalg.cholesky(prior[:-1, :-1])
        # In these coordinates the penalty is the plain square of the weights.
        self._back = np.linalg.inv(root).T
        self._columns = columns[:, :-1] @ self._back

    def solved(
        self, rows: np.ndarray, scores: np.ndarray, strengths: np.ndarray | tuple[float, ...]
    ) -> np.ndarray:
        """Weights [strengths, K] of the original columns, fitted on some rows."""
        turned = self._solved(rows, scores, strengths)
        return np.concatenate([turned[:, :-1] @ self._back.T, turned[:, -1:]], axis=1)

    def _solved(
        self, rows: np.ndarray, scores: np.ndarray, strengths: np.ndarray | tuple[float, ...]
    ) -> np.ndarray:
        x, y = self._columns[rows], scores[rows]
        centre, level = x.mean(0), y.mean()
        x = x - centre
        values, vectors = np.linalg.eigh(x.T @ x)
        seen = vectors.T @ (x.T @ (y - level))
        shrunk = [seen / (np.maximum(values, 0) + strength) for strength in strengths]
        weights = np.stack(shrunk) @ vectors.T
        return np.concatenate([weights, level - weights @ centre[:, None]], axis=1)

    def errors(self, scores: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Mean squared errors [strengths] on rows left out, fold by fold."""
        total = np.zeros(len(_STRENGTHS))
        for k in np.unique(fold):
            weights = self._solved(np.flatnonzero(fold != k), scores, _STRENGTHS)
            out = np.flatnonzero(fold == k)
            found = self._columns[out] @ weights[:, :-1].T + weights[:, -1]
            total += ((found - scores[out, None]) ** 2).sum(0)
        return total / len(scores)
