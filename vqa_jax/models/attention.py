"""Scaled dot-product attention with grouped key/value heads: the one place to swap in a kernel."""

import jax
import jax.numpy as jnp

PAD_POSITION = jnp.iinfo(jnp.int32).max  # position of a key that no real query may see


def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Attends every query to the keys that `mask` allows; softmax in float32.

    Args:
        query: [B, L, Q, E].
        key: [B, S, G, E], Q a multiple of G: query head q reads key head q // (Q // G).
        value: [B, S, G, E].
        mask: bool [B, L, S], True where the query may see the key; None: everything is seen.

    Returns:
        [B, L, Q, E] in the dtype of `query`.
    """
    B, L, Q, E = query.shape
    G = key.shape[2]
    grouped = query.reshape(B, L, G, Q // G, E)
    scores = jnp.einsum("blgre,bsge->bgrls", grouped, key, preferred_element_type=jnp.float32)
    scores = scores * (E**-0.5)
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    return jnp.einsum("bgrls,bsge->blgre", weights, value).reshape(B, L, Q, E)


def causal_mask(query_positions: jax.Array, key_positions: jax.Array) -> jax.Array:
    """Which keys a query may see, from positions alone: those at its own position or before.

    Right padding therefore needs no mask of its own (its positions come later), and padded keys
    in the middle (a cached prefix shorter than its buffer) carry `PAD_POSITION`.

    Args:
        query_positions: int32 [B, L].
        key_positions: int32 [B, S].

    Returns:
        bool [B, L, S].
    """
    return key_positions[:, None, :] <= query_positions[:, :, None]
