"""Spatial metrics against other implementations and cases done by hand."""

import cv2
import numpy as np
import pytest
from scipy import signal
from skimage import color, data, filters

from data_prep.selection import metrics_spatial


def photograph(name="astronaut"):
    return getattr(data, name)()[:256, :384]


def flat(*rgb, height=64, width=64):
    return np.full((height, width, 3), rgb, np.uint8)


# CPBD 1.0.7 of PyPI (a port of the authors' MATLAB release): its edge widths and pooling, given the
# edges found here; its own edge detectors have thresholds other than the release's.
@pytest.mark.parametrize(
    ("name", "sigma", "expected"),
    [
        ("astronaut", 0, 0.41556145004420864),
        ("astronaut", 1, 0.09877704609595485),
        ("coffee", 0, 0.47024952015355087),
        ("rocket", 0, 0.92681838464971),
        ("rocket", 1, 0.5735146022155085),
    ],
)
def test_blur_is_cpbd(name, sigma, expected):
    frame = photograph(name)
    if sigma:
        frame = cv2.GaussianBlur(frame, (0, 0), sigma)
    assert metrics_spatial.blur(frame) == pytest.approx(expected, abs=1e-9)


def test_edge_widths_by_hand():
    luma = np.tile(np.array([10, 10, 20, 60, 100, 110, 110, 110], np.uint8), (5, 1))
    edges = np.zeros(luma.shape, bool)
    edges[2, 3] = True
    # Rising from column 1 to column 5: two pixels to the left of the edge and two to the right.
    assert metrics_spatial.edge_widths(luma, edges)[2, 3] == 4
    assert metrics_spatial.edge_widths(255 - luma, edges)[2, 3] == 4
    assert metrics_spatial.edge_widths(luma.T.copy(), edges.T.copy()).sum() == 2  # a level edge
    assert not metrics_spatial.edge_widths(np.zeros((2, 2), np.uint8), np.ones((2, 2), bool)).any()


def test_blockiness_by_hand():
    steps = np.repeat(np.arange(0, 80, 10, np.uint8), 8)  # only borders of blocks have steps
    frame = np.broadcast_to(steps[None, :, None], (64, 64, 3))
    assert metrics_spatial.blockiness(frame) == pytest.approx(0.01 / 5.01, rel=1e-6)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3))
    assert metrics_spatial.blockiness(ramp) == pytest.approx(1)


def test_noise_finds_the_deviation_that_was_added():
    noisy = np.random.default_rng(0).normal(128, 8, (256, 256, 1)).round().astype(np.uint8)
    found = metrics_spatial.noise(np.repeat(noisy, 3, axis=2))
    assert 0.85 * 8 < found < 1.02 * 8  # the calmest fifth of the blocks: a little low
    assert metrics_spatial.noise(flat(90, 90, 90)) == 0


def test_contrast_luminance_and_colourfulness_by_hand():
    frame = flat(200, 100, 50)
    assert metrics_spatial.luminance(frame) == pytest.approx(350)
    assert metrics_spatial.contrast(frame) == 0
    # rg = 100, yb = 100 everywhere: 0.3 sqrt(2) 100.
    assert metrics_spatial.colourfulness(frame) == pytest.approx(0.3 * 2**0.5 * 100, rel=1e-5)
    frame[:, ::2] = (0, 0, 0)  # half: means 50 and 50, deviations 50 and 50
    assert metrics_spatial.colourfulness(frame) == pytest.approx(1.3 * 2**0.5 * 50, rel=1e-5)
    halves = flat(0, 0, 0)
    halves[:, 32:] = 255
    assert metrics_spatial.contrast(halves) == pytest.approx(127.5)


def test_contrast_is_that_of_scikit_image_gray():
    frame = photograph()
    # Its weights are BT.709's, ours BT.601's.
    assert metrics_spatial.contrast(frame) == pytest.approx(
        255 * color.rgb2gray(frame).std(), rel=0.05
    )


def test_spatial_information_agrees_with_scikit_image():
    luma = metrics_spatial.gray(photograph())
    # scikit-image divides each filter by 4, and the magnitude by sqrt 2.
    magnitude = filters.sobel(luma.astype(np.float64))[1:-1, 1:-1] * 4 * 2**0.5
    found = metrics_spatial.spatial_information(photograph())
    assert found == pytest.approx(magnitude.std(), rel=1e-5)
    kernel = np.outer([1, 2, 1], [-1, 0, 1])
    dx, dy = (signal.convolve2d(luma.astype(float), k, "valid") for k in (kernel, kernel.T))
    assert found == pytest.approx(np.hypot(dx, dy).std(), rel=1e-5)
