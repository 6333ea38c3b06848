"""Qwen2 and Qwen3 decoders with a reusable key/value prefix (method 4; Yang et al. 2024, 2025)."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from vqa_jax.devices import context
from vqa_jax.devices.execution import (
    GATE,
    PROJECTED,
    current,
    lookup,
    on_shards,
    own_part,
    recomputed,
    total,
)
from vqa_jax.models import lora
from vqa_jax.models.attention import PAD_POSITION, Causal, SharedPrefix, attention
from vqa_jax.models.int8 import Quantized, restored
from vqa_jax.models.layers import (
    axis_names,
    fan_in,
    ones,
    param,
    rms_norm,
    stacked,
    truncated_normal,
    zeros,
)


@dataclasses.dataclass(frozen=True)
class Qwen2Config:
    """Sizes of the decoder.

    qk_norm: Qwen3's attention, which norms queries and keys head by head and has no biases;
    otherwise Qwen2's and Qwen2.5's, with biases on queries, keys and values.
    lora_rank: of the low-rank additions to every layer's matrices (`models.lora`); 0: none.
    lora_alpha: the additions are scaled by lora_alpha / lora_rank.
    lora_base: "int8": the matrices below the additions are kept in it; "": as all parameters.
    unroll: layers per scan step: more is faster and compiles longer.
    """

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
    unroll: int = 1
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_base: str = ""
    qk_norm: bool = False

    @property
    def lora_scale(self) -> float:
        """Factor on the low-rank additions."""
        return self.lora_alpha / max(self.lora_rank, 1)

    def __post_init__(self):
        """Refuses head counts that do not divide, and heads that cannot be rotated in halves."""
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} do not share num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd: rotary halves need an even one")


class KVCache(NamedTuple):
    """Rotated keys and values of every layer for a prefix.

    keys, values: [layers, B, S, G, E], or in int8; positions: int32 [B, S], PAD_POSITION where
    padded.
    """

    keys: jax.Array | Quantized
    values: jax.Array | Quantized
    positions: jax.Array

    def quantized(self) -> KVCache:
        """In int8, a step a token and head: little more than half of what bfloat16 takes."""
        return self._replace(keys=Quantized.of(self.keys), values=Quantized.of(self.values))

    def rows(self, rows: jax.Array) -> KVCache:
        """Of the rows int32 [N] of its batch, in this order."""
        keys, values = jax.tree.map(lambda x: x[:, rows], (self.keys, self.values))
        return KVCache(keys, values, self.positions[rows])


class DecoderLayers(nnx.Module):
    """Parameters of all decoder layers, stacked along a leading `layers` axis."""

    def __init__(self, cfg: Qwen2Config, param_dtype: str, rngs: nnx.Rngs):
        """Residual outputs start smaller by 1/sqrt(2 * layers), so that depth adds no variance."""
        D, Q, G, E, I = (  # noqa: E741
            cfg.embed_dim,
            cfg.num_heads,
            cfg.num_kv_heads,
            cfg.head_dim,
            cfg.mlp_dim,
        )
        residual = (2 * cfg.num_layers) ** -0.5

        def make(init, shape, *names):
            shape, names = (cfg.num_layers, *shape), ("layers", *names)
            return param(rngs, init, shape, names, param_dtype)

        self.norm1_scale = make(ones, (D,), "embed")
        for name, heads, axis in (("q", Q, "heads"), ("k", G, "kv_heads"), ("v", G, "kv_heads")):
            weight = make(fan_in(D), (D, heads, E), "embed", axis, "head_dim")
            setattr(self, f"w{name}", weight)
            if not cfg.qk_norm:
                setattr(self, f"b{name}", make(zeros, (heads, E), axis, "head_dim"))
        if cfg.qk_norm:
            self.q_norm_scale = make(ones, (E,), "head_dim")
            self.k_norm_scale = make(ones, (E,), "head_dim")
        self.wo = make(fan_in(Q * E, residual), (Q, E, D), "heads", "head_dim", "embed")
        self.norm2_scale = make(ones, (D,), "embed")
        self.w_gate = make(fan_in(D), (D, I), "embed", "mlp")
        self.w_up = make(fan_in(D), (D, I), "embed", "mlp")
        self.w_down = make(fan_in(I, residual), (I, D), "mlp", "embed")
        if cfg.lora_rank:
            lora.add(self, cfg.lora_rank, make)


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


def _own_heads(heads: jax.Array, num_queries: int, cfg: Qwen2Config) -> jax.Array:
    """Key or value heads [B, S, G, E] for this device's query heads, in the same ratio.

    They are all here, one for every query head, where the mesh splits query heads alone.
    """
    if num_queries == cfg.num_heads or heads.shape[2] < cfg.num_kv_heads:
        return heads
    group = cfg.num_heads // cfg.num_kv_heads
    own = own_part("heads") * num_queries + jnp.arange(num_queries)
    return jnp.take(heads, own // group, axis=2)


def _heads(p, h, dense, cfg):
    """Queries [B, L, Q, E], keys and values [B, L, G, E] of this device's heads, unrotated."""
    products = ("bld,dqe->blqe", "wq"), ("bld,dge->blge", "wk"), ("bld,dge->blge", "wv")
    query, key, value = (checkpoint_name(dense(eq, h, w), PROJECTED) for eq, w in products)
    if not cfg.qk_norm:
        return query + p["bq"], key + p["bk"], value + p["bv"]
    query = rms_norm(query, p["q_norm_scale"], cfg.norm_eps)
    return query, rms_norm(key, p["k_norm_scale"], cfg.norm_eps), value


