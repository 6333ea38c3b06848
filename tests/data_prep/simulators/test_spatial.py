"""Spatial simulators: the noise, tone curve and scale that each level states."""

import colorsys

import numpy as np
import pytest

from data_prep.simulators import (
    SIMULATORS,
    spatial,
)
from tests.fixtures.simulated import levels_of, run
from tests.fixtures.tolerances import TOLERANCES


@pytest.mark.parametrize("level", [1, 5])
def test_noise_has_the_stated_variance_and_is_fresh_in_every_frame(level):
    grey = np.full((4, 128, 128, 3), 128, np.uint8)
    noise = (run(grey, "gaussian_noise", level).astype(float) - 128) / 255
    variance = SIMULATORS["gaussian_noise"].parameters[level - 1]
    # Rounding to 8 bits adds 1/12 of a squared level.
    assert noise.var() == pytest.approx(variance + 1 / 12 / 255**2, rel=0.02)
    fields = np.moveaxis(noise, -1, 1).reshape(12, -1)  # frames x channels
    correlation = np.corrcoef(fields) - np.eye(12)
    assert np.abs(correlation).max() < 0.05
    other = (run(grey, "gaussian_noise", 3).astype(float) - 128) / 255
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("name", "sign"), [("darken", -1), ("brighten", 1)])
def test_the_tone_curve_meets_its_three_points_and_keeps_hue(name, sign):
    for level in levels_of(name):
        strength = SIMULATORS[name].parameters[level - 1]
        ends = spatial.tone_curve(np.array([0, 0.5, 1]), sign * strength)
        np.testing.assert_allclose(ends, [0, min(0.5 + sign * strength / 2, 1), 1])
    colour = (200, 120, 40)
    got = run(np.full((1, 2, 2, 3), colour, np.uint8), name, 3)[0, 0, 0]
    hue, saturation, value = colorsys.rgb_to_hsv(*(np.array(colour) / 255))
    new = colorsys.rgb_to_hsv(*(got / 255.0))
    expected = (hue, saturation, np.polyval(np.polyfit([0, 0.5, 1], _three(sign), 2), value))
    np.testing.assert_allclose(new, expected, **TOLERANCES["hsv_on_8_bits"])
    for fixed in (0, 255):  # black stays black, white stays white
        grey = np.full((1, 2, 2, 3), fixed, np.uint8)
        np.testing.assert_array_equal(run(grey, name, 3), grey)


def _three(sign):
    """Heights of level 3's parabola at 0, 1/2, 1: darken p = 0.2, brighten p = 0.4."""
    return [0, {-1: 0.4, 1: 0.7}[sign], 1]


def test_resize_and_blur_keep_the_content_in_place():
    """A bright dot's centre of mass does not move: no half-pixel shift."""
    frame = np.zeros((1, 97, 64, 3), np.uint8)
    frame[0, 40:57, 24:40] = 255
    rows, columns = np.mgrid[:97, :64]
    for name in ("resize", "gaussian_blur"):
        mass = run(frame, name, 3)[0, ..., 0].astype(float)
        centre = [(mass * axis).sum() / mass.sum() for axis in (rows, columns)]
        np.testing.assert_allclose(centre, [48, 31.5], **TOLERANCES["centre_of_mass"])
