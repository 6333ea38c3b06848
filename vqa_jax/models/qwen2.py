"""Qwen2 decoder with a reusable key/value prefix (METHOD 4; Yang et al. 2024)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vqa_jax.models.attention import PAD_POSITION, attention, causal_mask
from vqa_jax.models.layers import fan_in, ones, param, rms_norm, stacked, truncated_normal, zeros


@dataclasses.dataclass(frozen=True)
class Qwen2Config:
    """Sizes of the decoder."""

    num_layers: int
    embed_dim: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    rope_theta: float = 1e6
    norm_eps: float = 1e-6
    tie_embeddings: bool = False
    remat: bool = False  # recompute each layer in the backward pass
    unroll: int = 1  # layers per scan step: more is faster and compiles longer

    def __post_init__(self):
        """Refuses head counts that do not divide, and heads that cannot be rotated in halves."""
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"{self.num_heads} heads do not share {self.num_kv_heads} kv heads")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd: rotary halves need an even one")


class KVCache(NamedTuple):
    """Rotated keys and values of every layer for a prefix.

    keys, values: [layers, B, S, G, E]; positions: int32 [B, S], PAD_POSITION where padded.
    """

    keys: jax.Array
    values: jax.Array
    positions: jax.Array


class DecoderLayers(nnx.Module):
    """Parameters of all decoder layers, stacked along a leading `layers` axis."""

    def __init__(self, cfg: Qwen2Config, param_dtype: str, rngs: nnx.Rngs):
        """Residual outputs start smaller by 1/sqrt(2 * layers), so that depth adds no variance."""
        D, Q, G, E, I = (  # noqa: E741
            cfg.embed_dim, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim, cfg.mlp_dim,
        )
        residual = (2 * cfg.num_layers) ** -0.5

        def make(init, shape, *names):
            shape, names = (cfg.num_layers, *shape), ("layers", *names)
            return param(rngs, init, shape, names, param_dtype)

        self.norm1_scale = make(ones, (D,), "embed")
        self.wq = make(fan_in(D), (D, Q, E), "embed", "heads", "head_dim")
        self.bq = make(zeros, (Q, E), "heads", "head_dim")
        self.wk = make(fan_in(D), (D, G, E), "embed", "kv_heads", "head_dim")
        self.bk = make(zeros, (G, E), "kv_heads", "head_dim")
        self.wv = make(fan_in(D), (D, G, E), "embed", "kv_heads", "head_dim")
        self.bv = make(zeros, (G, E), "kv_heads", "head_dim")
        self.wo = make(fan_in(Q * E, residual), (Q, E, D), "heads", "head_dim", "embed")
        self.norm2_scale = make(ones, (D,), "embed")
        self.w_gate = make(fan_in(D), (D, I), "embed", "mlp")
        self.w_up = make(fan_in(D), (D, I), "embed", "mlp")
        self.w_down = make(fan_in(I, residual), (I, D), "mlp", "embed")


def rotate(x: jax.Array, positions: jax.Array, theta: float) -> jax.Array:
    """Rotary position embedding on halves (dimension e is paired with e + E/2), in float32.

    Args:
        x: [B, L, heads, E].
        positions: int32 [B, L].
        theta: base of the wavelengths.
    """
    half = x.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[..., None, None] * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def prefix_positions(lengths: jax.Array, size: int) -> jax.Array:
    """Positions 0..length-1 of right-padded prefixes, PAD_POSITION after them.

    Args:
        lengths: int32 [B], real tokens of each prefix.
        size: S, padded length.

    Returns:
        int32 [B, S], for `Qwen2.hidden` of a prefix that is to be cached.
    """
    steps = jnp.arange(size, dtype=jnp.int32)[None]
    return jnp.where(steps < lengths[:, None], steps, PAD_POSITION)


def _layer(x, p, positions, mask, prefix, cfg):
    """One decoder layer: [B, L, D] -> ([B, L, D], keys and values with the prefix in front)."""
    h = rms_norm(x, p["norm1_scale"], cfg.norm_eps)
    query = rotate(jnp.einsum("bld,dqe->blqe", h, p["wq"]) + p["bq"], positions, cfg.rope_theta)
    key = rotate(jnp.einsum("bld,dge->blge", h, p["wk"]) + p["bk"], positions, cfg.rope_theta)
    value = jnp.einsum("bld,dge->blge", h, p["wv"]) + p["bv"]
    if prefix is not None:
        key = jnp.concatenate([prefix[0], key], axis=1)
        value = jnp.concatenate([prefix[1], value], axis=1)
    x = x + jnp.einsum("blqe,qed->bld", attention(query, key, value, mask), p["wo"])
    h = rms_norm(x, p["norm2_scale"], cfg.norm_eps)
    # One row a token: weight gradients over two token axes cost a CPU half as much again.
    h = h.reshape(-1, h.shape[-1])
    h = (jax.nn.silu(h @ p["w_gate"]) * (h @ p["w_up"])) @ p["w_down"]
    return x + h.reshape(x.shape), (key, value)


class Qwen2(nnx.Module):
    """Causal decoder on embeddings; the vocabulary matmul is a separate call (`logits`)."""

    def __init__(
        self, cfg: Qwen2Config, rngs: nnx.Rngs, param_dtype: str, compute_dtype: str
    ):
        """Builds the decoder with parameters in `param_dtype`."""
        self.cfg = cfg
        self.compute_dtype = compute_dtype
        table = (cfg.vocab_size, cfg.embed_dim)
        self.embedding = param(
            rngs, truncated_normal(0.02), table, ("vocab", "embed"), param_dtype
        )
        self.layers = DecoderLayers(cfg, param_dtype, rngs)
        self.norm_scale = param(rngs, ones, (cfg.embed_dim,), ("embed",), param_dtype)
        if not cfg.tie_embeddings:
            # Small: an untrained head should be undecided, not confidently wrong.
            self.head = param(
                rngs, truncated_normal(0.02), table[::-1], ("embed", "vocab"), param_dtype
            )

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Text embeddings: int32 [...] in 0..V-1 -> [..., D]."""
        return self.embedding[...].astype(self.compute_dtype)[tokens]

    def hidden(
        self,
        embeds: jax.Array,
        positions: jax.Array,
        prefix_cache: KVCache | None = None,
        *,
        return_cache: bool = True,
    ) -> tuple[jax.Array, KVCache | None]:
        """Runs the decoder, on top of a cached prefix if there is one.

        Args:
            embeds: [B, L, D].
            positions: int32 [B, L] of these tokens, so the prefix's real length onwards.
            prefix_cache: keys and values that come before; its batch is B.
            return_cache: also return keys and values of prefix and these tokens together.

        Returns:
            (normed hidden states [B, L, D], cache or None).
        """
        cfg, dtype = self.cfg, jnp.dtype(self.compute_dtype)
        key_positions, prefix = positions, None
        if prefix_cache is not None:
            key_positions = jnp.concatenate([prefix_cache.positions, positions], axis=1)
            prefix = (prefix_cache.keys, prefix_cache.values)
        mask = causal_mask(positions, key_positions)

        def body(carry, xs):
            layer, layer_prefix = xs
            carry, kv = _layer(carry, layer, positions, mask, layer_prefix, cfg)
            return carry, kv if return_cache else None

        body = jax.checkpoint(body, prevent_cse=False) if cfg.remat else body
        xs = (stacked(self.layers, dtype), prefix)
        x, kv = jax.lax.scan(body, embeds.astype(dtype), xs, unroll=cfg.unroll)
        x = rms_norm(x, self.norm_scale[...], cfg.norm_eps)
        return x, KVCache(*kv, key_positions) if return_cache else None

    def logits(self, hidden: jax.Array, token_ids: jax.Array | None = None) -> jax.Array:
        """Next-token logits, of all tokens or of a few.

        Args:
            hidden: [..., D] from `hidden`.
            token_ids: int32 [R]; None: the whole vocabulary.

        Returns:
            float32 [..., V] or [..., R].
        """
        tied = self.cfg.tie_embeddings
        table = (self.embedding[...] if tied else self.head[...].T).astype(self.compute_dtype)
        table = table if token_ids is None else table[token_ids]
        return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
