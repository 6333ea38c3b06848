"""Pictures of a moment: what is cropped, and where two frames differ most."""

import io

import numpy as np
from PIL import Image

from vqa_jax.scoring import pictures


def _opened(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def test_a_frame_is_shrunk_with_its_crop_marked_and_the_crop_is_not():
    frame = np.full((720, 1280, 3), 90, np.uint8)
    frame[480:, 1040:] = 200  # the corner that a crop beyond the border is moved to
    small, crop = map(_opened, pictures.framed(frame, (10_000, 10_000)))
    assert small.shape == (360, 640, 3) and crop.shape == (240, 240, 3)
    assert abs(crop.astype(int) - 200).max() <= 2
    marked = np.abs(small.astype(int) - (255, 176, 0)).sum(axis=2) < 60
    assert marked.any() and not marked[:230, :].any()


def test_a_small_frame_is_its_own_crop():
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    small, crop = map(_opened, pictures.framed(frame, (0, 0)))
    assert small.shape == crop.shape == frame.shape


def test_the_square_that_differs_most_is_found():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (500, 700, 3), np.uint8)
    second = first.copy()
    second[100:120, 90:110] ^= 255
    second[330:380, 400:460] ^= 255
    y, x = pictures.most_different(first, second)
    assert abs(y - 355) <= 120 - 25 and abs(x - 430) <= 120 - 30  # it holds the larger one
    assert pictures.most_different(first, second[:400]) == (250, 350)
    assert pictures.most_different(first[:100, :90], second[:100, :90]) == (50, 45)
