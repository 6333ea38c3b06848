"""Features of a picture that need no network: colour and exposure, detail, natural statistics.

Each family sees other things and is misled by others, so that teachers on them err differently.
"""

from __future__ import annotations

import cv2
import numpy as np

from vqa_jax.teachers import nss

_PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_BINS = 16  # of the histogram of luma
_BLOCKS = (8, 32)  # pixels of the halved picture: contrast within and between its parts
_OCTAVES = 4
_LAPLACIAN_DIFFERENCE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def brisque(picture: np.ndarray) -> np.ndarray:
    """BRISQUE's features (Mittal et al. 2012): 18 shapes of normalized luma at each of two scales.

    Args:
      picture: uint8 RGB [H, W, 3].

    Returns:
      float32 [36]; variances as logarithms, since regressions want them spread evenly.
    """
    found = nss.features(nss.luma(picture), None)[0][0]
    places = np.arange(18)
    spread = (places == 1) | ((places > 1) & ((places - 2) % 4 >= 2))
    logs = np.log(np.maximum(found, 1e-6))
    return np.where(np.tile(spread, 2), logs, found).astype(np.float32)


def colour(picture: np.ndarray) -> np.ndarray:
    """How light and colours are distributed: exposure, clipping, contrast, cast, saturation, haze.

    Args:
      picture: uint8 RGB [H, W, 3].

    Returns:
      float32 [79].
    """
    most, least = picture.max(2), picture.min(2)
    clipped = [np.mean(most >= 253), np.mean(least <= 2), np.mean(most <= 4), np.mean(least >= 251)]
    # Colours are broad: a quarter of the pixels, each the mean of four, tells them.
    half = (max(picture.shape[1] // 2, 1), max(picture.shape[0] // 2, 1))
    wide = cv2.resize(picture, half, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    gray = cv2.cvtColor(wide, cv2.COLOR_RGB2GRAY)
    histogram = np.sqrt(np.histogram(gray, _BINS, (0, 1))[0] / gray.size)
    saturation = (wide.max(2) - wide.min(2)) / np.maximum(wide.max(2), 1 / 255)
    lab = cv2.cvtColor(wide, cv2.COLOR_RGB2LAB)
    a, b = lab[..., 1], lab[..., 2]
    chroma = np.hypot(a, b)
    red_green = wide[..., 0] - wide[..., 1]
    yellow_blue = (wide[..., 0] + wide[..., 1]) / 2 - wide[..., 2]
    # Hasler and Suesstrunk 2003.
    colourful = np.hypot(red_green.std(), yellow_blue.std())
    colourful += 0.3 * np.hypot(red_green.mean(), yellow_blue.mean())
    dark = cv2.erode(wide.min(2), np.ones((7, 7), np.uint8))  # He et al. 2009: light in haze
    bright = cv2.dilate(wide.max(2), np.ones((7, 7), np.uint8))
    parts = [
        [gray.mean(), gray.std(), _skew(gray), _entropy(histogram)],
        np.percentile(gray, _PERCENTILES),
        histogram,
        np.log10(np.maximum(clipped, 1e-4)),
        [saturation.mean(), saturation.std(), *np.percentile(saturation, (10, 50, 90))],
        [chroma.mean(), chroma.std(), *np.percentile(chroma, (10, 50, 90, 99))],
        [a.mean(), a.std(), b.mean(), b.std(), colourful],
        [np.corrcoef(a.ravel(), b.ravel())[0, 1] if min(a.std(), b.std()) > 1e-3 else 0.0],
        wide.mean((0, 1)),
        wide.std((0, 1)),
        [dark.mean(), dark.std(), *np.percentile(dark, (10, 50, 90))],
        [bright.mean(), *np.percentile(bright, (10, 50))],
        *(_block_contrast(gray, side) for side in _BLOCKS),
        *(_block_contrast(chroma / 100, side) for side in _BLOCKS[1:]),
    ]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


def detail(picture: np.ndarray) -> np.ndarray:
    """How much fine structure there is, where, and of which kind: edges, noise, blocks, ringing.

    Args:
      picture: uint8 RGB [H, W, 3].

    Returns:
      float32 [64]; amounts as logarithms.
    """
    gray = nss.luma(picture)
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    parts, level = [], gray
    for octave in range(_OCTAVES):
        slope = np.hypot(cv2.Sobel(level, -1, 1, 0), cv2.Sobel(level, -1, 0, 1)) / 8
        bend = np.abs(cv2.Laplacian(level, -1))
        parts.append(_logs(np.percentile(slope[::2, ::2], (25, 50, 75, 90, 99))))
        parts.append(_logs([bend.mean(), *np.percentile(bend[::2, ::2], (50, 90, 99))]))
        local = _block_means(bend, max(64 >> octave, 8))
        parts.append(_logs(np.percentile(local, (10, 50, 90))))
        level = cv2.pyrDown(level)
    noise = _block_means(np.abs(cv2.filter2D(gray, -1, _LAPLACIAN_DIFFERENCE)), 16)
    parts.append(_logs(np.percentile(noise, (5, 20, 50))))
    for channel in (1, 2):
        grain = _block_means(np.abs(cv2.filter2D(lab[..., channel], -1, _LAPLACIAN_DIFFERENCE)), 16)
        parts.append(_logs(np.percentile(grain, (20, 50))))
    across, down = np.abs(np.diff(gray, axis=1)), np.abs(np.diff(gray, axis=0))
    parts.append(_logs([across.mean(), down.mean()]))
    flat = [np.mean(across < 0.5), np.mean(down < 0.5)]
    blurred = cv2.GaussianBlur(gray, (0, 0), 2)
    lost = np.abs(gray - blurred)
    strong = np.abs(cv2.Sobel(blurred, -1, 1, 0)) + np.abs(cv2.Sobel(blurred, -1, 0, 1))
    edges = strong >= np.percentile(strong[::2, ::2], 95)
    calm = strong <= np.percentile(strong[::2, ::2], 50)
    parts.append(_logs([lost.mean(), lost[edges].mean(), lost[calm].mean()]))
    parts.append(np.array(flat))
    centre = _block_means(lost, 16)
    parts.append(_where(centre))
    return np.concatenate(parts).astype(np.float32)


def _where(local: np.ndarray) -> np.ndarray:
    """Whether detail is at the centre, and how unevenly it is spread."""
    rows, columns = local.shape
    middle = local[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    share = middle.mean() / max(local.mean(), 1e-3)
    return np.array([np.log(max(share, 1e-3)), local.std() / max(local.mean(), 1e-3)])


def _logs(values: np.ndarray | list[float]) -> np.ndarray:
    """Logarithms of amounts in gray levels; a hundredth of one is nothing."""
    return np.log(np.maximum(np.asarray(values, np.float64), 0) + 0.01)


def _block_means(values: np.ndarray, side: int) -> np.ndarray:
    """Means of whole blocks [rows, columns]; a picture smaller than a block is one."""
    height, width = (max(length // side, 1) for length in values.shape)
    cut = values[: height * side, : width * side]
    size = (cut.shape[0] // height, cut.shape[1] // width)
    return cut.reshape(height, size[0], width, size[1]).mean((1, 3))


def _block_contrast(values: np.ndarray, side: int) -> np.ndarray:
    means = _block_means(values, side)
    within = np.sqrt(np.maximum(_block_means(values**2, side) - means**2, 0))
    return np.array([means.std(), within.mean(), *np.percentile(within, (10, 50, 90))])


def _skew(values: np.ndarray) -> float:
    deviation = values.std()
    return float(np.mean((values - values.mean()) ** 3) / max(deviation, 1e-3) ** 3)


def _entropy(roots: np.ndarray) -> float:
    shares = roots**2
    return float(-np.sum(shares * np.log(np.maximum(shares, 1e-9))))
