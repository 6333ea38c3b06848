"""Temporal metrics against cases done by hand."""

import numpy as np
import pytest
from skimage import data

from data_prep.selection import metrics_spatial, metrics_temporal


def photograph(name="astronaut"):
    return getattr(data, name)()[:256, :384]


def test_temporal_information_by_hand():
    lumas = np.stack([np.roll(metrics_spatial.gray(photograph()), k, axis=1) for k in (0, 0, 3)])
    difference = lumas[2].astype(int) - lumas[1]
    assert metrics_temporal.temporal_information(lumas) == pytest.approx(difference.std())
    assert metrics_temporal.temporal_information(lumas[:2]) == 0
    assert metrics_temporal.temporal_information(lumas[:1]) == 0


def test_flicker_by_hand():
    lumas = np.zeros((3, 40, 32), np.uint8)  # 3 x 2 macroblocks, the lowest of 8 rows
    lumas[2, :16, :8] = 50  # half of a block, after standing still
    lumas[2, 32:, 16:] = 50  # a whole, smaller block
    lumas[1:, 16:32, :16] = 50  # updated at once, then still
    lumas[2, 16:32, 16:] = 3  # below the threshold
    assert metrics_temporal.flicker(lumas) == pytest.approx((0.5 + 1) / 6)
    lumas[1, :16, :8] = 100  # it moved before: no flicker there
    assert metrics_temporal.flicker(lumas) == pytest.approx(1 / 6)
    assert metrics_temporal.flicker(lumas[:2]) == 0
