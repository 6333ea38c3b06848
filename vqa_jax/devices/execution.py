"""How a model is executed: mesh, axis rules, attention kernel, what is recomputed.

None of it changes what is computed, so it belongs to a run and not to a student: steps put their
`Execution` around the model's code, and the model asks for it here. Without one, code runs as
written on one device.

Layers run device by device (`on_shards`): each device takes its rows of the batch and its tensor
shard of the parameters, and gathers what `fsdp` shards just before use. Gradients of gathered
parameters are then reduce-scattered by construction, layer by layer, and only shards are summed
over `data`; a compiler left to choose sums whole gradients (on two torus axes it does).
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vqa_jax.devices.sharding import (
    BATCH_AXES,
    CONTEXT,
    GATHERED,
    LOGICAL_RULES,
    Rules,
    axes_of,
    batch_sharding,
    partition,
    ring_groups,
    split_axes,
)
from vqa_jax.settings import ATTENTION_KINDS

# Names for remat policies: attention's outputs, the decoder's products around it and in its MLP.
ATTENTION_OUTPUT, PROJECTED, GATE = "attention", "projected", "gate"


def _of_cudnn(primitive: Any, *_: Any, **__: Any) -> bool:
    """cuDNN's kernel hands its gradient more than the output that has a name."""
    return primitive.name.startswith("dot_product_attention_fwd")


def _named(*names: str) -> Callable[..., bool]:
    """What has one of these names, with all of attention."""
    return jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.save_only_these_names(ATTENTION_OUTPUT, *names), _of_cudnn
    )


# What the backward pass finds stored; everything else is computed again.
REMAT_POLICIES: dict[str, Callable[..., bool] | None] = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, _named()
    ),
    "gate": _named(PROJECTED, GATE),
    "projections": _named(PROJECTED),
    "attention": _named(),
    "full": None,
}
_WORTH_A_GATHER = 16 << 20  # bytes that the host need not copy


