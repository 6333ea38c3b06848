"""A regression on features: principal directions, then ridge on a few Gaussians and on themselves.

score = bias + sum_m w_m exp(-gamma |z - l_m|^2) + v . z with z the standardized features, turned
into principal directions. The Gaussians stand on chosen pictures ("landmarks"; Williams and Seeger
2001), so that a file is small; the linear part goes on where pictures are far from all of them and
Gaussians would fall back to the mean.
"""

from __future__ import annotations

import dataclasses

import numpy as np

REACH = 8.0  # deviations; features of odd pictures lie no farther out


@dataclasses.dataclass(frozen=True, eq=False)
class Regression:
    """A fitted regression. What is stored in half precision was rounded before the fit.

    Attributes:
      mean, scale: float32 [D] of the features.
      basis: float16 [D, d] directions.
      landmarks: float16 [m, d].
      weights: float32 [m + d + 1], of Gaussians, of directions, and the bias.
      gamma: float32 [], of the Gaussians.
    """

    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    landmarks: np.ndarray
    weights: np.ndarray
    gamma: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Scores float64 [N] of features [N, D]."""
        z = projected(features, self.mean, self.scale, self.basis)
        return design(z, self.landmarks, float(self.gamma)) @ self.weights.astype(np.float64)

    def tensors(self) -> dict[str, np.ndarray]:
        """Everything, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def projected(
    features: np.ndarray, mean: np.ndarray, scale: np.ndarray, basis: np.ndarray
) -> np.ndarray:
    """Features [N, D] -> directions float32 [N, d]."""
    standard = np.clip((features.astype(np.float32) - mean) / scale, -REACH, REACH)
    return standard @ basis.astype(np.float32)


def design(z: np.ndarray, landmarks: np.ndarray, gamma: float) -> np.ndarray:
    """Columns of the ridge, float64 [N, m + d + 1]: Gaussians, directions, one."""
    wide, centres = z.astype(np.float64), landmarks.astype(np.float64)
    squared = (wide**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * wide @ centres.T
    return np.concatenate(
        [np.exp(-gamma * np.maximum(squared, 0)), wide, np.ones((len(z), 1))], axis=1
    )
