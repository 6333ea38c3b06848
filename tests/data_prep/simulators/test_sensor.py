"""Sensor noise in linear light, smoothing, exposure and colour casts against what they state."""

import numpy as np
import pytest

from data_prep.simulators import SIMULATORS, sensor
from tests.fixtures.simulated import levels_of, run


def _light(frames: np.ndarray) -> np.ndarray:
    return sensor.linear_light(frames / 255)


def test_the_curve_and_its_inverse_agree_at_every_value():
    values = np.arange(256) / 255
    np.testing.assert_allclose(sensor.display_value(sensor.linear_light(values)), values, atol=1e-4)
    assert sensor.linear_light(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)  # IEC 61966-2-1


@pytest.mark.parametrize("value", [90, 128, 190])
def test_noise_has_the_variance_of_photons_and_readout(value):
    grey = np.full((2, 128, 128, 3), value, np.uint8)
    photons, readout = SIMULATORS["sensor_noise"].parameters[1]
    light = _light(grey[0, 0, 0, 0])
    measured = _light(run(grey, "sensor_noise", 2)).var()
    assert measured == pytest.approx(photons * light + readout**2, rel=0.05)


def test_noise_is_another_one_in_every_frame_channel_and_level():
    grey = np.full((3, 96, 96, 3), 128, np.uint8)
    versions = [run(grey, "sensor_noise", level).astype(float) - 128 for level in (2, 3)]
    fields = np.concatenate([np.moveaxis(v, -1, 1).reshape(9, -1) for v in versions])
    assert np.abs(np.corrcoef(fields) - np.eye(18)).max() < 0.05


def test_smoothed_noise_is_coarser_than_noise():
    grey = np.full((1, 128, 128, 3), 128, np.uint8)
    for level in levels_of("denoise"):
        noisy = run(grey, "sensor_noise", level)[0].astype(float)
        calm = run(grey, "denoise", level)[0].astype(float)
        assert calm.std() < noisy.std()
        roughness = [np.diff(x, axis=0).std() / x.std() for x in (noisy, calm)]
        assert roughness[1] < 0.7 * roughness[0]  # what is left is blotches, not grain


def test_overexposure_doubles_light_a_stop_and_clips_more_and_more(picture):
    assert _light(run(np.full((1, 4, 4, 3), 80, np.uint8), "overexposure", 1)).mean() == (
        pytest.approx(2 * _light(np.array(80)), rel=0.02)
    )
    clipped = [(run(picture, "overexposure", k) == 255).mean() for k in levels_of("overexposure")]
    assert np.all(np.diff([(picture == 255).mean(), *clipped]) > 0)


def test_underexposure_loses_the_shadows(picture):
    lost = [(run(picture, "underexposure", k) == 0).mean() for k in levels_of("underexposure")]
    assert np.all(np.diff([(picture == 0).mean(), *lost]) > 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_cast_moves_further_in_the_same_direction(seed):
    grey = np.full((1, 4, 4, 3), 90, np.uint8)
    before = np.log(_light(grey[0, 0, 0]))
    steps = [
        np.log(_light(run(grey, "colour_cast", level, seed)[0, 0, 0])) - before
        for level in levels_of("colour_cast")[:3]  # the severer ones clip
    ]
    sizes = [np.linalg.norm(step) for step in steps]
    assert np.all(np.diff(sizes) > 0.1)
    for step, size in zip(steps, sizes, strict=True):
        assert step.sum() == pytest.approx(0, abs=0.05)
        assert step @ steps[0] == pytest.approx(size * sizes[0], rel=0.01)
