"""Attention of queries that devices share: every kernel gives what one device gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fixtures.planned_step import context_mesh
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import context, execution
from vqa_jax.models import attention as attention_lib
from vqa_jax.models.attention import Causal, attention, xla_attention


def _positions(length):
    return jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (2, length))


def _inputs(length):
    rng = np.random.default_rng(0)
    shapes = ((2, length, 4, 16), *[(2, length, 2, 16)] * 2)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def _shared(kind, devices, query, key, value):
    """Attention on a mesh of which so many devices share every sequence, in order again."""
    run = execution.Execution(context_mesh((1, 2, 1), devices), attention=kind)
    with execution.executing(run):
        inputs = [context.in_parts(x) for x in (query, key, value)]
        positions = context.in_parts(_positions(query.shape[1]))
        rows = run.spec(("batch",), (2,))
        parts = run.spec(("batch", "sequence"), positions.shape)

        def local(_, query, key, value, own, all_of_them):
            mask = Causal(own, all_of_them, devices)
            return attention(query, context.whole(key), context.whole(value), mask)

        arrays = *inputs, positions, context.in_order(positions)
        out = execution.on_shards(local, {}, {}, arrays, (*[parts] * 4, rows), parts)
        return context.in_order(out)


def _agree(fn, expected_fn, inputs):
    def both(fn):
        def loss(*inputs):
            out = fn(*inputs)
            return jnp.sum(jnp.sin(3 * out)), out

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs)

    grads, out = both(fn)
    expected_grads, expected = both(expected_fn)
    np.testing.assert_allclose(out, expected, **TOLERANCES["attention_kernel"])
    for ours, theirs in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(ours, theirs, **TOLERANCES["attention_kernel"])


@pytest.mark.parametrize(
    ("kind", "devices", "length"),
    [
        ("xla", 4, 48),
        ("splash_interpreted", 2, 600),  # chunks of 150: blocks of two, padding behind
        pytest.param("splash_interpreted", 4, 1024, marks=pytest.mark.slow),
    ],
)
def test_queries_in_parts_see_what_they_see_on_one_device(kind, devices, length):
    mask = Causal(_positions(length), _positions(length))
    one_device = functools.partial(xla_attention, mask=mask)
    _agree(functools.partial(_shared, kind, devices), one_device, _inputs(length))


def test_cudnn_is_given_the_mask_of_the_part(monkeypatch):
    plain = jax.nn.dot_product_attention

    def as_cudnn(query, key, value, implementation, mask):
        assert implementation == "cudnn" and mask.shape[1:] == (1, 12, 24)
        return plain(query, key, value, mask=mask, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", as_cudnn)
    monkeypatch.setattr(attention_lib, "_kernel", lambda *_: "cudnn")
    mask = Causal(_positions(24), _positions(24))
    one_device = functools.partial(xla_attention, mask=mask)
    _agree(functools.partial(_shared, "cudnn", 2), one_device, _inputs(24))


def test_some_queries_at_once_give_what_all_give(monkeypatch):
    mask = Causal(_positions(40), _positions(40))
    inputs, all_of_them = _inputs(40), functools.partial(xla_attention, mask=mask)
    expected = jax.jit(all_of_them)(*inputs)
    gradient = jax.jit(jax.grad(lambda *x: jnp.sin(3 * all_of_them(*x)).sum()))(*inputs)
    monkeypatch.setattr(attention_lib, "_LONG", 0)
    monkeypatch.setattr(attention_lib, "_MOST_SCORES", 7 * 2 * 4 * 40)  # 40 is no multiple of 7
    some = functools.partial(xla_attention, mask=mask)
    traced = jax.make_jaxpr(some)(*inputs)
    assert "scan" in str(traced) and "40,40" not in str(traced)
    np.testing.assert_allclose(jax.jit(some)(*inputs), expected, **TOLERANCES["attention_kernel"])
    found = jax.jit(jax.grad(lambda *x: jnp.sin(3 * some(*x)).sum()))(*inputs)
    np.testing.assert_allclose(found, gradient, **TOLERANCES["attention_kernel"])
