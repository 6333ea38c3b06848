"""Scaled dot-product attention with grouped key/value heads: the one place for kernels.

`attention` takes the kernel of the platform that the step is for: splash attention on TPU (Pallas,
never stores scores), cuDNN's on NVIDIA GPUs, XLA's own elsewhere. All give the same numbers up to
rounding. They run on one device's rows and heads (`execution.on_shards`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from vqa_jax.devices import context, execution
from vqa_jax.devices.sharding import CONTEXT

PAD_POSITION = jnp.iinfo(jnp.int32).max  # position of a key that no real query may see

_LANES = 128  # of a TPU's vector registers: head width and blocks are multiples of it
_MOST_BLOCK = 512  # rows or columns of one tile of scores: four tiles fit beside the operands
_LONG = 16_384  # keys, above which XLA's path takes some queries at once
_MOST_SCORES = 1 << 25  # that it then holds, 128 MB of float32
_KERNEL_OF_PLATFORM = {"tpu": "splash", "gpu": "cudnn", "cuda": "cudnn"}


class Causal(NamedTuple):
    """A query sees the keys at its own position or before.

    Positions rise along each row, padding comes last and carries PAD_POSITION or positions after
    all real ones. With more keys than queries (a cached prefix in front), the keys before the
    queries' own are the prefix: a padded one of them carries PAD_POSITION, every other one comes
    before all queries. Kernels rely on this; XLA's path compares the positions themselves.

    query_positions: int32 [B, L]; key_positions: int32 [B, S], S >= L. parts: of a sequence of
    which the queries are this device's one and the keys the whole (`devices.context`), S = parts L.
    """

    query_positions: jax.Array
    key_positions: jax.Array
    parts: int = 1

    @property
    def seen(self) -> jax.Array:
        """bool [B, L, S]."""
        return causal_mask(self.query_positions, self.key_positions)


class SharedPrefix(NamedTuple):
    """Rows of one prefix and several suffixes after it, which do not see each other.

    A prefix's token sees the prefix's tokens up to itself, a suffix's token the whole prefix and
    its own suffix up to itself.

    positions: int32 [B, L]; suffixes continue the prefix's real length, its padding carries
    PAD_POSITION. prefix: padded length of the prefix. suffixes: how many of equal length follow.
    """

    positions: jax.Array
    prefix: int
    suffixes: int


class Leading(NamedTuple):
    """Every query sees the first `count` keys; what comes after both is padding (`filled`)."""

    count: int


Mask = Causal | SharedPrefix | Leading | np.ndarray | jax.Array | None


def attention(query: jax.Array, key: jax.Array, value: jax.Array, mask: Mask = None) -> jax.Array:
    """Attends every query to the keys that `mask` allows; softmax in float32.

    Args:
        query: [B, L, Q, E].
        key: [B, S, G, E], Q a multiple of G: query head q reads key head q // (Q // G).
        value: [B, S, G, E].
        mask: None: everything is seen. Causal, SharedPrefix, Leading: see there. A numpy bool
            [L, S], True where the query may see the key: known while compiling, the same for all
            rows; every query sees a key. Bool [B, L, S]: any mask at all, by XLA everywhere.

    Returns:
        [B, L, Q, E] in the dtype of `query`.
    """
    if isinstance(mask, SharedPrefix):
        return _by_suffix(query, key, value, mask)
    kind = _kernel(query.dtype, query.shape[-1])
    if isinstance(mask, jax.Array):
        kind = "xla"
    if kind.startswith("splash"):
        return splash_attention(query, key, value, mask, interpret=kind == "splash_interpreted")
    kernel = cudnn_attention if kind == "cudnn" else xla_attention
    return checkpoint_name(kernel(query, key, value, mask), execution.ATTENTION_OUTPUT)


def _by_suffix(query: jax.Array, key: jax.Array, value: jax.Array, mask: SharedPrefix) -> jax.Array:
    """The prefix by itself, then every suffix as a row that has the prefix's keys in front.

    Scores between two suffixes are never computed, whatever the kernel.
    """
    B, prefix, count = query.shape[0], mask.prefix, mask.suffixes

    def suffixes(x: jax.Array) -> jax.Array:
        return x[:, prefix:].reshape(B * count, -1, *x.shape[2:])

    def behind_prefix(x: jax.Array) -> jax.Array:
        return jnp.concatenate([jnp.repeat(x[:, :prefix], count, axis=0), suffixes(x)], axis=1)

    before = mask.positions[:, :prefix]
    first = attention(query[:, :prefix], key[:, :prefix], value[:, :prefix], Causal(before, before))
    causal = Causal(suffixes(mask.positions), behind_prefix(mask.positions))
    rest = attention(suffixes(query), behind_prefix(key), behind_prefix(value), causal)
    return jnp.concatenate([first, rest.reshape(B, -1, *rest.shape[2:])], axis=1)


def _kernel(dtype: Any, width: int) -> str:
    """The kernel that is meant, or XLA's path where cuDNN's does not take heads of this width."""
    run = execution.current()
    kind = run.attention
    if kind == "auto":
        kind = _KERNEL_OF_PLATFORM.get(run.platform, "xla")
    # Half precision, and head widths of whole 16 bytes.
    taken = dtype in (jnp.bfloat16, jnp.float16) and width % 8 == 0 and width <= 128
    return "xla" if kind == "cudnn" and not taken else kind


def filled(length: int, dtype: Any, width: int) -> int:
    """Length with padding that cuDNN's kernel would otherwise be given by every layer anew."""
    return length + length % 2 * (_kernel(dtype, width) == "cudnn")


