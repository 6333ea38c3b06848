"""Low-level metrics of one frame: blockiness, blur, contrast, noise, colourfulness, luminance, SI.

Functions of uint8 RGB [H, W, 3], any size, to one number (method 2). They describe material, so
that a selection can follow a target corpus; none of them is a quality score.
"""

from __future__ import annotations

import cv2
import numpy as np

from vqa_jax.teachers import measures, nss

_BLOCK = 64  # CPBD judges contrast and edges by blocks of this side
_EDGE_SHARE = 0.002  # of a block's pixels; with fewer it is smooth and does not count
_LOW_CONTRAST, _WIDE, _NARROW = 50, 5.0, 3.0  # just noticeable blur: width in px by block contrast
_BETA = 3.6
_JUST_NOTICED = 63  # per cent of observers
_LONGEST = 100  # pixels that an edge is followed on either side
_SOBEL_CUTOFF = 4.0  # of the mean squared gradient
_CANNY_SIGMA, _CANNY_SHARE, _CANNY_LOW = 2**0.5, 70, 0.4
_CANNY_SCALE = 16  # keeps fractions of a level where OpenCV wants integers


def gray(frame: np.ndarray) -> np.ndarray:
    """Luma uint8 [H, W] of uint8 RGB [H, W, 3] (BT.601 weights)."""
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def blockiness(frame: np.ndarray) -> float:
    """Luma steps inside the 8 x 8 coding blocks over those across their borders.

    B = mean |Y(p) - Y(q)|, p and q neighbours in one block, over the same mean, p and q on either
    side of a border (Romaniak et al. 2012; means, so that the count of either does not matter).
    About 1 without blocks, towards 0 with them. The grid starts at the frame's corner.
    """
    return measures.blockiness([nss.luma(frame)])


def blur(frame: np.ndarray) -> float:
    """CPBD: share of edges whose blur most people would not notice, 0 (blurred) to 1 (sharp).

    An edge of width w (pixels between the ends of its ramp, along the row) in a block of contrast
    C is seen as blurred with probability P = 1 - exp(-(w / w_JNB(C))^3.6), w_JNB = 5 for C <= 50
    and 3 above; CPBD = share of edges with P <= 63% (Narvekar & Karam 2011). Only 64 x 64 blocks
    with more than 0.2% of Canny edge pixels count. Edge detectors have the thresholds of the
    authors' MATLAB release: Sobel keeps squared gradients above four times their mean, Canny (sigma
    sqrt 2) takes the 70th percentile of the gradient. A frame without edges gives 0.
    """
    luma = gray(frame)
    side = min(_BLOCK, *luma.shape)
    widths = _blocks(edge_widths(luma, vertical_edges(luma)), side)
    busy = np.count_nonzero(_blocks(canny_edges(luma), side), axis=1) > side * side * _EDGE_SHARE
    levels = _blocks(luma, side).astype(np.int16)
    contrast_of = levels.max(axis=1) - levels.min(axis=1)
    noticed = np.where(contrast_of <= _LOW_CONTRAST, _WIDE, _NARROW)
    counted = (widths > 0) & busy[:, None]
    width = (widths / noticed[:, None])[counted]
    if not width.size:
        return 0.0
    percent = np.round(100 * (1 - np.exp(-(width**_BETA))))
    return float(np.mean(percent <= _JUST_NOTICED))


def vertical_edges(luma: np.ndarray) -> np.ndarray:
    """Thin vertical edges, bool [H, W]: strong Sobel responses that exceed both neighbours."""
    strength = cv2.Sobel(
        luma, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REFLECT
    )
    strength *= strength
    strength[strength <= _SOBEL_CUTOFF * strength.mean(dtype=np.float64)] = 0
    padded = np.pad(strength, 1)
    along = (strength > padded[1:-1, :-2]) & (strength > padded[1:-1, 2:])
    across = (strength > padded[:-2, 1:-1]) & (strength > padded[2:, 1:-1])
    return along | across


def canny_edges(luma: np.ndarray) -> np.ndarray:
    """Canny edges, bool [H, W], thresholds relative to the picture's own gradients."""
    smooth = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), _CANNY_SIGMA)
    dx, dy = (
        cv2.Sobel(smooth, cv2.CV_32F, x, 1 - x, ksize=3, borderType=cv2.BORDER_REPLICATE)
        for x in (1, 0)
    )
    high = float(np.percentile(cv2.magnitude(dx, dy), _CANNY_SHARE)) * _CANNY_SCALE
    dx, dy = (np.rint(d * _CANNY_SCALE).astype(np.int16) for d in (dx, dy))
    return cv2.Canny(dx, dy, _CANNY_LOW * high, high, L2gradient=True) > 0


