"""Where arrays live: the mesh, and the rules from logical axes to mesh axes.

Models name the axes of their parameters (DESIGN, Names); a rule table maps those names to the mesh
axes `data`, `fsdp` and `tensor`. The same code runs on one CPU, fake devices and a pod.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

MESH_AXES = ("data", "fsdp", "tensor")

LOGICAL_RULES: dict[str, str | None] = {
    "embed": "fsdp",
    "mlp": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "vocab": "tensor",
    "head_dim": None,
    "layers": None,
}

BATCH_SPEC = PartitionSpec(("data", "fsdp"))


def make_mesh(shape: Sequence[int], devices: Sequence[Any] | None = None) -> Mesh:
    """Mesh over `devices` (default: all) with axes MESH_AXES.

    Args:
      shape: sizes of data, fsdp and tensor; one of them may be -1 and takes what is left.

    Raises:
      ValueError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = list(shape)
    if sizes.count(-1) == 1:
        known = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = len(devices) // known
    if math.prod(sizes) != len(devices):
        raise ValueError(
            f"mesh {tuple(shape)} needs {math.prod(sizes)} devices, not {len(devices)}"
        )
    grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(grid, MESH_AXES)


def _spec(names: Sequence[str | None] | None, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """Mesh axes of one array; an axis that does not divide evenly stays whole."""
    axes: list[str | None] = []
    for name, size in zip(names or (None,) * len(shape), shape, strict=True):
        axis = LOGICAL_RULES[name] if name else None
        fits = axis is not None and size % mesh.shape[axis] == 0 and axis not in axes
        axes.append(axis if fits else None)
    return PartitionSpec(*axes)


def state_shardings(state: nnx.State, mesh: Mesh) -> Any:
    """NamedShardings of a module state (abstract or real), leaf by leaf, from its axis names."""

    def one(variable: nnx.Variable) -> NamedSharding:
        names = variable.get_metadata().get("sharding_names") or variable.get_metadata().get(
            "out_sharding"
        )
        return NamedSharding(mesh, _spec(names, variable.get_value().shape, mesh))

    return jax.tree.map(one, state, is_leaf=lambda x: isinstance(x, nnx.Variable))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: its first axis over data and fsdp."""
    return NamedSharding(mesh, BATCH_SPEC)


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Places this process's part of a global batch on its devices.

    Raises:
      ValueError: the batch does not divide over the data and fsdp axes.
    """
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    size = len(next(iter(batch.values()))) * jax.process_count()
    if size % ways:
        raise ValueError(f"batch of {size} does not divide over {ways} devices: change batch_size")
    sharding = batch_sharding(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