@dataclasses.dataclass(frozen=True)
class Execution:
    """Settings of one step or job.

    Attributes:
      mesh: devices, or None for one device.
      rules: logical axes -> mesh axes.
      attention: "auto" (the platform's kernel), or one of ATTENTION_KINDS.
      remat: key of REMAT_POLICIES, applied to every layer of tower and decoder: "none" stores all,
        "dots" the outputs of matmuls and attention, "attention" attention's, "full" nothing but the
        layer's input; of the decoder "projections" also what is projected around attention, and
        "gate" one of the MLP's two wide products besides, which spare most for their bytes.
      unroll: layers per step of a scan over them; 0: what the student's config says.
    """

    mesh: Mesh | None = None
    rules: Rules = dataclasses.field(default_factory=lambda: LOGICAL_RULES)
    attention: str = "auto"
    remat: str = "none"
    unroll: int = 0

    def __post_init__(self) -> None:
        if self.attention not in ATTENTION_KINDS:
            raise ValueError(f"attention {self.attention!r}: one of {ATTENTION_KINDS}")
        if self.remat not in REMAT_POLICIES:
            raise ValueError(f"remat {self.remat!r}: one of {sorted(REMAT_POLICIES)}")

    @property
    def platform(self) -> str:
        """Platform of the devices that will run it, which need not be this machine's."""
        if self.mesh is None:
            return jax.default_backend()
        return self.mesh.devices.flat[0].platform

    @property
    def ways(self) -> int:
        """Devices that split the rows of a batch."""
        return self.mesh.shape["data"] * self.mesh.shape["fsdp"] if self.mesh else 1

    @property
    def context(self) -> int:
        """Devices that share each row, see `devices.context`."""
        return self.mesh.shape.get(CONTEXT, 1) if self.mesh else 1

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that compute."""
        return tuple(self.mesh.devices.flat) if self.mesh else (jax.local_devices()[0],)

    @property
    def local_devices(self) -> tuple[jax.Device, ...]:
        """Those of them that belong to this process."""
        return tuple(d for d in self.devices if d.process_index == jax.process_index())

    @property
    def spans_processes(self) -> bool:
        """Whether devices of other processes compute too: all must then make the same calls."""
        return len(self.local_devices) < len(self.devices)

    @property
    def told(self) -> NamedSharding | None:
        """Where results go that every process is to read; None: they stay where they are."""
        return NamedSharding(self.mesh, PartitionSpec()) if self.spans_processes else None

    def layers_a_step(self, own: int, count: int) -> int:
        """How many of `count` layers a scan's step computes, `own` where nothing else is said."""
        return min(self.unroll or own, count)

    def rows(self, *arrays: Any) -> tuple[Any, ...]:
        """Arrays whose first axis is the batch, on their devices; as they are without a mesh.

        Where the mesh spans processes each has all rows, and puts those of its devices there.
        """
        if self.mesh is None:
            return arrays
        place = batch_sharding(self.mesh)
        if not self.spans_processes:
            return jax.device_put(arrays, place)
        return tuple(jax.make_array_from_callback(a.shape, place, a.__getitem__) for a in arrays)

    def gathered(self, rows: Sequence[np.ndarray]) -> jax.Array:
        """`rows` of [B, ...], given one by one: one that comes often is sent once, and copied by
        the devices, where that spares a copy of megabytes."""
        different = {row.ctypes.data: row for row in rows}
        spared = (len(rows) - len(different)) * rows[0].nbytes
        if spared < _WORTH_A_GATHER or self.spans_processes:
            return self.rows(np.stack(rows))[0]
        count = 2 ** (len(different) - 1).bit_length()  # few sizes, since each is compiled
        table = np.zeros((count, *rows[0].shape), rows[0].dtype)
        for place, row in zip(table, different.values(), strict=False):
            place[...] = row
        numbers = {address: number for number, address in enumerate(different)}
        index = np.array([numbers[row.ctypes.data] for row in rows], np.int32)
        if self.mesh is None:
            return _take(table, index)
        everywhere = jax.device_put(table, NamedSharding(self.mesh, PartitionSpec()))
        return jax.device_put(_take(everywhere, *self.rows(index)), batch_sharding(self.mesh))

    def spec(self, names: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
        """Mesh axes of an array with these logical axes; all whole without a mesh."""
        if self.mesh is None:
            return PartitionSpec()
        return partition(names, shape, self.mesh, self.rules)

    def place(self, names: Sequence[str | None], shape: Sequence[int]) -> NamedSharding | None:
        """Where an array with these logical axes lives; None: wherever JAX puts it."""
        return NamedSharding(self.mesh, self.spec(names, shape)) if self.mesh else None


@jax.jit
def _take(table: jax.Array, index: jax.Array) -> jax.Array:
    return table[index]


_ALONE = Execution()
_CURRENT: contextvars.ContextVar[Execution] = contextvars.ContextVar("execution")


@contextlib.contextmanager
def executing(execution: Execution) -> Iterator[None]:
    """Makes `execution` current for the code inside; enter it inside the function that is jitted,
    since a jit's cache does not know of it."""
    token = _CURRENT.set(execution)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> Execution:
    """The execution that is current."""
    return _CURRENT.get(_ALONE)


def recomputed(body: Callable[..., Any]) -> Callable[..., Any]:
    """A scan's body under the current remat policy."""
    remat = current().remat
    if remat == "none":
        return body
    return jax.checkpoint(body, prevent_cse=False, policy=REMAT_POLICIES[remat])


def _is_single() -> bool:
    mesh = current().mesh
    return mesh is None or mesh.size == 1


def _gather(value: jax.Array, names: Sequence[str | None], spec: PartitionSpec) -> jax.Array:
    """The whole of a parameter along the axes that also split activations, and those of a low rank.

    One torus axis at a time, and then with the gathered axis first: over several at once, or along
    a later axis, XLA for TPU turns the gradient's reduce-scatter into an all-reduce of the whole
    gradient.
    """
    parts = [
        (axis, name, mesh_axis)
        for axis, (name, entry) in enumerate(zip(names, spec, strict=True))
        for mesh_axis in reversed(axes_of(entry))  # the last one splits what the first ones left
    ]
    for axis, name, mesh_axis in parts:
        if mesh_axis in (*BATCH_AXES, CONTEXT) or name in GATHERED:
            rings = ring_groups(current().mesh, mesh_axis)
            place = axis if len(rings) == 1 else 0
            value = jnp.moveaxis(value, axis, place)
            for groups in rings:
                value = jax.lax.all_gather(
                    value, mesh_axis, axis=place, tiled=True, axis_index_groups=groups
                )
            value = jnp.moveaxis(value, place, axis)
    return value


def on_shards(
    fn: Callable[..., Any],
    params: Mapping[str, jax.Array],
    names: Mapping[str, Sequence[str | None]],
    arrays: Sequence[Any],
    in_specs: Sequence[PartitionSpec] | None = None,
    out_specs: Any = None,
    first: str = "batch",
) -> Any:
    """Runs `fn(params, *arrays)` device by device.

    Args:
      fn: sees its device's rows and its tensor shards of `params`; it must sum what it contracts
        over a split axis itself (`total`).
      params: parameters by name.
      names: logical axes of each parameter.
      arrays: values (or tuples of values, or None) whose first axis is the batch, or another that
        `first` names.
      in_specs: of each of `arrays`; default: the first axis is split, the others are whole.
      out_specs: of the results; default as for `arrays`.
      first: logical axis of the first axis.

    Returns:
      What `fn` returns. A batch that does not divide over the mesh is computed on every device.
    """
    if _is_single():
        return fn(params, *arrays)
    run = current()
    rows = run.spec((first,), jax.tree.leaves(arrays)[0].shape[:1])
    param_specs = {k: run.spec(names[k], v.shape) for k, v in params.items()}

    def local(params: dict[str, jax.Array], *arrays: Any) -> Any:
        return fn({k: _gather(v, names[k], param_specs[k]) for k, v in params.items()}, *arrays)

    return jax.shard_map(
        local,
        mesh=run.mesh,
        in_specs=(param_specs, *(in_specs or [rows] * len(arrays))),
        out_specs=rows if out_specs is None else out_specs,
        check_vma=False,  # Pallas kernels say nothing about what varies where
    )(dict(params), *arrays)


def total(partial: jax.Array, name: str, part: int, whole: int) -> jax.Array:
    """Sum over devices of a contraction over axis `name`, of which this one did part of whole."""
    return partial if part == whole else jax.lax.psum(partial, current().rules[name])


def own_part(name: str) -> jax.Array:
    """Which shard of axis `name` this device holds, inside `on_shards`."""
    return jax.lax.axis_index(current().rules[name])


def lookup(table: jax.Array, names: Sequence[str | None], ids: jax.Array) -> jax.Array:
    """Rows of a table [V, D] sharded as `names` say: ids int32 [B, L] -> [B, L, D].

    The table stays where it is. Every device looks its columns of the group's tokens up, and the
    group exchanges them: activations travel, not the table nor its gradient. Where rows are shared
    the result is in parts (`devices.context`), as `ids` are then taken to be.
    """
    if _is_single():
        return table[ids]
    run = current()
    vocab_axis, width_axis = run.spec(names, table.shape)
    rows = run.spec(("batch", "sequence"), ids.shape)
    exchanged = bool(width_axis) and set(axes_of(width_axis)) <= set(split_axes(rows))

    def local(table: jax.Array, ids: jax.Array) -> jax.Array:
        if exchanged:
            ids = jax.lax.all_gather(ids, width_axis, axis=0, tiled=True)
        elif width_axis is not None:
            table = jax.lax.all_gather(table, width_axis, axis=1, tiled=True)
        if vocab_axis is None:
            found = table[ids]
        else:
            own = ids - jax.lax.axis_index(vocab_axis) * table.shape[0]
            held = (own >= 0) & (own < table.shape[0])
            found = jnp.where(held[..., None], table[jnp.where(held, own, 0)], 0)
            found = jax.lax.psum(found, vocab_axis)
        if exchanged:
            found = jax.lax.all_to_all(found, width_axis, 0, found.ndim - 1, tiled=True)
        return found

    return jax.shard_map(
        local,
        mesh=run.mesh,
        in_specs=(PartitionSpec(vocab_axis, width_axis), rows),
        out_specs=rows,
        check_vma=False,
    )(table, ids)
