"""Low-level metrics of the change between frames: flicker and TI (method 2)."""

from __future__ import annotations

import cv2
import numpy as np

_MACROBLOCK = 16
# Gray levels: above what an encoder's rounding changes in a block that it means to keep.
_CHANGED = 3


def flicker(lumas: np.ndarray) -> float:
    """Share of the picture that jumps after having stood still, 0 to 1.

    After Pandel 2008: with c_t(b) the share of the pixels in macroblock b (16 x 16) that change by
    more than three gray levels from frame t - 1 to t, a block is updated at t if c_t(b) > 0, and
    flicker = mean over b and t of c_t(b) [c_t(b) > 0 and c_{t-1}(b) = 0]. Encoders that leave a
    block alone and then renew it make this visible; steady motion and still pictures give 0.

    Args:
      lumas: uint8 [T, H, W], consecutive; fewer than three frames have no transition and give 0.
    """
    if len(lumas) < 3:
        return 0.0
    changed = np.abs(np.diff(lumas.astype(np.int16), axis=0)) > _CHANGED
    height, width = changed.shape[1:]
    rows, columns = (np.arange(0, side, _MACROBLOCK) for side in (height, width))
    counts = np.add.reduceat(changed, rows, axis=1, dtype=np.int32)
    counts = np.add.reduceat(counts, columns, axis=2)
    sizes = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    share = counts / sizes
    return float(np.mean(share[1:] * (share[:-1] == 0)))


def temporal_information(lumas: np.ndarray) -> float:
    """TI: maximum over time of the deviation, over the pixels, of the frame difference (P.910).

    Args:
      lumas: uint8 [T, H, W], consecutive; a single frame gives 0.
    """
    pairs = zip(lumas[1:], lumas[:-1], strict=True)
    return max(
        (float(cv2.meanStdDev(cv2.subtract(b, a, dtype=cv2.CV_16S))[1][0, 0]) for b, a in pairs),
        default=0.0,
    )