def _layer(p, x, positions, key_positions, prefix, cfg, shared):
    """One decoder layer on one device's rows and heads, and its part of their tokens.

    [B, L, D] -> ([B, L, D], keys and values with the prefix in front).
    """
    dense = functools.partial(lora.dense, p=p, scale=cfg.lora_scale)
    h = rms_norm(x, p["norm1_scale"], cfg.norm_eps)
    query, key, value = _heads(p, h, dense, cfg)
    query, key = (rotate(heads, positions, cfg.rope_theta) for heads in (query, key))
    if prefix is not None:
        before = [restored(heads, key.dtype) for heads in prefix]
        key = jnp.concatenate([before[0], key], axis=1)
        value = jnp.concatenate([before[1], value], axis=1)
    key, value = context.whole(key), context.whole(value)
    queries = query.shape[2]
    own_key, own_value = (_own_heads(heads, queries, cfg) for heads in (key, value))
    causal = Causal(positions, key_positions, current().context)
    mask = SharedPrefix(positions, *shared) if shared else causal
    seen = attention(query, own_key, own_value, mask)
    out = total(dense("blqe,qed->bld", seen, "wo"), "heads", queries, cfg.num_heads)
    x = x + checkpoint_name(out, PROJECTED)
    h = rms_norm(x, p["norm2_scale"], cfg.norm_eps)
    # One row a token: weight gradients over two token axes cost a CPU half as much again.
    h = h.reshape(-1, h.shape[-1])
    gate = checkpoint_name(dense("nd,di->ni", h, "w_gate"), GATE)
    h = jax.nn.silu(gate) * dense("nd,di->ni", h, "w_up")
    out = total(dense("ni,id->nd", h, "w_down"), "mlp", h.shape[-1], cfg.mlp_dim)
    return x + out.reshape(x.shape), (key, value)


