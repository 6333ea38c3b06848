"""Defocus, motion blur and haze: kernels, the part of the frame, Koschmieder's law."""

import math

import numpy as np
import pytest

from data_prep.simulators import optics
from data_prep.simulators.base import random_stream
from tests.fixtures.simulated import levels_of, run
from tests.fixtures.tolerances import TOLERANCES


@pytest.mark.parametrize("radius", [0.3, 1, 3.4, 12])
def test_a_disc_has_the_second_moment_of_its_radius(radius):
    kernel = optics.disc(radius).astype(float)
    reach = len(kernel) // 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    assert kernel.sum() == pytest.approx(1)
    if radius >= 3:
        moment = (kernel * (rows**2 + columns**2)).sum()
        assert math.sqrt(2 * moment) == pytest.approx(radius, rel=0.1)


@pytest.mark.parametrize("angle", [0, 0.7, math.pi / 2, 3])
def test_a_line_is_as_long_as_it_says_and_lies_as_it_says(angle):
    kernel = optics.line(20, angle).astype(float)
    reach = len(kernel) // 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    assert math.sqrt(12 * (kernel * along**2).sum()) == pytest.approx(20, rel=0.1)
    assert (kernel * across**2).sum() < 0.5


@pytest.mark.parametrize("name", ["local_defocus", "local_motion_blur"])
def test_a_part_is_blurred_the_same_part_at_every_level(picture, name):
    versions = [run(picture, name, level) for level in levels_of(name)]
    changed = [(version != picture).any(axis=(0, 3)) for version in versions]
    for mask in changed:
        assert 0.1 < mask.mean() < 0.9
        # A blurred value at the soft border may round to the one before by chance.
        assert (mask & ~changed[-1]).mean() < 0.02


def test_a_spot_is_soft_and_inside_the_unit_interval():
    for seed in range(20):
        spot = optics.soft_spot(random_stream(seed, "x"), 90, 160)
        assert spot.dtype == np.float32 and spot.shape == (90, 160)
        assert spot.min() >= 0 and 0.99 < spot.max() <= 1
        assert max(np.abs(np.diff(spot, axis=axis)).max() for axis in (0, 1)) < 0.2


def test_haze_hides_what_is_far_and_keeps_order():
    """What is left of the difference of two surfaces falls exponentially with the depth."""
    frames = np.repeat(np.array([0, 200], np.uint8), 64)[None, None, :, None]
    frames = np.broadcast_to(frames, (1, 96, 128, 3)).copy()
    contrasts = []
    for level in levels_of("haze"):
        got = run(frames, "haze", level)[0].astype(float)
        assert got.std(axis=2).max() < 12  # the air is nearly grey
        contrasts.append(got[:, 64].mean(axis=-1) - got[:, 63].mean(axis=-1))
        assert contrasts[-1][0] < contrasts[-1][-1]  # the sky is further than the ground
    assert np.all(np.diff(np.stack(contrasts), axis=0) < 0)
    # exp(-depth * distance) at one place: logarithms are in the proportion of the depths.
    logs = -np.log(np.stack(contrasts)[:, 0] / 200)
    depths = [optics.SIMULATORS[-1].parameters[level - 1] for level in levels_of("haze")]
    np.testing.assert_allclose(logs / logs[-1], np.array(depths) / depths[-1], **TOLERANCES["hazy"])
