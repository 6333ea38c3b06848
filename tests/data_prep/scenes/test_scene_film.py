"""Filming: a frame is the canvas at the place the camera looks."""

import numpy as np

from data_prep.scenes import camera, scene_film
from tests.fixtures.tolerances import TOLERANCES


def _still(value: float) -> camera.Sinusoids:
    """The constant `value`."""
    return camera.Sinusoids(np.array([value]), np.zeros(1), np.array([np.pi / 2]))


def test_view_is_the_canvas_at_the_place_the_camera_looks():
    canvas = np.random.default_rng(0).random((61, 81, 3), dtype=np.float32)
    shot = camera.Camera("tripod", _still(5), _still(-3), _still(0), _still(0), _still(0))
    scene = scene_film.Scene("leaves", canvas, 1.0, (), shot, 0.0, None, "normal", ())
    (frame,) = scene_film.film(scene, 30, 1, (41, 31))
    top, left = (61 - 31) // 2 - 3, (81 - 41) // 2 + 5
    expected = np.rint(canvas[top : top + 31, left : left + 41] * 255)
    np.testing.assert_allclose(frame, expected, **TOLERANCES["rendered_pixel"])