class Qwen2(nnx.Module):
    """Causal decoder on embeddings; the vocabulary matmul is a separate call (`logits`)."""

    def __init__(self, cfg: Qwen2Config, rngs: nnx.Rngs, param_dtype: str, compute_dtype: str):
        """Builds the decoder with parameters in `param_dtype`."""
        self.cfg = cfg
        self.compute_dtype = compute_dtype
        table = (cfg.vocab_size, cfg.embed_dim)
        self.embedding = param(rngs, truncated_normal(0.02), table, ("vocab", "embed"), param_dtype)
        self.layers = DecoderLayers(cfg, param_dtype, rngs)
        self.norm_scale = param(rngs, ones, (cfg.embed_dim,), ("embed",), param_dtype)
        if not cfg.tie_embeddings:
            # Small: an untrained head should be undecided, not confidently wrong.
            self.head = param(
                rngs, truncated_normal(0.02), table[::-1], ("embed", "vocab"), param_dtype
            )

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Text embeddings: int32 [...] in 0..V-1 -> [..., D]."""
        table = self.embedding[...].astype(self.compute_dtype)
        return lookup(table, axis_names(self)["embedding"], tokens)

    def hidden(
        self,
        embeds: jax.Array,
        positions: jax.Array,
        prefix_cache: KVCache | None = None,
        *,
        return_cache: bool = True,
        shared: tuple[int, int] | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Runs the decoder, on top of a cached prefix if there is one.

        Args:
            embeds: [B, L, D].
            positions: int32 [B, L] of these tokens, so the prefix's real length onwards.
            prefix_cache: keys and values that come before; its batch is B.
            return_cache: also return keys and values of prefix and these tokens together.
            shared: (padded length of a prefix, number of suffixes): each row is one prefix and
                several suffixes, with positions as for `attention.SharedPrefix`.

        Returns:
            (normed hidden states [B, L, D], cache or None).

        Where devices share rows, tokens and positions are in the order of `devices.context`.

        Raises:
            ContextError: devices share rows, and there is a prefix or a cache.
        """
        cfg, dtype, run = self.cfg, jnp.dtype(self.compute_dtype), current()
        if run.context > 1 and (prefix_cache is not None or return_cache or shared):
            raise context.ContextError(
                "sequences with prefixes or caches are not split over devices: leave context at 1"
            )
        key_positions, prefix = context.in_order(positions), None
        if prefix_cache is not None:
            key_positions = jnp.concatenate([prefix_cache.positions, positions], axis=1)
            prefix = (prefix_cache.keys, prefix_cache.values)
        layer = functools.partial(_layer, cfg=cfg, shared=shared)
        names = axis_names(self.layers, stacked=True)
        B, L = positions.shape
        rows, sequences = run.spec(("batch",), (B,)), run.spec(("batch", "sequence"), (B, L))
        heads = run.spec(("batch", None, "kv_heads", None), (B, 1, cfg.num_kv_heads, 1))

        def body(carry, xs):
            p, layer_prefix = xs
            carry, kv = on_shards(
                layer,
                p,
                names,
                (carry, positions, key_positions, layer_prefix),
                (sequences, sequences, rows, heads),
                (sequences, heads),
            )
            return carry, kv if return_cache else None

        xs = (stacked(self.layers, dtype), prefix)
        unroll = run.layers_a_step(cfg.unroll, cfg.num_layers)
        x, kv = jax.lax.scan(recomputed(body), embeds.astype(dtype), xs, unroll=unroll)

        def norm(p, x):
            return rms_norm(x, p["norm_scale"], cfg.norm_eps)

        own, names = {"norm_scale": self.norm_scale[...]}, {"norm_scale": ("embed",)}
        x = on_shards(norm, own, names, (x,), (sequences,), sequences)
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
        name = "embedding" if tied else "head"
        value, axes = getattr(self, name)[...], axis_names(self)[name]

        def local(p, hidden):
            table = (p[name] if tied else p[name].T).astype(self.compute_dtype)
            table = table if token_ids is None else table[token_ids]
            return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)

        if token_ids is not None:
            return local({name: value}, hidden)
        run, rest = current(), (None,) * (hidden.ndim - 2)
        shape = (*hidden.shape[:-1], self.cfg.vocab_size)
        out = run.spec(("batch", *rest, "vocab"), shape)
        value = value.astype(self.compute_dtype)
        return on_shards(local, {name: value}, {name: axes}, (hidden,), out_specs=out)
