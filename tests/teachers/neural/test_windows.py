"""Windows of a grid: there and back, and who shares one after a shift."""

import numpy as np
import pytest

from vqa_jax.teachers.neural import windows


@pytest.mark.parametrize(("sizes", "window"), [((6, 9), (3, 3)), ((4, 6, 4), (2, 3, 4))])
def test_windows(sizes, window):
    grid = np.random.default_rng(0).normal(size=(2, *sizes, 5)).astype(np.float32)
    cut = windows.partition(grid, window)
    assert cut.shape[2] == np.prod(window)
    first = grid[(0, *(slice(0, w) for w in window))]
    np.testing.assert_array_equal(cut[0, 0], first.reshape(-1, 5))
    np.testing.assert_array_equal(windows.merge(cut, sizes, window), grid)


def test_only_true_neighbours_share_a_region():
    sizes, window = (8, 12), (4, 4)
    shift = windows.shift_for(sizes, window)
    assert shift == (2, 2)
    numbers = windows.regions(sizes, window, shift)
    place = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1)
    place = windows.partition(np.roll(place, [-2, -2], (0, 1))[None], window)[0]
    for number, coordinates in zip(numbers, place, strict=True):
        near = (np.abs(coordinates[:, None] - coordinates[None]) < 4).all(-1)
        np.testing.assert_array_equal(number[:, None] == number[None], near)
