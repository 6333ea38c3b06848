"""Features out of a frozen tower's tokens: those of the same pictures, no network asked."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models.cell_tower import CellTowerConfig, cell_moments
from vqa_jax.models.efficientnet_lite import EfficientNetLiteConfig
from vqa_jax.models.frozen_tower import FrozenTower
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.teachers.light import features
from vqa_jax.weights import towers

_STRIDES = (2, 4, 8, 16, 16, 32, 32, 32)  # pixels of the picture by pixel of a stage's map


@pytest.mark.parametrize(("size", "cells"), [((128, 192), 2), ((96, 96), 3), ((64, 96), 2)])
@pytest.mark.parametrize("family", ["lite0_early", "lite0_mid"])
def test_cells_give_the_moments_of_whole_maps_of_the_familys_stages(size, cells, family):
    """Also where a cell's border divides pixels: areas add up."""
    rng = np.random.default_rng(0)
    maps = [
        (rng.normal(size=(2, -(-size[0] // stride), -(-size[1] // stride), width)) + k).astype(
            np.float32
        )
        for k, (stride, width) in enumerate(
            zip(_STRIDES, EfficientNetLiteConfig(0).widths, strict=True)
        )
    ]
    moments_of = jax.jit(cell_moments, static_argnums=1)
    parts = [moments_of(m, cells) for m in maps]
    tokens = np.concatenate([m for m, _ in parts] + [s for _, s in parts], -1)
    first, last = features.FAMILIES[family].stages
    chosen = maps[first : last + 1]
    moments = [m.mean((1, 2)) for m in chosen] + [m.std((1, 2)) for m in chosen]
    expected = np.concatenate(moments, -1)
    found = features.of_tokens(family, tokens)
    np.testing.assert_allclose(found, expected, **TOLERANCES["cell_deviation"])
    stored = features.of_tokens(family, tokens.astype(np.float16))
    np.testing.assert_allclose(stored, expected, **TOLERANCES["moments_of_tokens"])


@pytest.mark.slow
def test_tokens_of_the_shipped_tower_give_its_moments():
    """Two programs of the whole network."""
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (2, 64, 96, 3), np.uint8)
    cfg = dataclasses.replace(PRESETS["small"], vision=CellTowerConfig(image_size=64))
    student = FunctionalStudent(cfg)
    tower = FrozenTower.of_student(student, towers.load(student, towers.shipped(cfg.vision)))
    found = features.of_tokens("lite0_all", tower([pictures])[0])
    expected = features.Extractor()("lite0_all", list(pictures))
    np.testing.assert_allclose(found, expected, **TOLERANCES["moments_of_tokens"])
