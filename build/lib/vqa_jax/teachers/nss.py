"""Natural scene statistics: 36 features of a picture and their distribution on good photographs.

Features as in Mittal et al. 2012 (BRISQUE) and 2013 (NIQE): locally normalized luminance and its
products with four neighbours follow generalized Gaussians in pristine photographs; distortions
change their parameters. Two scales of 18 features each.

The distribution shipped in `assets/niqe_pristine.npz` was fitted on the photographs that
scikit-image and scikit-learn carry; to make it anew:

    python -m vqa_jax.teachers.nss vqa_jax/assets/niqe_pristine.npz
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from scipy import special

PATCH = 96  # side at full scale, as in NIQE
MIN_SIDE = 32  # smaller pictures are enlarged to this

_ASSET = pathlib.Path(__file__).parents[1] / "assets" / "niqe_pristine.npz"
_SHARP_SHARE = 0.75  # NIQE fits on patches at least this sharp relative to the sharpest one
_FIT_SCALES = (1.0, 0.75, 0.5)
_SHRINKAGE = 0.2  # of the correlations towards none
_ALPHAS = np.linspace(0.2, 10, 2000)
_RATIOS = np.exp(
    2 * special.gammaln(2 / _ALPHAS) - special.gammaln(1 / _ALPHAS) - special.gammaln(3 / _ALPHAS)
)
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclasses.dataclass(frozen=True)
class Pristine:
    """Distribution of the features on pristine photographs.

    Attributes:
      patch_mean: [36] mean over sharp patches.
      patch_cov: [36, 36] covariance over sharp patches.
      frame_mean: [36] mean over whole pictures.
      frame_std: [36] standard deviation over whole pictures.
    """

    patch_mean: np.ndarray
    patch_cov: np.ndarray
    frame_mean: np.ndarray
    frame_std: np.ndarray


def luma(frame: np.ndarray) -> np.ndarray:
    """Gray float32 [H, W] in 0..255 of uint8 RGB [H, W, 3], enlarged to at least MIN_SIDE."""
    gray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    if min(height, width) < MIN_SIDE:
        size = (max(width, MIN_SIDE), max(height, MIN_SIDE))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_LINEAR)
    return gray.astype(np.float32)


def normalize(gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean-subtracted, contrast-normalized coefficients and local deviation, both [H, W]."""
    shifted = gray - 128.0  # keeps the squares small: float32 would cancel badly on bright areas
    mean = cv2.GaussianBlur(shifted, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE)
    square = cv2.GaussianBlur(shifted * shifted, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    return (shifted - mean) / (deviation + 1), deviation


def _blocks(picture: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """Non-overlapping blocks [N, side, side]; the rest at the right and bottom is left out."""
    rows, columns = picture.shape[0] // side[0], picture.shape[1] // side[1]
    cut = picture[: rows * side[0], : columns * side[1]]
    cut = cut.reshape(rows, side[0], columns, side[1]).swapaxes(1, 2)
    return np.ascontiguousarray(cut).reshape(rows * columns, *side)


def _shape_features(blocks: np.ndarray) -> np.ndarray:
    """18 generalized-Gaussian parameters of each block [N, h, w] -> [N, 18]."""
    n = len(blocks)
    flat = blocks.reshape(n, -1)
    variance = np.einsum("np,np->n", flat, flat) / flat.shape[1] + 1e-10
    magnitude = np.abs(flat).mean(axis=1)
    features = [np.interp(magnitude**2 / variance, _RATIOS, _ALPHAS), variance]
    height, width = blocks.shape[1:]
    for down, right in _SHIFTS:
        here = blocks[:, : height - down, max(-right, 0) : width - max(right, 0)]
        there = blocks[:, down:, max(right, 0) : width - max(-right, 0)]
        features += _asymmetric(np.multiply(here, there).reshape(n, -1))
    return np.stack(features, axis=1).astype(np.float64)


def _asymmetric(x: np.ndarray) -> list[np.ndarray]:
    """Shape, mean, left and right variance of the asymmetric generalized Gaussian, each [N]."""
    size = x.shape[1]
    positive = np.maximum(x, 0)
    square = np.einsum("np,np->n", x, x) / size + 1e-12
    right_square = np.einsum("np,np->n", positive, positive) / size
    mean_positive, mean = positive.mean(axis=1), x.mean(axis=1)
    magnitude = 2 * mean_positive - mean
    share_right = np.count_nonzero(positive, axis=1) / size
    left = np.sqrt(np.maximum(square - right_square, 1e-12) / np.maximum(1 - share_right, 1e-6))
    right = np.sqrt(np.maximum(right_square, 1e-12) / np.maximum(share_right, 1e-6))
    g = left / right
    ratio = magnitude**2 / square * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    alpha = np.interp(ratio, _RATIOS, _ALPHAS)
    one, two, three = (special.gammaln(k / alpha) for k in (1, 2, 3))
    centre = (right - left) * np.exp(two - 0.5 * (one + three))
    return [alpha, centre, left**2, right**2]


def features(gray: np.ndarray, patch: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Features of the patches of a picture, or of the picture as a whole.

    Args:
      gray: float32 [H, W] in 0..255, sides at least MIN_SIDE (see `luma`).
      patch: side of a patch (shortened to the picture's even side), or None for the whole.

    Returns:
      (features [N, 36], sharpness [N] = mean local deviation at full scale).
    """
    height, width = (side - side % 2 for side in gray.shape)
    gray = np.ascontiguousarray(gray[:height, :width])
    side = (height, width) if patch is None else (min(patch, height), min(patch, width))
    coefficients, deviation = normalize(gray)
    half = cv2.resize(gray, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    half_coefficients, _ = normalize(half)
    full = _shape_features(_blocks(coefficients, side))
    coarse = _shape_features(_blocks(half_coefficients, (side[0] // 2, side[1] // 2)))
    sharpness = _blocks(deviation, side).mean(axis=(1, 2))
    return np.concatenate([full, coarse], axis=1), sharpness


def fit_pristine(photographs: Sequence[np.ndarray]) -> Pristine:
    """Fit the distribution on pristine photographs, each at three sizes.

    Args:
      photographs: uint8 RGB [H, W, 3], sides of at least 240 pixels.
    """
    patches, frames = [], []
    for photograph in photographs:
        gray = luma(photograph)
        for scale in _FIT_SCALES:
            picture = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            for offset in (0, PATCH // 2):  # overlapping patches: the photographs are few
                found, sharpness = features(picture[offset:, offset:], PATCH)
                patches.append(found[sharpness > _SHARP_SHARE * sharpness.max()])
            side = tuple(min(2 * PATCH, s) for s in picture.shape)
            frames += [features(window, None)[0] for window in _blocks(picture, side)]
    patches, frames = np.concatenate(patches), np.concatenate(frames)
    # Few photographs know little about correlations of 36 features: shrink them, or directions of
    # nearly no variance would decide every distance.
    covariance = np.cov(patches, rowvar=False)
    covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.diag(np.diag(covariance))
    return Pristine(patches.mean(axis=0), covariance, frames.mean(axis=0), frames.std(axis=0))


def builtin_photographs() -> list[np.ndarray]:
    """Colour photographs inside scikit-image and scikit-learn (no download), uint8 RGB."""
    from skimage import data  # imported here: only fitting needs them
    from sklearn import datasets

    pictures = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    pictures += [data.stereo_motorcycle()[0]]
    return pictures + list(datasets.load_sample_images().images)


@functools.cache
def load_pristine(path: str | os.PathLike[str] = _ASSET) -> Pristine:
    """Distribution stored by `save_pristine`; by default the shipped one."""
    with np.load(path, allow_pickle=False) as stored:
        return Pristine(
            **{field.name: stored[field.name] for field in dataclasses.fields(Pristine)}
        )


def save_pristine(pristine: Pristine, path: str | os.PathLike[str]) -> None:
    """Write a fitted distribution as .npz (no pickle)."""
    np.savez_compressed(path, **dataclasses.asdict(pristine))


def niqe_distance(found: np.ndarray, pristine: Pristine) -> float:
    """NIQE: distance of the patches' Gaussian from the pristine one; 0 and up, lower is better.

    Args:
      found: [N, 36] features of the patches of all frames, N >= 1.
      pristine: fitted distribution.
    """
    covariance = (
        np.cov(found, rowvar=False) if len(found) > 1 else np.zeros_like(pristine.patch_cov)
    )
    gap = found.mean(axis=0) - pristine.patch_mean
    inverse = np.linalg.pinv((covariance + pristine.patch_cov) / 2, hermitian=True)
    return float(np.sqrt(max(gap @ inverse @ gap, 0.0)))


def frame_distance(found: np.ndarray, pristine: Pristine) -> float:
    """Root mean square of the standardized features of whole frames [N, 36]; lower is better."""
    z = (found.mean(axis=0) - pristine.frame_mean) / np.maximum(pristine.frame_std, 1e-6)
    return float(np.sqrt(np.mean(z**2)))


def main() -> None:
    """Fit on the built-in photographs and write the .npz."""
    parser = argparse.ArgumentParser(description="Fit natural scene statistics on photographs.")
    parser.add_argument("out", help="the .npz to write")
    save_pristine(fit_pristine(builtin_photographs()), parser.parse_args().out)


if __name__ == "__main__":
    main()
