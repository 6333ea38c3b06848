"""Features out of a frozen tower's tokens: those of the same pictures, no network asked."""

import dataclasses

import numpy as np
import pytest

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models.cell_tower import CellTowerConfig, cell_moments
from vqa_jax.models.efficientnet_lite import STRIDES, moments
from vqa_jax.models.frozen_tower import FrozenTower
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.teachers.light import features
from vqa_jax.weights import towers


def _maps(rng, size, widths):
    """A map a stage as a tower of these widths would make, far from 0 in some channels."""
    return [
        (rng.normal(size=(2, -(-size[0] // stride), -(-size[1] // stride), width)) + 2 * k).astype(
            np.float32
        )
        for k, (stride, width) in enumerate(zip(STRIDES, widths, strict=True))
    ]


@pytest.mark.parametrize(("size", "cells"), [((128, 192), 2), ((96, 96), 3), ((64, 96), 2)])
def test_moments_of_cells_give_those_of_whole_maps(size, cells):
    """Also where a cell's border divides pixels: areas add up."""
    widths = (3, 2, 4, 1, 2, 3, 1, 5)
    maps = _maps(np.random.default_rng(0), size, widths)
    parts = [cell_moments(m, cells) for m in maps]
    tokens = np.concatenate([m for m, _ in parts] + [s for _, s in parts], -1)
    found = features.of_tokens(tokens, size, widths)
    expected = np.concatenate([part for m in maps for part in moments(m)], -1)
    np.testing.assert_allclose(found, expected, **TOLERANCES["cell_deviation"])
    stored = features.of_tokens(tokens.astype(np.float16), size, widths)
    np.testing.assert_allclose(stored, expected, **TOLERANCES["moments_of_tokens"])


def test_an_extractor_that_was_told_asks_no_network():
    rng = np.random.default_rng(1)
    extractor = features.Extractor()
    extractor.tower(0)._moments = pytest.fail
    width = 2 * sum(extractor.tower(0).widths)
    pictures = rng.integers(0, 256, (3, 8, 12, 3), np.uint8)
    rows = rng.normal(size=(3, width)).astype(np.float32)
    extractor.remember(list(pictures), rows)
    np.testing.assert_array_equal(extractor.moments(0, list(pictures[::-1])), rows[::-1])
    late = extractor("lite0_late", [pictures[1]])
    columns = features.stage_columns(extractor.tower(0).widths, (5, 7))
    np.testing.assert_array_equal(late[0], rows[1, columns])


@pytest.mark.slow
def test_tokens_of_the_shipped_tower_give_its_moments():
    """Two programs of the whole network."""
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (2, 64, 96, 3), np.uint8)
    cfg = dataclasses.replace(PRESETS["small"], vision=CellTowerConfig(image_size=64))
    student = FunctionalStudent(cfg)
    tower = FrozenTower(student, towers.load(student, towers.shipped(cfg.vision)))
    found = features.of_tokens(tower([pictures])[0], (64, 96), cfg.vision.network.widths)
    expected = features.Extractor().moments(0, list(pictures))
    np.testing.assert_allclose(found, expected, **TOLERANCES["moments_of_tokens"])
