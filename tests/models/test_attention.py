"""Kernels give XLA's numbers: the TPU kernel interpreted here, the choice by platform and shape."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fixtures import micro_student
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import execution
from vqa_jax.models import attention as attention_lib
from vqa_jax.models.attention import (
    PAD_POSITION,
    Causal,
    attention,
    block_sizes,
    cudnn_attention,
    splash_attention,
    xla_attention,
)
from vqa_jax.models.functional import FunctionalStudent


def _inputs(queries, keys, heads, kv_heads, width, rows=2):
    rng = np.random.default_rng(0)
    shapes = ((rows, queries, heads, width), *[(rows, keys, kv_heads, width)] * 2)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def _positions(rows, length, start=0):
    return jnp.broadcast_to(start + jnp.arange(length, dtype=jnp.int32), (rows, length))


def _agree(inputs, mask, kernel=functools.partial(splash_attention, interpret=True)):
    """Outputs and gradients of a kernel and of XLA."""

    def both(fn):
        def loss(*inputs):
            out = fn(*inputs)
            return jnp.sum(jnp.sin(3 * out)), out

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs)

    grads, out = both(lambda *x: kernel(*x, mask))
    expected_grads, expected = both(lambda *x: xla_attention(*x, mask))
    np.testing.assert_allclose(out, expected, **TOLERANCES["attention_kernel"])
    for ours, theirs in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(ours, theirs, **TOLERANCES["attention_kernel"])


def test_kernel_on_causal_sequences_with_grouped_heads_and_padding():
    inputs = _inputs(queries=150, keys=150, heads=4, kv_heads=2, width=64)
    _agree(inputs, Causal(_positions(2, 150), _positions(2, 150)))


def test_kernel_on_the_towers_head_width_without_a_mask():
    _agree(_inputs(queries=81, keys=81, heads=2, kv_heads=2, width=72), None)


def test_kernel_after_cached_prefixes_of_two_lengths():
    inputs = _inputs(queries=20, keys=60 + 20, heads=2, kv_heads=1, width=32)
    steps = np.arange(60)
    prefix = np.stack([np.where(steps < n, steps, PAD_POSITION) for n in (60, 41)])
    queries = np.stack([n + np.arange(20) for n in (60, 41)])
    keys = np.concatenate([prefix, queries], axis=1)
    _agree(inputs, Causal(jnp.asarray(queries, jnp.int32), jnp.asarray(keys, jnp.int32)))


def test_kernel_with_a_mask_known_while_compiling():
    # One prefix of 40 with two suffixes of 30 that do not see each other.
    mask = np.tril(np.ones((100, 100), bool))
    mask[70:, 40:70] = False
    _agree(_inputs(queries=100, keys=100, heads=2, kv_heads=1, width=16), mask)


@pytest.mark.parametrize("queries", [8, 7])
@pytest.mark.parametrize("case", ["full", "causal", "prefix", "static"])
def test_what_cudnn_is_given_has_even_lengths_and_means_the_same(monkeypatch, case, queries):
    plain = jax.nn.dot_product_attention

    def as_cudnn(query, key, value, implementation, **seen):
        # cuDNN's gradient refuses odd lengths.
        assert implementation == "cudnn" and query.shape[1] % 2 == key.shape[1] % 2 == 0
        return plain(query, key, value, implementation="xla", **seen)

    monkeypatch.setattr(jax.nn, "dot_product_attention", as_cudnn)
    keys = queries + 5 * (case == "prefix")
    positions = np.stack([np.arange(5), np.where(np.arange(5) < 3, np.arange(5), PAD_POSITION)])
    own = jnp.stack([n + jnp.arange(queries, dtype=jnp.int32) for n in (5, 3)])
    behind = jnp.concatenate([jnp.asarray(positions, jnp.int32), own], axis=1)
    static = np.tril(np.ones((queries, queries), bool))
    static[-2:, 2:4] = False
    mask = {
        "full": None,
        "causal": Causal(_positions(2, queries), _positions(2, queries)),
        "prefix": Causal(own, behind),
        "static": static,
    }[case]
    _agree(_inputs(queries, keys, heads=4, kv_heads=2, width=8), mask, cudnn_attention)


def test_student_by_kernel_is_the_student_by_xla():
    student = FunctionalStudent(micro_student.CONFIG)
    params, batch = micro_student.drawn(student.abstract()), micro_student.batch(0, size=2)
    names = ("frames", "motion", "tokens", "answer_pos")

    def logits(kind):
        def run(params, *inputs):
            with execution.executing(execution.Execution(attention=kind)):
                return student.bind(params)(*inputs)

        return jax.jit(run)(params, *[batch[n] for n in names])

    np.testing.assert_allclose(
        logits("splash_interpreted"), logits("xla"), **TOLERANCES["attention_kernel"]
    )


def test_blocks_are_whole_and_large():
    assert block_sizes(81) == (128, 128)
    assert block_sizes(729) == (768, 384)
    assert block_sizes(4096) == (4096, 512)
    for length in (1, 500, 2049, 3999, 10_240):
        padded, block = block_sizes(length)
        assert padded >= length and padded % block == 0 and block % 128 == 0
        assert block >= 512 or length <= 2048


@pytest.mark.parametrize(
    ("platform", "change", "chosen"),
    [
        ("tpu", {}, "splash"),
        ("tpu", {"mask": "dynamic"}, "xla"),
        ("gpu", {}, "cudnn"),
        ("gpu", {"mask": None}, "cudnn"),
        ("gpu", {"dtype": jnp.float32}, "xla"),
        ("gpu", {"keys": 12}, "cudnn"),
        ("gpu", {"width": 12}, "xla"),
        ("cpu", {}, "xla"),
    ],
)
def test_kernel_follows_the_platform(monkeypatch, platform, change, chosen):
    calls = []

    def stub(name):
        return lambda query, *_, **__: calls.append(name) or query

    monkeypatch.setattr(attention_lib, "splash_attention", stub("splash"))
    monkeypatch.setattr(attention_lib, "xla_attention", stub("xla"))
    monkeypatch.setattr(jax.nn, "dot_product_attention", stub("cudnn"))
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    given = {"mask": "causal", "dtype": jnp.bfloat16, "keys": 8, "width": 16, **change}
    inputs = _inputs(8, given["keys"], 2, 1, given["width"])
    mask = {
        "causal": Causal(_positions(2, 8), _positions(2, given["keys"])),
        "dynamic": jnp.ones((2, 8, given["keys"]), bool),
        None: None,
    }[given["mask"]]
    out = attention(*[x.astype(given["dtype"]) for x in inputs], mask)
    assert calls == [chosen] and out.shape == inputs[0].shape


def test_a_named_kernel_is_taken_whatever_the_platform(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    run = dataclasses.replace(execution.Execution(), attention="xla")
    inputs = _inputs(8, 8, 2, 1, 16)
    with execution.executing(run):
        out = attention(*inputs)
    np.testing.assert_array_equal(out, xla_attention(*inputs))


def test_attention_by_brute_force():
    rng = np.random.default_rng(1)
    q = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
    k, v = rng.normal(size=(2, 2, 5, 2, 3)).astype(np.float32)
    mask = rng.random((2, 4, 5)) < 0.6
    mask[..., 0] = True
    expected = np.zeros_like(q)
    for b, i, head in np.ndindex(2, 4, 6):
        seen = np.flatnonzero(mask[b, i])
        scores = np.exp(k[b, seen, head // 3] @ q[b, i, head] / np.sqrt(3))
        expected[b, i, head] = scores / scores.sum() @ v[b, seen, head // 3]
    np.testing.assert_allclose(attention(q, k, v, mask), expected, rtol=1e-5, atol=1e-6)
