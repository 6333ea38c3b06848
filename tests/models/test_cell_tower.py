"""The tower of cells: moments over areas of pixels, and how tokens are put together of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fixtures import cell_student
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models.cell_tower import CellTowerConfig, cell_moments
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.weights import towers


def _blocks(maps: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of cells by cutting every pixel into cells x cells equal ones."""
    count, height, width, channels = maps.shape
    fine = maps.astype(np.float64).repeat(cells, 1).repeat(cells, 2)
    fine = fine.reshape(count, cells, height, cells, width, channels)
    return tuple(
        found.reshape(count, cells * cells, channels)
        for found in (fine.mean((2, 4)), fine.std((2, 4)))
    )


@pytest.mark.parametrize(
    ("height", "width", "cells"), [(4, 6, 2), (6, 6, 3), (5, 7, 2), (3, 2, 3), (2, 1, 2), (1, 1, 2)]
)
def test_moments_are_those_of_areas_also_where_cells_divide_no_pixel(height, width, cells):
    rng = np.random.default_rng(height * width)
    # Far from 0, where a difference of squares would lose its digits.
    maps = (rng.normal(size=(2, height, width, 3)) + [0.0, 30.0, -300.0]).astype(np.float32)
    means, deviations = cell_moments(maps, cells)
    expected = _blocks(maps, cells)
    np.testing.assert_allclose(means, expected[0], **TOLERANCES["direct_sum"])
    np.testing.assert_allclose(deviations, expected[1], **TOLERANCES["cell_deviation"])


def test_cells_are_row_by_row_and_a_flat_one_has_no_deviation():
    maps = np.kron(np.arange(4.0).reshape(2, 2), np.ones((3, 3)))[None, ..., None]
    means, deviations = cell_moments(maps.astype(np.float32), 2)
    np.testing.assert_allclose(means[0, :, 0], [0, 1, 2, 3], **TOLERANCES["direct_sum"])
    np.testing.assert_allclose(deviations, 0, **TOLERANCES["cell_deviation"])


def test_one_cell_is_the_whole_map():
    maps = np.random.default_rng(0).normal(3, 2, size=(2, 5, 4, 7)).astype(np.float32)
    means, deviations = cell_moments(maps, 1)
    np.testing.assert_allclose(means[:, 0], maps.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(deviations[:, 0], maps.std((1, 2)), rtol=1e-5)
    assert np.isfinite(cell_moments(np.ones((1, 1, 1, 3), np.float32), 1)[1]).all()


def test_tokens_are_means_of_all_stages_then_deviations():
    """One program of the whole tower, on frames whose later maps no two cells divide evenly."""
    spec = cell_student.spec()
    student = FunctionalStudent(spec.student)
    tower = towers.load(student, spec.tower)
    frames = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), np.uint8)

    @jax.jit
    def run(tower, frames):
        vision = student.bind(tower).vision
        return list(vision.network.stage_outputs(frames)), vision.statistics(frames)

    maps, tokens = jax.device_get(run(tower, frames))
    assert tokens.shape == (2, 4, spec.student.vision.embed_dim) == (2, 4, 4128)
    assert tokens.dtype == np.float32
    moments = [_blocks(m, 2) for m in maps]
    means, deviations = (np.concatenate(part, -1) for part in zip(*moments, strict=True))
    found = np.split(tokens, 2, axis=-1)
    np.testing.assert_allclose(found[0], means, **TOLERANCES["stored_tokens"])
    np.testing.assert_allclose(found[1], deviations, **TOLERANCES["stored_deviations"])
    assert np.ptp(means) > 1 and deviations.max() > 1  # the network says something


def test_standardized_numbers_are_clipped_and_stages_weighed():
    cfg = dataclasses.replace(cell_student.spec().student, compute_dtype="bfloat16")
    student = FunctionalStudent(cfg)
    width = cfg.vision.embed_dim
    statistics = np.full((1, 4, width), 3.0, np.float32)
    statistics[..., 0], statistics[..., 1] = 6e4, -6e4
    own = {"mean": np.full(width, 1.0, np.float32), "scale": np.full(width, 0.5, np.float32)}
    vision = student.bind({"vision": own}).vision
    found = vision.standardized(statistics)
    assert found.dtype == jnp.bfloat16
    widths = cfg.vision.network.widths
    first, last = (np.sqrt(np.mean(widths) / widths[k]) for k in (0, -1))
    seen = np.asarray(found[0, 0], np.float32)
    wanted = [8.0 * first, -8.0 * first, 4.0 * first, 4.0 * last]
    np.testing.assert_allclose(seen[[0, 1, 2, -1]], wanted, rtol=2**-8)


def test_sizes_that_there_are_not_are_refused():
    assert CellTowerConfig().grid == CellTowerConfig().token_grid == 2
    with pytest.raises(ValueError, match="cells starts at 1"):
        CellTowerConfig(cells=0)
    with pytest.raises(ValueError, match="Lite3"):
        CellTowerConfig(lite=3)
