"""Where arrays live: the mesh, and the rules from logical axes to mesh axes.

Models name the axes of their parameters (vqa_jax/models/README.md); a table maps those to the mesh
axes `data`, `fsdp` and `tensor`, and `context` where sequences are split (`devices.context`). The
same code runs on one CPU, fake devices and a pod.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vqa_jax.errors import VqaError

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
CONTEXT = "context"  # a mesh has it where devices share rows of a batch, each a part of its tokens

Rules = Mapping[str, str | tuple[str, ...] | None]

LOGICAL_RULES: Rules = MappingProxyType(
    {
        "batch": BATCH_AXES,
        "frames": (*BATCH_AXES, CONTEXT),
        "sequence": CONTEXT,
        "embed": ("fsdp", CONTEXT),
        "mlp": "tensor",
        "heads": "tensor",
        "kv_heads": "tensor",
        "vocab": "tensor",
        "rank": ("fsdp", CONTEXT),
        "rank_by_embed": "tensor",
        "head_dim": None,
        "layers": None,
    }
)

_ACTIVATIONS = ("batch", "frames", "sequence")  # axes that no parameter has
_SPLIT = ("mlp", "heads", "kv_heads", "vocab")  # axes whose parts layers compute apart
GATHERED = ("rank", "rank_by_embed")  # axes that layers want whole, whatever splits them


class ReplicationError(VqaError, ValueError):
    """Too much is held whole by devices that could share it; the message names the arrays."""


def changed_rules(changes: Sequence[tuple[str, str]]) -> Rules:
    """LOGICAL_RULES with some parameter axes mapped elsewhere.

    Args:
      changes: (logical axis, mesh axis) pairs; "" keeps the axis whole.

    Raises:
      ValueError: unknown axis names, or a mapping that the models cannot compute with: `tensor`
        splits what layers sum over devices, which is _SPLIT only, and key/value heads with heads.
    """
    for name, axis in changes:
        known = sorted(LOGICAL_RULES.keys() - set(_ACTIVATIONS))
        if name not in known or axis not in ("", *MESH_AXES):
            raise ValueError(f"sharding {name}={axis!r}: {known} go to {MESH_AXES} or ''")
        if axis == "tensor" and name not in _SPLIT:
            raise ValueError(f"sharding {name}={axis!r}: only {_SPLIT} are split over tensor")
    rules = {**LOGICAL_RULES, **{name: axis or None for name, axis in changes}}
    if rules["kv_heads"] == "tensor" != rules["heads"]:
        raise ValueError("sharding: kv_heads over tensor needs heads over tensor")
    return MappingProxyType(rules)


def make_mesh(shape: Sequence[int], devices: Sequence[Any] | None = None, context: int = 1) -> Mesh:
    """Mesh over `devices` (default: all) with axes MESH_AXES, and CONTEXT where it is split.

    Where the devices are several slices of TPUs, which a slower network connects, `data` goes over
    the slices first: along it nothing travels but sums of gradient shards, once a step.

    Args:
      shape: sizes of data, fsdp and tensor; one of them may be -1 and takes what is left.
      devices: which.
      context: devices, neighbours, that share each sequence.

    Raises:
      ValueError: the sizes do not multiply to the number of devices, or `data` is no multiple of
        the number of slices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = [*shape, context] if context > 1 else list(shape)
    if sizes.count(-1) == 1:
        known = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = len(devices) // known
    if math.prod(sizes) != len(devices):
        shared = f" with sequences over {context}" if context > 1 else ""
        raise ValueError(
            f"mesh {tuple(shape)}{shared} needs {math.prod(sizes)} devices, not {len(devices)}"
        )
    slices: dict[int, list[Any]] = {}
    for device in devices:
        # GPUs tell their node there, over which fsdp goes as well as data.
        index = 0 if device.platform == "gpu" else getattr(device, "slice_index", 0)
        slices.setdefault(index, []).append(device)
    if sizes[0] % len(slices):
        raise ValueError(
            f"mesh {tuple(sizes)} over {len(slices)} slices: data must be a multiple of their "
            f"number, as in {len(slices)},-1,1"
        )
    sizes[0] //= len(slices)
    grids = [
        mesh_utils.create_device_mesh(sizes, slices[index], allow_split_physical_axes=True)
        for index in sorted(slices)
    ]
    return Mesh(np.concatenate(grids), (*MESH_AXES, CONTEXT)[: len(sizes)])


def ring_groups(mesh: Mesh, axis: str) -> list[list[list[int]] | None]:
    """Groups of a mesh axis to gather in, step after step, each of them on one torus axis.

    Args:
      mesh: devices; those of a TPU say where they are (`coords`).
      axis: name of the mesh axis.

    Returns:
      For each torus axis that the mesh axis spans, the fastest first: groups of indices along the
      mesh axis, all of one size. [None] (everything at once) where it spans one, or none is known.
    """
    place = mesh.axis_names.index(axis)
    line = np.moveaxis(mesh.devices, place, 0).reshape(mesh.shape[axis], -1)[:, 0]
    if not all(hasattr(device, "coords") for device in line):
        return [None]
    coords = np.array([device.coords for device in line])
    groups, stride, size = [], 1, len(line)
    while stride < size:
        moved = coords[::stride] != coords[0]
        alone = (moved.sum(1) <= 1) & (moved @ np.arange(moved.shape[1]) == moved[1].argmax())
        alone[0] = True
        length = size // stride if alone.all() else int(alone.argmin())
        if length < 2 or size % (stride * length):
            return [None]
        indices = np.arange(size).reshape(-1, length, stride)
        groups.append(indices.transpose(0, 2, 1).reshape(-1, length).tolist())
        stride *= length
    return groups if len(groups) > 1 else [None]


