"""Upscaling, over-sharpening, banding and chroma bleeding against what they state."""

import cv2
import numpy as np

from data_prep.simulators import SIMULATORS
from tests.fixtures.simulated import levels_of, run


def test_nearest_upscaling_shows_blocks_and_bilinear_none(picture):
    frames = picture[:, :256, :256]
    blocks = run(frames, "nearest", 4)[0].reshape(32, 8, 32, 8, 3)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))
    assert np.unique(run(frames, "bilinear", 4)[0], axis=0).shape[0] > 200


def test_sharpening_overshoots_both_sides_of_an_edge_more_and_more():
    frames = np.repeat(np.array([100, 150], np.uint8), 200)[None, None, :, None]
    frames = np.broadcast_to(frames, (1, 300, 400, 3)).copy()
    highs, lows = [150], [100]
    for level in levels_of("oversharpen"):
        row = run(frames, "oversharpen", level)[0, 150, :, 0]
        highs.append(int(row.max()))
        lows.append(int(row.min()))
        assert (row[0], row[-1]) == (100, 150)  # flat parts stay
    assert np.all(np.diff(highs)[:3] > 5) and np.all(np.diff(lows)[:3] < -5)
    assert (highs[-1], lows[-1]) == (255, 0)  # clipped


def test_banding_leaves_as_many_levels_as_it_says():
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, None, :, None], (1, 8, 256, 3))
    for level, count in enumerate(SIMULATORS["banding"].parameters, start=1):
        values = np.unique(run(ramp.copy(), "banding", level))
        assert len(values) == count
        assert values[0] == 0 and values[-1] == 255


def test_chroma_bleeds_and_luma_and_grey_stay(picture):
    grey = np.repeat(picture[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(run(grey, "chroma_bleed", 3), grey)
    calm = np.uint8(64 + picture // 2)  # far from the colour cube's sides, where luma cannot stay
    before = cv2.cvtColor(calm[0], cv2.COLOR_RGB2YCrCb).astype(float)
    spreads = [before[..., 1:].std()]
    for level in levels_of("chroma_bleed"):
        after = cv2.cvtColor(run(calm, "chroma_bleed", level)[0], cv2.COLOR_RGB2YCrCb)
        assert np.abs(after[..., 0] - before[..., 0]).max() <= 2
        spreads.append(after[..., 1:].std())
    assert np.all(np.diff(spreads) < 0)
