"""Foreign tensors straight to the shards of a device array, a block at a time.

The host never holds more than a block or two (`rules.BLOCK_BYTES`) and the tensor that it is cut
from, however large the stacked array is and whatever number of devices shares it.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from vqa_jax.models import int8
from vqa_jax.weights import rules
from vqa_jax.weights.reader import Checkpoint
from vqa_jax.weights.rules import Index, Path, Rule

_Leaf = TypeVar("_Leaf")


def read_blocks(
    checkpoint: Checkpoint, rule: Rule, shape: tuple[int, ...]
) -> Iterator[tuple[Index, np.ndarray]]:
    """Yields (where in our array, block in our shape and the stored dtype), in byte order."""
    for block in rule.blocks(shape, checkpoint.itemsize(rule.keys(shape)[0])):
        yield block.ours, rule.arrange(checkpoint.read(block.key, block.theirs), block)


def load_array(checkpoint: Checkpoint, rule: Rule, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """One of our arrays, placed.

    Args:
        checkpoint: holds the rule's keys, with the right shapes.
        rule: of this parameter.
        leaf: shape, dtype and sharding of the result; without a sharding it goes whole to the
            first device.

    Returns:
        the array; every process fills the shards of its own devices and reads only what they need.
    """
    sharding = leaf.sharding or SingleDeviceSharding(jax.devices()[0])
    places = {
        device: _bounded(index, leaf.shape)
        for device, index in sharding.addressable_devices_indices_map(leaf.shape).items()
    }
    distinct = set(map(_plain, places.values()))
    local_bytes = leaf.dtype.itemsize * sum(math.prod(b - a for a, b in one) for one in distinct)
    fill = _fill_on_host if local_bytes <= rules.BLOCK_BYTES else _fill_on_devices
    itemsize = checkpoint.itemsize(rule.keys(leaf.shape)[0])
    wanted = [
        (block, shared)
        for block in rule.blocks(leaf.shape, itemsize)
        if (shared := {d: o for d, index in places.items() if (o := _overlap(block.ours, index))})
    ]
    pieces = (
        (block.ours, rule.arrange(checkpoint.read(block.key, block.theirs), block), shared)
        for block, shared in wanted
    )
    shards = fill(pieces, places, leaf.dtype)
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, shards)


def stored(leaves: Mapping[Path, _Leaf]) -> dict[Path, _Leaf]:
    """The parameters that a checkpoint holds: all but the steps of weights in int8."""
    return {path: leaf for path, leaf in leaves.items() if not int8.is_steps(path[-1])}


def load_parameter(
    checkpoint: Checkpoint, rule: Rule, leaves: Mapping[Path, jax.ShapeDtypeStruct], path: Path
) -> dict[Path, jax.Array]:
    """A parameter as it is wanted, by path; of a weight in int8 its codes and its steps.

    Such a weight is made whole of what the file holds, on the devices, and goes when it is in int8.

    Args:
        checkpoint, rule: as for `load_array`.
        leaves: shape, dtype and sharding of all parameters.
        path: of this one.
    """
    leaf, steps = leaves[path], (*path[:-1], int8.steps_of(path[-1]))
    if steps not in leaves:
        return {path: load_array(checkpoint, rule, leaf)}
    narrow = checkpoint.is_bfloat16(rule.keys(leaf.shape)[0])
    kind = jnp.bfloat16 if narrow else jnp.float32
    wide = jax.ShapeDtypeStruct(leaf.shape, kind, sharding=leaf.sharding)
    inputs = len(leaf.shape) - len(leaves[steps].shape)
    make = jax.jit(
        functools.partial(int8.quantized_weight, inputs=inputs),
        out_shardings=(leaf.sharding, leaves[steps].sharding),
    )
    codes, found = make(load_array(checkpoint, rule, wide))
    return {path: codes, steps: found}


def _bounded(index: Index, shape: tuple[int, ...]) -> Index:
    """The same box with its ends written out."""
    return tuple(slice(*p.indices(size)[:2]) for p, size in zip(index, shape, strict=True))


def _plain(index: Index) -> tuple[tuple[int, int], ...]:
    return tuple((part.start, part.stop) for part in index)


def _overlap(a: Index, b: Index) -> Index | None:
    """What two boxes share, in the coordinates of the whole array; None if nothing."""
    shared = tuple(
        slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True)
    )
    return shared if all(part.start < part.stop for part in shared) else None


def _within(part: Index, box: Index) -> Index:
    """A box inside another one, in that one's coordinates."""
    return tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))


def _fill_on_host(pieces, places: dict, dtype: np.dtype) -> list[jax.Array]:
    """Small arrays: each distinct shard is put together here and sent once to each device."""
    shards: dict = {}
    for index in places.values():
        shards.setdefault(
            _plain(index), np.empty([part.stop - part.start for part in index], dtype)
        )
    for ours, block, shared in pieces:
        done = set()
        for device, overlap in shared.items():
            index = places[device]
            if _plain(index) not in done:
                done.add(_plain(index))
                shards[_plain(index)][_within(overlap, index)] = block[_within(overlap, ours)]
    # Copies: on a CPU the array's memory becomes the device's, and a step may overwrite it there.
    return [jax.device_put(shards[_plain(i)].copy(), d) for d, i in places.items()]


@jax.jit(donate_argnums=0)
def _write(shard: jax.Array, piece: jax.Array, start: tuple[np.ndarray, ...]) -> jax.Array:
    return jax.lax.dynamic_update_slice(shard, piece.astype(shard.dtype), start)


def _fill_on_devices(pieces, places: dict, dtype: np.dtype) -> list[jax.Array]:
    """Large arrays: shards grow on their devices, so that the host holds one block."""
    shards = {
        device: jax.numpy.zeros([p.stop - p.start for p in index], dtype, device=device)
        for device, index in places.items()
    }
    for ours, block, shared in pieces:
        for device, overlap in shared.items():
            start = tuple(np.int32(p.start) for p in _within(overlap, places[device]))
            piece = jax.device_put(np.ascontiguousarray(block[_within(overlap, ours)]), device)
            shards[device] = _write(shards[device], piece, start)
        jax.block_until_ready(list(shards.values()))  # the block may go
    return list(shards.values())
