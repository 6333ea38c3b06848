"""Features without a network."""

import numpy as np
import pytest

from vqa_jax.teachers.light import statistics


@pytest.mark.parametrize("family", [statistics.brisque, statistics.colour, statistics.detail])
def test_features_are_finite_of_any_picture_and_of_one_length(family):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (96, 64, 3)).astype(np.uint8)
    pictures = [noise, np.zeros_like(noise), np.full((64, 128, 3), 255, np.uint8)]
    found = [family(picture) for picture in pictures]
    assert {(row.shape, str(row.dtype)) for row in found} == {(found[0].shape, "float32")}
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_colour_tells_light_and_detail_tells_blur():
    rng = np.random.default_rng(0)
    sharp = rng.integers(60, 180, (96, 96, 3)).astype(np.uint8)
    dark, bright = statistics.colour(sharp // 2), statistics.colour(sharp)
    assert dark[0] < bright[0]  # mean luma
    flat = np.full_like(sharp, 120)
    assert (statistics.detail(flat)[:9] < statistics.detail(sharp)[:9]).all()
