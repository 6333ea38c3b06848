"""The camera: fast and almost still paths, none faster than real ones."""

import numpy as np
import pytest

from data_prep.scenes import camera


@pytest.mark.parametrize("fps", [24, 60])
def test_camera_is_never_faster_than_six_pixels_a_frame_at_thirty(fps):
    times = np.arange(0, 4, 1 / fps)
    fastest = []
    for seed in range(60):
        path = camera.draw_camera(np.random.default_rng(seed), 4.0, 250.0, 80.0, unit=1.0)
        step = np.hypot(np.diff(path.x(times)), np.diff(path.y(times)))
        fastest.append(step.max() * fps / 30)
    assert max(fastest) <= 6.05
    assert min(fastest) > 0.01  # never frozen: a repeated frame must be a visible fault
    assert max(fastest) > 3 and min(fastest) < 0.8  # fast and almost still ones
