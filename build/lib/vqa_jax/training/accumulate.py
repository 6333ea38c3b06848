"""The gradient of a batch, computed in parts one after the other: memory of a part, the same step.

Every mean of the loss is over the whole batch, so parts count by what they have of it. The weight
of the entropy term follows from the whole batch, too, and no gradient passes through it: a pass
without gradients finds it first, where the loss has that term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vqa_jax.devices.sharding import batch_sharding
from vqa_jax.settings import LossConfig
from vqa_jax.training.losses import entropy_weight

Batch = dict[str, jax.Array]
# What a metric is a mean over; the others are counts, or the same for every part.
_OVER = {
    **dict.fromkeys(("ce", "entropy"), "tokens"),
    "level_acc": "pairs",
    **dict.fromkeys(("severity_ce", "severity_acc"), "videos"),
}


def in_parts(
    loss_fn: Callable[..., Any], parts: int, mesh: Mesh, places: Any, config: LossConfig
) -> Callable[..., Any]:
    """As `jax.value_and_grad(loss_fn, has_aux=True)`, in parts.

    Args:
      loss_fn: (trained, frozen, batch, progress, weight) -> (loss, metrics), whose loss is
        (1 - weight) ce + weight entropy, and a constant times severity_ce where there is one.
      parts: number of them.
      mesh: the devices; each computes parts of its own rows.
      places: shardings of the gradients, which are summed in shards.
      config: schedule of the weight.
    """

    def gradients(trained: Any, frozen: Any, batch: Batch, progress: jax.Array) -> Any:
        pieces = _split(batch, parts, mesh)
        sizes = jax.vmap(_sizes)(pieces)
        shares = {k: v / jnp.maximum(v.sum(), 1.0) for k, v in sizes.items()}

        def forward(sums: Batch, part: tuple[Batch, Batch]) -> tuple[Batch, None]:
            piece, share = part
            _, found = loss_fn(trained, frozen, piece, progress, jnp.float32(0.0))
            return {k: v + share["tokens"] * found[k] for k, v in sums.items()}, None

        weight = jnp.zeros((), jnp.float32)
        if config.confidence:
            zeros = {"ce": weight, "entropy": weight}
            means, _ = jax.lax.scan(forward, zeros, (pieces, shares))
            weight = entropy_weight(means["ce"], means["entropy"], progress, config)

        def part_loss(trained: Any, piece: Batch, share: Batch) -> tuple[jax.Array, Batch]:
            loss, found = loss_fn(trained, frozen, piece, progress, weight)
            answers = (1.0 - weight) * found["ce"] + weight * found["entropy"]
            # What else the loss has is a mean over videos with a class.
            total = share["tokens"] * answers + share["videos"] * (loss - answers)
            counted = {k: share[_OVER[k]] * v if k in _OVER else v for k, v in found.items()}
            return total, {k: v for k, v in counted.items() if k != "weight"} | {"loss": total}

        grad = jax.grad(part_loss, has_aux=True)
        shapes = jax.eval_shape(grad, trained, *jax.tree.map(lambda x: x[0], (pieces, shares)))
        start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def backward(sums: Any, part: tuple[Batch, Batch]) -> tuple[Any, None]:
            grads, metrics = jax.tree.map(jnp.add, sums, grad(trained, *part))
            return (jax.lax.with_sharding_constraint(grads, places), metrics), None

        (grads, metrics), _ = jax.lax.scan(backward, start, (pieces, shares))
        loss = metrics.pop("loss")
        return (loss, metrics | {"weight": weight}), grads

    return gradients


def _split(batch: Batch, parts: int, mesh: Mesh) -> Batch:
    """[B, ...] -> [parts, B / parts, ...]; no row leaves its device.

    Raises:
      ValueError: the rows do not divide.
    """
    rows, ways = len(batch["frames"]), mesh.shape["data"] * mesh.shape["fsdp"]
    place = NamedSharding(mesh, PartitionSpec(None, *batch_sharding(mesh).spec))
    if rows % (parts * ways):
        raise ValueError(
            f"{rows} rows of a batch do not divide into {parts} parts on {ways} devices each: "
            "change accumulate or batch_size"
        )

    def one(x: jax.Array) -> jax.Array:
        by_device = x.reshape(ways, parts, rows // (ways * parts), *x.shape[1:])
        split = by_device.swapaxes(0, 1).reshape(parts, rows // parts, *x.shape[1:])
        return jax.lax.with_sharding_constraint(split, place)

    return {name: one(value) for name, value in batch.items()}


def _sizes(piece: Batch) -> Batch:
    """What a part's means are over: answer tokens, pairs, videos with a class."""
    pairs = piece["example_mask"].astype(jnp.float32)
    return {
        "tokens": (piece["loss_mask"].astype(jnp.float32) * pairs[..., None]).sum(),
        "pairs": pairs.sum(),
        "videos": (piece["severity"] >= 0).astype(jnp.float32).sum(),
    }
