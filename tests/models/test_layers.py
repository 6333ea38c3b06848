"""Norms, activation and initial weights against scipy and numpy in float64."""

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import special

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models import layers

X = np.random.default_rng(0).normal(2, 3, (5, 7)).astype(np.float32)
SCALE, BIAS = np.random.default_rng(1).normal(size=(2, 7)).astype(np.float32)


def test_norms_are_those_of_float64():
    x = X.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    wanted = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * SCALE + BIAS
    found = layers.layer_norm(X, SCALE, BIAS, 1e-6)
    np.testing.assert_allclose(found, wanted, **TOLERANCES["direct_sum"])
    wanted = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * SCALE
    np.testing.assert_allclose(layers.rms_norm(X, SCALE, 1e-6), wanted, **TOLERANCES["direct_sum"])


def test_norms_of_half_precision_are_computed_in_single():
    half = X.astype(jax.numpy.bfloat16)
    found = layers.layer_norm(half, SCALE, BIAS, 1e-6)
    assert found.dtype == half.dtype
    wanted = layers.layer_norm(half.astype(np.float32), SCALE, BIAS, 1e-6).astype(half.dtype)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_gelu_is_x_times_the_normal_distribution():
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    wanted = x * special.ndtr(x.astype(np.float64))
    np.testing.assert_allclose(layers.gelu(x), wanted, **TOLERANCES["direct_sum"])


def test_a_projectors_skip_adds_a_linear_layer_that_starts_as_nothing():
    plain, skipping = (
        layers.Projector(7, 4, "float32", nnx.Rngs(0), skip) for skip in (False, True)
    )
    np.testing.assert_array_equal(skipping(X), plain(X))
    weights = np.random.default_rng(2).normal(size=(7, 4)).astype(np.float32)
    skipping.w_skip[...] = weights
    np.testing.assert_allclose(skipping(X), plain(X) + X @ weights, **TOLERANCES["direct_sum"])


def test_initial_weights_have_the_stated_deviation():
    drawn = layers.fan_in(16, 2.0)(jax.random.key(0), (400, 400), np.float32)
    assert np.std(drawn) == pytest.approx(2 / 4, rel=0.01)
    assert np.abs(drawn).max() <= 2.01 / 0.8796 * 0.5  # cut at two deviations of the whole normal


def test_every_axis_needs_a_name():
    with pytest.raises(ValueError, match="2 axes"):
        layers.param(nnx.Rngs(0), layers.zeros, (2, 3), ("embed",), "float32")
