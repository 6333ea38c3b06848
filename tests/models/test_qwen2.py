"""The decoder: a cached prefix gives the uncached logits, and a mesh those of one device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.micro_student import MICRO
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import sharding
from vqa_jax.devices.execution import Execution, executing
from vqa_jax.models.qwen2 import KVCache, Qwen2, prefix_positions

QWEN3 = dataclasses.replace(MICRO.llm, qk_norm=True)


def test_cached_prefix_gives_the_uncached_logits(student, pair):
    frames, motion, laid = pair
    cut, size = laid.prefix_len, len(laid.tokens)

    @nnx.jit
    def both(student, frames, motion, tokens):
        visual = student.encode_videos(frames[0], motion[0])
        embeds = student.merge(tokens, visual.reshape(1, -1, visual.shape[-1]))
        steps = jnp.arange(size)[None]
        whole, _ = student.hidden(embeds, steps)
        # The first video alone fills the cache, in a buffer with 5 padded slots.
        alone = student.encode_videos(frames[0, :1], motion[0, :1])
        prefix = student.merge(jnp.pad(tokens[:, :cut], ((0, 0), (0, 5))), alone)
        _, cache = student.hidden(prefix, prefix_positions(jnp.array([cut]), cut + 5))
        rest, full = student.hidden(embeds[:, cut:], steps[:, cut:], cache)
        late, _ = student.hidden(embeds[:, cut:], steps[:, cut:] + 1, cache)
        return [student.llm.logits(h) for h in (whole[:, cut:], rest, late)], cache, full

    (whole, rest, late), cache, full = both(student, frames, motion, laid.tokens[None])
    np.testing.assert_allclose(rest, whole, **TOLERANCES["cached_logits"])
    assert np.abs(late - whole).max() > 10 * TOLERANCES["cached_logits"]["atol"]
    assert isinstance(cache, KVCache) and cache.keys.shape == (2, 1, cut + 5, 2, 8)
    assert full.values.shape == (2, 1, size + 5, 2, 8)


def _decoder(cfg):
    """With scales that are not one."""
    model = Qwen2(cfg, nnx.Rngs(0), "float32", "float32")
    rng = np.random.default_rng(1)
    for name in ("q_norm_scale", "k_norm_scale"):
        scale = getattr(model.layers, name)
        scale[...] = jnp.asarray(rng.uniform(0.5, 2, scale.shape), jnp.float32)
    return nnx.split(model)


def test_heads_of_qwen3_are_normed_and_have_no_biases():
    graph, state = _decoder(QWEN3)
    layers = nnx.to_pure_dict(state)["layers"]
    assert layers["q_norm_scale"].shape == (2, 8) and not {"bq", "bk", "bv"} & layers.keys()
    x = np.random.default_rng(0).normal(size=(1, 5, 24)).astype(np.float32)
    steps = np.arange(5, dtype=np.int32)[None]

    def keys(scale):
        grown = {**layers, "wk": scale * layers["wk"]}
        pure = {**nnx.to_pure_dict(state), "layers": grown}
        changed = nnx.clone(state)
        nnx.replace_by_pure_dict(changed, pure)
        return nnx.merge(graph, changed).hidden(x, steps)[1].keys

    first = keys(1.0)
    np.testing.assert_allclose(keys(3.0), first, rtol=1e-4, atol=1e-5)
    # A rotation keeps lengths: those of position 0 are the normed ones times the scale.
    unscaled = first[:, 0, 0] / layers["k_norm_scale"][:, None]
    np.testing.assert_allclose((unscaled**2).mean(-1), 1.0, rtol=1e-3)


def _hidden(graph, mesh):
    """Of a state: two suffixes after one prefix, one by one, in one row, and behind a cache."""
    rng = np.random.default_rng(2)
    prefix, first, second = (rng.normal(size=(4, n, 24)).astype(np.float32) for n in (5, 3, 3))
    steps = np.tile(np.arange(8, dtype=np.int32), (4, 1))
    row = np.concatenate([prefix, first, second], 1)

    def hidden(state):
        with executing(Execution(mesh=mesh)):
            llm = nnx.merge(graph, state)
            alone = [
                llm.hidden(jnp.concatenate([prefix, own], 1), jnp.asarray(steps))[0][:, 5:]
                for own in (first, second)
            ]
            positions = jnp.concatenate([steps, steps[:, 5:]], 1)
            shared, _ = llm.hidden(jnp.asarray(row), positions, return_cache=False, shared=(5, 2))
            _, cache = llm.hidden(jnp.asarray(prefix), jnp.asarray(steps[:, :5]))
            behind, _ = llm.hidden(jnp.asarray(second), jnp.asarray(steps[:, 5:]), cache)
        return alone, shared[:, 5:], behind

    return hidden


def test_qwen3_computes_the_same_behind_a_cache_and_among_suffixes():
    graph, state = _decoder(QWEN3)
    alone, shared, behind = jax.jit(_hidden(graph, None))(state)
    np.testing.assert_allclose(shared, np.concatenate(alone, 1), **TOLERANCES["cached_logits"])
    np.testing.assert_allclose(behind, alone[1], **TOLERANCES["cached_logits"])


@pytest.mark.parametrize(
    "gradient", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["forward", "gradient"]
)
def test_qwen3_computes_the_same_on_a_mesh(gradient):
    """Of 1, 2, 4: query heads are split, key heads are not, norms of heads are whole."""
    graph, state = _decoder(QWEN3)
    x = np.random.default_rng(3).normal(size=(4, 6, 24)).astype(np.float32)
    steps = np.tile(np.arange(6, dtype=np.int32), (4, 1))

    def loss(state, mesh):
        with executing(Execution(mesh=mesh)):
            found, _ = nnx.merge(graph, state).hidden(x, steps, return_cache=False)
        return (found * (np.arange(found.size).reshape(found.shape) % 7)).mean(), found

    compute = jax.value_and_grad(loss, has_aux=True) if gradient else loss
    one, many = (
        jax.jit(lambda state, mesh=mesh: compute(state, mesh))(state)
        for mesh in (None, sharding.make_mesh((1, 2, 4)))
    )
    for found, wanted in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(found, wanted, **TOLERANCES["attention_kernel"])
    if gradient:
        scales = nnx.to_pure_dict(one[1])["layers"]
        assert min(np.abs(scales[f"{n}_norm_scale"]).max() for n in "qk") > 1e-4
