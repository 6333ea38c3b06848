"""Gathers in rings, rows that are sent once, and what remat policies keep."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tests.fixtures.planned_step import mesh as mesh_of
from vqa_jax.devices import execution, sharding, topology
from vqa_jax.models.attention import attention
from vqa_jax.planning import compiled, hlo


@pytest.mark.parametrize("axis", [0, 1])
def test_gathering_in_rings_gives_values_and_gradients_of_one_gather(monkeypatch, axis):
    mesh = mesh_of(1, 8, 1)
    weights = jax.random.normal(jax.random.key(0), (16, 3))
    rows = jax.random.normal(jax.random.key(1), (8, 16))

    def loss(weights):
        with execution.executing(execution.Execution(mesh)):
            out = execution.on_shards(
                lambda p, x: jnp.sin(x @ jnp.moveaxis(p["w"], axis, 0)),
                {"w": jnp.moveaxis(weights, 0, axis)},
                {"w": ("embed", None) if axis == 0 else (None, "embed")},
                (rows,),
            )
        return (out**2).sum()

    rings = [np.arange(8).reshape(2, 4).tolist(), np.arange(8).reshape(2, 4).T.tolist()]
    monkeypatch.setattr(execution, "ring_groups", lambda *_: rings)
    value, gradient = jax.jit(jax.value_and_grad(loss))(weights)
    expected = jax.value_and_grad(lambda w: (jnp.sin(rows @ w) ** 2).sum())(weights)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("chips", ["v5e:8x8", "v5p:4x4x4"])
def test_tpus_scatter_gradients_over_two_and_three_torus_axes(monkeypatch, chips):
    """Whichever axis of a weight is shared: nothing is summed whole."""
    pytest.importorskip("libtpu", reason="pip install -r launch/requirements-plan.txt")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # libtpu ends the process over those of CPUs
    chips = topology.open_topology(chips)
    mesh = sharding.make_mesh((1, -1, 1), chips.devices)
    names = {"up": ("embed", "mlp"), "down": ("mlp", "embed")}
    shapes = {"up": (3584, 18944), "down": (18944, 3584)}

    def placed(shape, names=("batch",)):
        place = NamedSharding(mesh, sharding.partition(names, shape, mesh))
        return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place)

    def layer(p, x):
        return jnp.sin(x @ p["up"]) @ p["down"]

    def loss(weights, x):
        with execution.executing(execution.Execution(mesh)):
            return execution.on_shards(layer, weights, names, (x,)).astype(jnp.float32).sum()

    weights = {name: placed(shape, names[name]) for name, shape in shapes.items()}
    places = {name: leaf.sharding for name, leaf in weights.items()}
    step = jax.jit(jax.grad(loss), out_shardings=places)
    lowered = step.lower(weights, placed((4096 * mesh.size, 3584), ("batch", None)))
    found = hlo.traffic(compiled.compiled_text(lowered, chips)[1]).by_kind()
    sent = {kind: row["gigabytes"] for kind, row in found.items()}
    assert sent.get("all-reduce", 0.0) < 1e-3 < sent.get("reduce-scatter", 0.0), sent


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

    weights, x = (jnp.zeros(s, "bfloat16") for s in ((3, 256, 256), (2, 64, 256)))
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