def partition(
    names: Sequence[str | None], shape: Sequence[int], mesh: Mesh, rules: Rules = LOGICAL_RULES
) -> PartitionSpec:
    """Mesh axes of one array; an axis that does not divide evenly stays whole (along CONTEXT alone
    where it then divides)."""
    axes: list[str | tuple[str, ...] | None] = []
    for name, size in zip(names, shape, strict=True):
        parts = tuple(a for a in axes_of(rules[name] if name else None) if a in mesh.shape)
        if size % math.prod(mesh.shape[a] for a in parts):
            parts = tuple(a for a in parts if a != CONTEXT)
        fits = size % math.prod(mesh.shape[a] for a in parts) == 0
        if not fits or not set(parts).isdisjoint(split_axes(axes)):
            parts = ()
        axes.append(parts if len(parts) > 1 else next(iter(parts), None))
    return PartitionSpec(*axes)


def axes_of(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Mesh axes that an entry of a PartitionSpec, or of the rules, names."""
    return (entry,) if isinstance(entry, str) else entry or ()


def split_axes(spec: Sequence[str | tuple[str, ...] | None]) -> tuple[str, ...]:
    """All mesh axes that a PartitionSpec names."""
    return tuple(axis for entry in spec for axis in axes_of(entry))


def state_shardings(state: nnx.State, mesh: Mesh, rules: Rules = LOGICAL_RULES) -> Any:
    """NamedShardings of a module state (abstract or real), leaf by leaf, from its axis names."""

    def one(variable: nnx.Variable) -> NamedSharding:
        shape = variable.get_value().shape
        names = variable.get_metadata().get("out_sharding") or (None,) * len(shape)
        return NamedSharding(mesh, partition(names, shape, mesh, rules))

    return jax.tree.map(one, state, is_leaf=lambda x: isinstance(x, nnx.Variable))


def placed(tree: Any, shardings: Any, dtype: Any = None) -> Any:
    """Shapes, dtypes and shardings of arrays that are to be made or read, leaf by leaf.

    Args:
      tree: arrays or ShapeDtypeStructs.
      shardings: of each leaf, or one for all.
      dtype: of every leaf; None: each its own.

    Returns:
      ShapeDtypeStructs; what reads weights (`bundle.load_params(like=...)` and the others) streams
      each array to its shards.
    """

    def one(leaf: Any, place: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype, sharding=place)

    if isinstance(shardings, jax.sharding.Sharding):
        return jax.tree.map(lambda leaf: one(leaf, shardings), tree)
    return jax.tree.map(one, tree, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: its first axis over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def check_replication(
    state: Any, mesh: Mesh, *, tolerance: float = 0.02, floor_bytes: int = 2**24
) -> None:
    """Refuses a state of which devices hold much more than their share.

    A device's fair share is the state over the fsdp, tensor and context axes; copies along `data`
    are what that axis is for.

    Args:
      state: arrays or ShapeDtypeStructs with shardings.
      mesh: the mesh they are on.
      tolerance: excess that is accepted, as a share of the fair share.
      floor_bytes: excess per device that is always accepted.

    Raises:
      ReplicationError: names the leaves with the largest excess.
    """
    ways = mesh.shape["fsdp"] * mesh.shape["tensor"] * mesh.shape.get(CONTEXT, 1)
    excess, fair = {}, 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        share = leaf.dtype.itemsize * math.prod(leaf.shape) / ways
        held = leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
        excess[jax.tree_util.keystr(path, simple=True, separator="/")] = held - share
        fair += share
    over = sum(excess.values())
    if over <= max(tolerance * fair, floor_bytes):
        return
    worst = sorted(excess, key=excess.get, reverse=True)[:5]
    listed = ", ".join(f"{name} ({excess[name] / 2**20:.0f} MiB)" for name in worst)
    raise ReplicationError(
        f"every device would hold {over / 2**20:.0f} MiB more than its share of "
        f"{fair / 2**20:.0f} MiB on mesh {dict(mesh.shape)}, most of all: {listed}. "
        "Choose mesh sizes that divide these axes, or map the axes elsewhere (train.sharding)"
    )


def process_rows(size: int, mesh: Mesh) -> slice:
    """Rows of a global batch of `size` pairs that this process's devices hold.

    Raises:
      ValueError: the batch does not divide over the data and fsdp axes, or the mesh gives this
        process rows that are not neighbours.
    """
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if size % ways:
        raise ValueError(f"batch of {size} does not divide over {ways} devices: change batch_size")
    indices = batch_sharding(mesh).addressable_devices_indices_map((size,))
    starts = sorted({index[0].indices(size)[0] for index in indices.values()})
    block = size // ways
    if starts != list(range(starts[0], starts[-1] + 1, block)):
        raise ValueError(f"mesh {dict(mesh.shape)} gives a process rows {starts}: change its order")
    return slice(starts[0], starts[-1] + block)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh, size: int | None = None) -> dict[str, Any]:
    """Places this process's part of a global batch on its devices.

    Args:
      batch: its rows, see `process_rows`.
      mesh: where to.
      size: pairs in the global batch; None: `batch` is all of it.

    Raises:
      ValueError: the batch does not divide over the data and fsdp axes.
    """
    size = len(next(iter(batch.values()))) if size is None else size
    process_rows(size, mesh)
    sharding = batch_sharding(mesh)
    return {
        k: jax.make_array_from_process_local_data(sharding, v, (size, *v.shape[1:]))
        for k, v in batch.items()
    }
