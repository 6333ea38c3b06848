"""Gathers in rings: the values and gradients of one gather."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.fixtures.planned_step import mesh as mesh_of
from vqa_jax.devices import execution


def test_gathering_in_rings_gives_values_and_gradients_of_one_gather(monkeypatch):
    mesh = mesh_of(1, 8, 1)
    weights = jax.random.normal(jax.random.key(0), (16, 3))
    rows = jax.random.normal(jax.random.key(1), (8, 16))

    def loss(weights):
        with execution.executing(execution.Execution(mesh)):
            out = execution.on_shards(
                lambda p, x: jax.numpy.sin(x @ p["w"]),
                {"w": weights},
                {"w": ("embed", None)},
                (rows,),
            )
        return (out**2).sum()

    rings = [np.arange(8).reshape(2, 4).tolist(), np.arange(8).reshape(2, 4).T.tolist()]
    monkeypatch.setattr(execution, "ring_groups", lambda *_: rings)
    value, gradient = jax.jit(jax.value_and_grad(loss))(weights)
    expected = jax.value_and_grad(lambda w: (jax.numpy.sin(rows @ w) ** 2).sum())(weights)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-5)


def test_unknown_settings_are_refused():
    for field in ("attention", "remat"):
        with pytest.raises(ValueError, match="surprise"):
            dataclasses.replace(execution.Execution(), **{field: "surprise"})