def cudnn_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: Mask = None
) -> jax.Array:
    """`attention` by cuDNN's kernel, which never stores scores.

    Its gradient takes even lengths only: a row of zeros that nothing sees is put behind odd ones.
    """
    (B, L), S = query.shape[:2], key.shape[1]
    query, key, value = _even(query, 1), _even(key, 1), _even(value, 1)
    rows, columns = query.shape[1], key.shape[1]
    seen: dict[str, Any] = {}
    if isinstance(mask, Causal) and L == S:
        seen["is_causal"] = True  # which also hides what was put behind
    elif mask is None and (rows, columns) != (L, S):
        seen["query_seq_lengths"] = jnp.full(B, L, jnp.int32)
        seen["key_value_seq_lengths"] = jnp.full(B, S, jnp.int32)
    elif isinstance(mask, Leading):
        seen["query_seq_lengths"] = seen["key_value_seq_lengths"] = jnp.full(
            B, mask.count, jnp.int32
        )
    elif mask is not None:
        mask = mask.seen if isinstance(mask, Causal) else jnp.asarray(mask)[None]
        seen["mask"] = _even(_even(mask, 1), 2)[:, None]
    out = jax.nn.dot_product_attention(query, key, value, implementation="cudnn", **seen)
    return out[:, :L]


