"""Gathers in rings, rows that are sent once, and what remat policies keep."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.fixtures.planned_step import mesh as mesh_of
from vqa_jax.devices import execution
from vqa_jax.models.attention import attention


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


@pytest.mark.parametrize(("remat", "times"), [("full", 2), ("attention", 1), ("dots", 1)])
def test_what_cudnn_computed_is_kept_for_the_gradient(monkeypatch, remat, times):
    kernel = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    # Tracing alone needs no card once these do not ask for one.
    monkeypatch.setattr(kernel, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(kernel, "check_compute_capability", lambda _: True)
    monkeypatch.setattr(kernel, "is_cuda_compute_capability_equal", lambda _: False)

    def loss(weights, x):
        with execution.executing(execution.Execution(attention="cudnn", remat=remat)):

            def layer(x, w):
                heads = (x @ w).reshape(2, 64, 4, 64)
                return x + attention(heads, heads, heads).reshape(x.shape), None

            return jax.lax.scan(execution.recomputed(layer), x, weights)[0].sum()

    weights, x = (jax.numpy.zeros(s, "bfloat16") for s in ((3, 256, 256), (2, 64, 256)))
    traced = str(jax.make_jaxpr(jax.grad(loss))(weights, x))
    assert traced.count("dot_product_attention_fwd") == times
    assert traced.count("dot_product_attention_bwd") == 1


@pytest.mark.parametrize("mesh", [None, (1, 2, 1)])
def test_rows_that_come_often_are_sent_once(monkeypatch, mesh):
    monkeypatch.setattr(execution, "_WORTH_A_GATHER", 1)
    sent = []
    monkeypatch.setattr(execution, "_take", lambda *x: sent.append(x[0].shape) or x[0][x[1]])
    run = execution.Execution(mesh and mesh_of(*mesh))
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    order = [2, 0, 0, 1, 2, 2]
    np.testing.assert_array_equal(run.gathered([values[i] for i in order]), values[order])
    assert sent == [(4, 4, 5)]
    np.testing.assert_array_equal(run.gathered(list(values[:2])), values[:2])
    assert len(sent) == 1
