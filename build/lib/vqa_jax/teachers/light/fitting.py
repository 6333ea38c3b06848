"""Fits regressions on features of rated pictures; widths and strengths are cross-validated."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import linalg

from vqa_jax.teachers.light.regression import REACH, Regression, design, projected

_WIDTHS = (0.1, 0.3, 1.0)  # gamma by one over the median squared distance
_STRENGTHS = np.geomspace(1e-3, 1e2, 11)  # of the ridge
_LINEAR = 0.1  # variance that the linear part is trusted with, by the Gaussians'


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of the pictures a regression keeps.

    Attributes:
      directions: principal ones, of more features than that.
      landmarks: pictures on which Gaussians stand, of more pictures than that.
    """

    directions: int
    landmarks: int


SHIPPED = Size(256, 512)
VOTING = Size(512, 4096)  # of the folds, which stay where the corpus is: as good as it gets


@dataclasses.dataclass(frozen=True)
class Shape:
    """What cross-validation chose.

    Attributes:
      width: gamma by one over the median squared distance of landmarks.
      strength: of the ridge.
    """

    width: float
    strength: float


def chosen_shape(features: np.ndarray, scores: np.ndarray, balance: np.ndarray, seed: int) -> Shape:
    """The shape that does best on pictures left out one by one, at the size of shipped
    regressions; arguments as of `fitted`."""
    basis = _Basis.of(features, balance, SHIPPED, seed)
    best = None
    for width in _WIDTHS:
        gamma = width * basis.unit
        columns = design(basis.z, basis.landmarks, gamma)[:, :-1]
        errors = left_out_errors(columns, _prior(basis.z, basis.landmarks, gamma), scores)
        for strength, error in zip(_STRENGTHS, errors, strict=True):
            if best is None or error < best[0]:
                best = (error, Shape(width, float(strength)))
    assert best is not None
    return best[1]


def fitted(
    features: np.ndarray,
    scores: np.ndarray,
    balance: np.ndarray,
    shape: Shape,
    size: Size,
    seed: int,
) -> Regression:
    """A regression from features to scores.

    Args:
      features: float32 [N, D].
      scores: float64 [N].
      balance: float32 [D], what each standardized feature weighs.
      shape: of the kernel and the ridge.
      size: how much it keeps.
      seed: of landmarks.
    """
    basis = _Basis.of(features, balance, size, seed)
    gamma = np.float32(shape.width * basis.unit)
    columns = design(basis.z, basis.landmarks, float(gamma))[:, :-1]
    centre, level = columns.mean(0), scores.mean()
    columns -= centre
    prior = _prior(basis.z, basis.landmarks, float(gamma))
    normal = columns.T @ columns + shape.strength * prior
    weights = linalg.solve(normal, columns.T @ (scores - level), assume_a="pos")
    weights = np.append(weights, level - weights @ centre).astype(np.float32)
    return Regression(basis.mean, basis.scale, basis.basis, basis.landmarks, weights, gamma)


@dataclasses.dataclass(frozen=True, eq=False)
class _Basis:
    """Features seen from their principal directions.

    Attributes:
      mean, scale, basis: see `Regression`.
      z: float32 [N, d] projected features.
      landmarks: float16 [m, d], some of them.
      unit: one over the median squared distance of landmarks.
    """

    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    z: np.ndarray
    landmarks: np.ndarray
    unit: float

    @classmethod
    def of(cls, features: np.ndarray, balance: np.ndarray, size: Size, seed: int) -> _Basis:
        """By all of the features."""
        mean, scale, basis = _directions(features, balance, size.directions)
        z = projected(features, mean, scale, basis)
        places = np.random.default_rng(seed).permutation(len(z))[: size.landmarks]
        chosen = z[np.sort(places)]
        distances = _squared(chosen, chosen)[np.triu_indices(len(chosen), 1)]
        unit = 1 / max(float(np.median(distances)), 1e-9)
        return cls(mean, scale, basis, z, chosen.astype(np.float16), unit)


def _directions(
    features: np.ndarray, balance: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and scale [D] of features, and their principal directions float16 [D, d]."""
    mean = features.mean(0, dtype=np.float64).astype(np.float32)
    deviation = features.std(0, dtype=np.float64)
    # What hardly ever changes tells nothing: it must not blow up elsewhere.
    floor = 1e-3 * max(float(np.median(deviation)), 1e-6)
    scale = np.maximum(deviation, floor).astype(np.float32)
    width = features.shape[1]
    if width <= most:
        return mean, scale, np.diag(balance).astype(np.float16)
    standard = np.clip((features - mean) / scale, -REACH, REACH) * balance
    # Of the smaller of the two matrices of products, which have the same values.
    few = len(features) < width
    products = standard @ standard.T if few else standard.T @ standard
    last = (len(products) - min(most, len(products)), len(products) - 1)
    vectors = linalg.eigh(products, subset_by_index=last)[1]
    if few:
        vectors = standard.T @ vectors
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), 1e-9)
    return mean, scale, (balance[:, None] * vectors).astype(np.float16)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def _prior(z: np.ndarray, landmarks: np.ndarray, gamma: float) -> np.ndarray:
    """Precision [m + d, m + d] of the weights: the kernel's norm, and the linear part's."""
    count, width = landmarks.shape
    total = np.zeros((count + width,) * 2)
    total[:count, :count] = design(landmarks, landmarks, gamma)[:, :count]
    spread = float(np.mean((z.astype(np.float64) ** 2).sum(1)))
    places = np.arange(count, count + width)
    total[places, places] = spread / _LINEAR
    total[np.arange(count), np.arange(count)] += 1e-6
    return total


def left_out_errors(columns: np.ndarray, prior: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Mean squared errors on rows that penalized least squares did not see, one left out a time.

    In closed form, from the residuals and leverages of one fit to all rows (Golub et al. 1979).

    Args:
      columns: [N, K]; a free bias is added.
      prior: [K, K] penalty of the weights.
      scores: [N].

    Returns:
      [len(_STRENGTHS)], of the strengths that the penalty is multiplied by.
    """
    # In these coordinates the penalty is the plain square of the weights.
    x = linalg.solve_triangular(np.linalg.cholesky(prior), columns.T, lower=True).T
    x, y = x - x.mean(0), scores - scores.mean()
    values, vectors = np.linalg.eigh(x.T @ x)
    turned = x @ vectors
    shrunk = 1 / (np.maximum(values, 0)[:, None] + _STRENGTHS)
    residuals = y[:, None] - turned @ (shrunk * (turned.T @ y)[:, None])
    leverages = 1 / len(x) + np.square(turned) @ shrunk
    return np.square(residuals / (1 - leverages)).mean(0)