def _even(x: jax.Array, axis: int) -> jax.Array:
    """Puts a row of zeros behind an odd number of rows."""
    widths = [(0, x.shape[i] % 2 if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, widths)


def xla_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: Mask = None
) -> jax.Array:
    """`attention` in plain XLA: stores all scores, of long sequences those of some queries."""
    B, L, Q, E = query.shape
    G = key.shape[2]
    if isinstance(mask, Causal) and key.shape[1] > _LONG:
        return _some_queries_at_once(query, key, value, mask)
    if isinstance(mask, Causal):
        mask = mask.seen
    elif isinstance(mask, Leading):
        mask = np.arange(key.shape[1]) < mask.count
    grouped = query.reshape(B, L, G, Q // G, E)
    scores = jnp.einsum("blgre,bsge->bgrls", grouped, key, preferred_element_type=jnp.float32)
    scores = scores * (E**-0.5)
    if mask is not None:
        mask = mask[:, None, None] if mask.ndim == 3 else mask
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    return jnp.einsum("bgrls,bsge->blgre", weights, value).reshape(B, L, Q, E)


def _some_queries_at_once(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: Causal
) -> jax.Array:
    """`xla_attention` that never holds more than _MOST_SCORES scores, nor keeps them."""
    B, _, Q, _ = query.shape

    @jax.checkpoint
    def one(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        query, positions = part
        seen = causal_mask(positions[:, None], mask.key_positions)
        return xla_attention(query[:, None], key, value, seen)[:, 0]

    queries = query.swapaxes(0, 1), mask.query_positions.swapaxes(0, 1)
    rows = max(1, _MOST_SCORES // (B * Q * key.shape[1]))
    return jax.lax.map(one, queries, batch_size=rows).swapaxes(0, 1)


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


def block_sizes(length: int) -> tuple[int, int]:
    """(padded length, block) of a sequence: whole blocks, as large as the kernel's memory allows.

    Long sequences are padded to multiples of 512, so that none is left with small blocks.
    """
    multiple = 512 if length > 2048 else _LANES
    padded = -(-length // multiple) * multiple
    blocks = range(_LANES, min(_MOST_BLOCK, padded) + 1, _LANES)
    return padded, max(b for b in blocks if padded % b == 0)


def _pad(x: jax.Array, length: int, width: int) -> jax.Array:
    """[B, L, heads, E] -> [B, heads, length, width], zeros behind."""
    x = jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0), (0, width - x.shape[3])))
    return x.transpose(0, 2, 1, 3)


def _static_mask(mask: Mask, L: int, S: int, rows: int, columns: int) -> masks.Mask:
    """The part of the mask that is known while compiling, padded to whole blocks.

    Of a sequence in parts it holds all queries, device by device.
    Padded queries see what a real one may, since a softmax over nothing is undefined.
    """
    if isinstance(mask, Causal) and mask.parts > 1:
        by_device = context.order(S, mask.parts).reshape(mask.parts, L)
        causal = masks.CausalMask((mask.parts * rows, columns))
        causal.q_sequence = np.pad(by_device, ((0, 0), (0, rows - L)), mode="edge").ravel()
        causal.q_sequence = causal.q_sequence.astype(np.int32)
        return causal
    if isinstance(mask, Causal):
        # Queries are the last L of the S keys; padding comes after both.
        return masks.CausalMask((rows, columns), offset=S - L)
    seen = np.ones((L, S), bool) if mask is None else np.asarray(mask, bool)
    if mask is None and columns == S:
        return masks.FullMask((rows, columns))
    seen = np.pad(seen, ((0, rows - L), (0, 0)), mode="edge")
    return masks.NumpyMask(np.pad(seen, ((0, 0), (0, columns - S))))


def splash_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: Mask = None, interpret: bool = False
) -> jax.Array:
    """`attention` by the TPU kernel; `interpret` runs it anywhere, slowly, for tests.

    Heads narrower than a vector register and sequences of odd lengths are padded with zeros that
    nothing sees. Blocks of scores that the mask rules out are not computed.
    """
    (_, L, Q, E), S = query.shape, key.shape[1]
    (rows, block_q), (columns, block_kv) = block_sizes(L), block_sizes(S)
    # A step for chips that have no such kernel is read alone (`planning.search`), never run.
    padded = interpret or execution.current().platform == "tpu"
    width = -(-E // _LANES) * _LANES if padded else E
    parts = mask.parts if isinstance(mask, Causal) else 1
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([_static_mask(mask, L, S, rows, columns)] * Q),
        block_sizes=splash.BlockSizes(
            block_q=block_q,
            block_kv=block_kv,
            block_q_dkv=block_q,
            block_kv_dkv=block_kv,
            # One kernel for all gradients: five products a tile, where two kernels take seven.
            use_fused_bwd_kernel=True,
        ),
        head_shards=1,
        q_seq_shards=parts,
        residual_checkpoint_name=execution.ATTENTION_OUTPUT,
        interpret=interpret,
    )
    if parts > 1:
        kernel = _own_part(kernel, parts)
    scaled = (query.astype(jnp.float32) * E**-0.5).astype(query.dtype)
    heads = (_pad(scaled, rows, width), _pad(key, columns, width), _pad(value, columns, width))
    if isinstance(mask, Causal) and S > L and parts == 1:
        # Padded keys of the prefix form a segment of their own, which no query belongs to.
        hidden = mask.key_positions == PAD_POSITION
        hidden = hidden & (jnp.arange(S) < S - L)
        segments = splash.SegmentIds(
            jnp.zeros((query.shape[0], rows), jnp.int32),
            jnp.pad(hidden.astype(jnp.int32), ((0, 0), (0, columns - S))),
        )
        out = jax.vmap(kernel)(*heads, segments)
    else:
        out = jax.vmap(kernel)(*heads)
    return out.transpose(0, 2, 1, 3)[:, :L, :, :E]


def _own_part(kernel: Any, parts: int) -> Any:
    """The kernel for this device's queries, of one for those of all devices that share a row.

    Which device it is becomes known when it runs: that only changes numbers that the kernel reads.
    """
    index = jax.lax.axis_index(CONTEXT)

    def own(x: jax.Array, axis: int) -> jax.Array:
        size = x.shape[axis] // parts
        return jax.lax.dynamic_slice_in_dim(x, index * size, size, axis)

    def info(known: Any) -> Any:
        return known._replace(
            data_next=own(known.data_next, 1),
            block_mask=own(known.block_mask, 1),
            q_sequence=own(known.q_sequence, 0),
        )

    infos, settings = kernel.tree_flatten()
    return type(kernel).tree_unflatten(settings, [one and info(one) for one in infos])
