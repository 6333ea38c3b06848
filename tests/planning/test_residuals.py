"""What a step keeps for its backward pass, counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from vqa_jax.planning import residuals

WEIGHTS, X = jnp.zeros((3, 8, 8)), jnp.zeros((2, 8))
ROWS = 2 * 8 * 4  # bytes of what a layer gives


def _jaxpr(layer, weights=WEIGHTS, x=X, wanted=jax.grad):
    def loss(weights, x):
        return jax.lax.scan(layer, x, weights)[0].sum()

    return jax.make_jaxpr(jax.jit(wanted(loss)))(weights, x).jaxpr


def test_what_scans_stack():
    def layer(carry, w):
        return jnp.sin(carry @ w), None

    # Of each of three layers: its input, and the cosine.
    assert residuals.stacked_bytes(_jaxpr(layer)) == 3 * 2 * ROWS
    assert residuals.stacked_bytes(_jaxpr(layer, wanted=lambda f: f)) == 0
    # The cosine is that of the product, which is as large.
    assert residuals.fused_bytes(_jaxpr(layer)) == 3 * 2 * ROWS


def test_what_lies_between_products_is_computed_again():
    def layer(carry, w):
        wide = carry.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-6)
        h = normed.astype(jnp.bfloat16) @ w
        return carry + jax.nn.gelu(h.astype(jnp.float32)).astype(jnp.bfloat16) @ w, None

    weights, x = WEIGHTS.astype(jnp.bfloat16), X.astype(jnp.bfloat16)
    jaxpr = _jaxpr(layer, weights, x)
    # The layer's input, what both products are given, what the first one gives; two numbers a row.
    assert residuals.fused_bytes(jaxpr) == 3 * (4 * ROWS / 2 + 2 * 2 * 4)
    assert residuals.stacked_bytes(jaxpr) > 2 * residuals.fused_bytes(jaxpr)


def test_functions_called_twice_are_two_and_frozen_weights_keep_no_inputs():
    product = jax.jit(jnp.matmul)  # whose equations are the same ones in every call

    def layer(carry, w):
        return jnp.sin(product(jnp.sin(product(carry, w)), w)), None

    # Inputs of both products, and what they give.
    assert residuals.fused_bytes(_jaxpr(layer)) == 3 * 4 * ROWS

    def frozen(weights, x):
        return jax.lax.scan(layer, x, weights)[0].sum()

    jaxpr = jax.make_jaxpr(jax.grad(frozen, 1))(WEIGHTS, X).jaxpr
    assert residuals.fused_bytes(jaxpr) == 3 * 2 * ROWS


def test_names_that_a_policy_keeps_are_kept():
    def layer(carry, w):
        h = checkpoint_name(jnp.cos(carry @ w), "kept")
        return jnp.sin(h), None

    policy = jax.checkpoint_policies.save_only_these_names("kept")
    kept = _jaxpr(jax.checkpoint(layer, policy=policy))
    none = _jaxpr(jax.checkpoint(layer))
    np.testing.assert_equal(residuals.fused_bytes(none), 3 * ROWS)
    np.testing.assert_equal(residuals.stacked_bytes(kept), 3 * 2 * ROWS)


def test_a_named_sum_of_products_is_kept_and_not_its_parts():
    def layer(carry, w):
        h = checkpoint_name(carry @ w + carry @ jnp.sin(w), "kept")
        return jnp.sin(h), None

    policy = jax.checkpoint_policies.save_only_these_names("kept")
    jaxpr = _jaxpr(jax.checkpoint(layer, policy=policy))
    assert residuals.fused_bytes(jaxpr) == residuals.stacked_bytes(jaxpr) == 3 * 2 * ROWS