def edge_widths(luma: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Width of every edge that runs upright, in pixels, after Marziliano et al. 2002.

    From the edge pixel the row is followed to both sides while luma keeps falling (or rising) as it
    does across the edge. Edges whose gradient is more than 22.5 degrees off the row have none.

    Args:
      luma: uint8 [H, W].
      edges: bool [H, W].

    Returns:
      int32 [H, W], 0 where there is no edge, and on the outermost pixels.
    """
    height, width = luma.shape
    widths = np.zeros((height, width), np.int32)
    if min(height, width) < 3:
        return widths
    y = luma.astype(np.int16)
    rows, columns = np.nonzero(edges[1:-1, 1:-1])
    rows, columns = rows + 1, columns + 1
    dx = y[rows, columns + 1] - y[rows, columns - 1]
    dy = y[rows + 1, columns] - y[rows - 1, columns]
    # A gradient straight up or down counts as rising to the right, as in the authors' release.
    upright = (np.abs(dy) <= np.tan(np.pi / 8) * np.abs(dx)) | (dx == 0)
    rows, columns, dx = rows[upright], columns[upright], dx[upright]
    step = np.diff(y, axis=1)  # step[c] leads from column c to c + 1
    for chosen, same in ((dx >= 0, step > 0), (dx < 0, step < 0)):
        r, c = rows[chosen], columns[chosen]
        to_left = _run_lengths(same)  # of steps that end at the pixel left of the edge
        to_right = _run_lengths(same[:, ::-1])[:, ::-1]
        left = np.where(c >= 2, to_left[r, np.maximum(c - 2, 0)], 0)
        right = np.where(c <= width - 3, to_right[r, np.minimum(c + 1, width - 2)], 0)
        widths[r, c] = np.minimum(left, _LONGEST) + np.minimum(right, _LONGEST) + 2
    return widths


def _run_lengths(flags: np.ndarray) -> np.ndarray:
    """Length of the run of True that ends at each place of a row; 0 where False."""
    place = np.arange(1, flags.shape[1] + 1, dtype=np.int32)
    last_false = np.maximum.accumulate(np.where(flags, 0, place), axis=1)
    return place - last_false


def _blocks(picture: np.ndarray, side: int) -> np.ndarray:
    """[H, W] -> [N, side * side]; what is left over at the right and at the bottom is cut off."""
    height, width = (n // side for n in picture.shape)
    cut = picture[: height * side, : width * side].reshape(height, side, width, side)
    return cut.swapaxes(1, 2).reshape(height * width, side * side)


def contrast(frame: np.ndarray) -> float:
    """Standard deviation of luma, gray levels, 0 to 127.5."""
    return float(cv2.meanStdDev(gray(frame))[1][0, 0])


def noise(frame: np.ndarray) -> float:
    """Standard deviation of the noise, gray levels.

    sigma = sqrt(pi / 2) / 6 * mean |Y * M| with M = [[1, -2, 1], [-2, 4, -2], [1, -2, 1]], which
    cancels straight structure (Immerkaer 1996), in the calmest fifth of the 16 x 16 blocks.
    """
    return measures.noise([nss.luma(frame)])


def colourfulness(frame: np.ndarray) -> float:
    """sqrt(s_rg^2 + s_yb^2) + 0.3 sqrt(m_rg^2 + m_yb^2), rg = R - G, yb = (R + G) / 2 - B.

    s are standard deviations, m means over the pixels (Hasler & Suesstrunk 2003). 0 for gray.
    """
    red, green, blue = (plane.astype(np.float32) for plane in cv2.split(frame))
    mean, std = cv2.meanStdDev(cv2.merge([red - green, (red + green) / 2 - blue]))
    return float(np.hypot(*std[:, 0]) + 0.3 * np.hypot(*mean[:, 0]))


def luminance(frame: np.ndarray) -> float:
    """Mean of R + G + B, 0 to 765 (method 2)."""
    return float(sum(cv2.mean(frame)[:3]))


def spatial_information(frame: np.ndarray) -> float:
    """SI of one frame: deviation over the pixels of the Sobel gradient's magnitude (ITU-T P.910).

    Of luma, without the outermost pixels, where the filter has no neighbours. 0 below 3 x 3.
    """
    luma = gray(frame)
    if min(luma.shape) < 3:
        return 0.0
    dx, dy = (cv2.Sobel(luma, cv2.CV_32F, x, 1 - x, ksize=3) for x in (1, 0))
    return float(cv2.meanStdDev(cv2.magnitude(dx, dy)[1:-1, 1:-1])[1][0, 0])
