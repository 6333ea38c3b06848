"""Devices that share rows of a batch: each has a part of every sequence, and some of its frames.

Long sequences do not fit on a device. With n devices along the mesh axis CONTEXT a sequence is cut
into 2 n chunks, of which device d has chunks d and 2 n - 1 - d: under a causal mask all devices
then have the same to do. Each layer gathers keys and values, which grouped heads keep small;
queries, and all else that has a token axis, stay in parts (context parallelism by all-gather: Llama
Team 2024, arXiv 2407.21783, section 3.3.2).

Everything here is the identity where rows are not shared.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vqa_jax.devices.execution import current
from vqa_jax.devices.sharding import CONTEXT, batch_sharding
from vqa_jax.errors import VqaError


class ContextError(VqaError, ValueError):
    """What cannot be computed in parts of sequences."""


def order(length: int, devices: int) -> np.ndarray:
    """Positions in the order in which they are stored, int [length]: device 0's part comes first.

    Args:
      length: of a sequence, a multiple of 2 `devices`.
      devices: that share it.
    """
    chunks = np.arange(length).reshape(2 * devices, -1)
    pairs = [(d, 2 * devices - 1 - d) for d in range(devices)]
    return np.concatenate([chunks[list(pair)].ravel() for pair in pairs])


def in_parts(tokens: jax.Array) -> jax.Array:
    """[B, L, ...] -> [B, L', ...] as `order` says, with zeros behind where L does not divide."""
    devices = current().context
    if devices == 1:
        return tokens
    tokens = _padded(tokens, 2 * devices)
    return tokens[:, order(tokens.shape[1], devices)]


def in_order(tokens: jax.Array) -> jax.Array:
    """The inverse of `in_parts`, padding kept."""
    devices = current().context
    if devices == 1:
        return tokens
    return tokens[:, np.argsort(order(tokens.shape[1], devices))]


def whole(part: jax.Array) -> jax.Array:
    """A sequence in order, [B, L, ...], from this device's part [B, L / n, ...], in `on_shards`."""
    devices = current().context
    if devices == 1:
        return part
    parts = jax.lax.all_gather(part, CONTEXT, axis=1)
    first, second = jnp.split(parts, 2, axis=2)
    chunks = jnp.concatenate([first, second[:, ::-1]], axis=1)
    return chunks.reshape(len(part), -1, *part.shape[2:])


def taken(part: jax.Array, positions: jax.Array) -> jax.Array:
    """What a sequence holds at some positions, on every device that shares it, in `on_shards`.

    Args:
      part: [B, L / n, D], this device's.
      positions: int32 [B, T] in the sequence.

    Returns:
      [B, T, D]
    """
    devices, size = current().context, part.shape[1]
    if devices == 1:
        return jnp.take_along_axis(part, positions[..., None], axis=1)
    places = jnp.asarray(np.argsort(order(size * devices, devices)), jnp.int32)[positions]
    own = places - jax.lax.axis_index(CONTEXT) * size
    held = ((own >= 0) & (own < size))[..., None]
    found = jnp.take_along_axis(part, jnp.where(held, own[..., None], 0), axis=1)
    return jax.lax.psum(jnp.where(held, found, 0), CONTEXT)


def spread(entries: jax.Array) -> jax.Array:
    """Entries of rows one after the other, over all devices: [B, T, ...] -> [B * T', ...].

    T' >= T divides over the devices that share a row; what is added is zero.
    """
    run, (rows, count) = current(), entries.shape[:2]
    if run.context == 1:
        return entries.reshape(rows * count, *entries.shape[2:])
    flat = _padded(entries, run.context).reshape(-1, *entries.shape[2:])
    place = NamedSharding(run.mesh, run.spec(("frames",), flat.shape[:1]))
    return jax.lax.with_sharding_constraint(flat, place)


def collected(entries: jax.Array, rows: int, count: int) -> jax.Array:
    """The inverse of `spread`: [B * T', ...] -> [B, T, ...], all of a row on all its devices."""
    run = current()
    if run.context > 1:
        entries = jax.lax.with_sharding_constraint(entries, batch_sharding(run.mesh))
    return entries.reshape(rows, -1, *entries.shape[1:])[:, :count]


def _padded(x: jax.Array, multiple: int) -> jax.Array:
    """Zeros behind the second axis, up to a multiple."""
    widths = [(0, 0), (0, -x.shape[1] % multiple), *[(0, 0)] * (x.ndim - 2)]
    return jnp.pad(x, widths)
