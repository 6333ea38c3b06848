"""Low-rank additions to the decoder's matrices (LoRA; Hu et al. 2021): W + (alpha / r) A B.

A starts random and B at zero, so a student with fresh additions computes what it did without. Both
are trained while W is not; `merge` adds them into W at the end. W may be kept in int8 meanwhile (as
QLoRA does in four bits; Dettmers et al. 2023): it is multiplied as what its codes and steps stand
for, and inputs stay as they are, since gradients go through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vqa_jax.models import int8
from vqa_jax.models.layers import dense as plain_dense
from vqa_jax.models.layers import fan_in, zeros

# Weight -> how many of its axes are inputs (after `layers`).
TARGETS = {"wq": 1, "wk": 1, "wv": 1, "wo": 2, "w_gate": 1, "w_up": 1, "w_down": 1}


def names_of(weight: str) -> tuple[str, str]:
    """Parameter names of A (inputs to rank) and B (rank to outputs) of a weight."""
    return f"lora_{weight}_in", f"lora_{weight}_out"


def add(layers: nnx.Module, rank: int, make: Callable[..., nnx.Param]) -> None:
    """Adds A and B of every target to a module of stacked layers.

    Args:
        layers: holds the targets.
        rank: r.
        make: (init, shape, *axis names) -> parameter with a leading `layers` axis.
    """
    for weight, inputs in TARGETS.items():
        target = getattr(layers, weight)
        shape, names = target.shape[1:], target.get_metadata()["out_sharding"][1:]
        first, second = names_of(weight)
        init = fan_in(math.prod(shape[:inputs]))
        taken = *names[:inputs], _rank(names[:inputs])
        setattr(layers, first, make(init, (*shape[:inputs], rank), *taken))
        outputs = _rank(names[inputs:]), *names[inputs:]
        setattr(layers, second, make(zeros, (rank, *shape[inputs:]), *outputs))


def _rank(others: Sequence[str | None]) -> str:
    """Logical name of the rank, which splits over that mesh axis over which the others do not."""
    return "rank_by_embed" if "embed" in others else "rank"


def dense(
    equation: str, x: jax.Array, weight: str, *, p: Mapping[str, jax.Array], scale: float
) -> jax.Array:
    """A matmul with one of the targets and its addition, if `p` holds one.

    Args:
        equation: einsum of input and weight; none of its letters is r.
        x: input.
        weight: name in `p`.
        p: one layer's parameters.
        scale: alpha / r.
    """
    first, second = names_of(weight)
    if first not in p:
        return plain_dense(equation, x, p, weight)
    out = jnp.einsum(equation, x, p[weight].astype(x.dtype))
    if (steps := p.get(int8.steps_of(weight))) is not None:
        out = (out.astype(jnp.float32) * steps).astype(x.dtype)
    operands, result = equation.split("->")
    left, right = operands.split(",")
    contracted = "".join(c for c in right if c not in result)
    kept = "".join(c for c in right if c in result)
    rows = "".join(c for c in left if c not in contracted)
    low = jnp.einsum(f"{left},{contracted}r->{rows}r", x, p[first])
    return out + scale * jnp.einsum(f"{rows}r,r{kept}->{result}", low, p[second])


def merge(params: Mapping[str, Any], scale: float, dtype: str) -> dict[str, Any]:
    """Adds the additions into their weights: a plain student that computes the same.

    Args:
        params: tree of a student with additions.
        scale: alpha / r of its config.
        dtype: of the weights that were kept in int8.

    Returns:
        Tree without additions; other weights keep their dtype. Sums are in float32.
    """
    layers = dict(params["llm"]["layers"])
    for weight in TARGETS:
        a, b = (layers.pop(name).astype(jnp.float32) for name in names_of(weight))
        L, rank = a.shape[0], a.shape[-1]
        delta = jnp.einsum("lir,lro->lio", a.reshape(L, -1, rank), b.reshape(L, rank, -1))
        base, steps = layers[weight], layers.pop(int8.steps_of(weight), None)
        total = base.astype(jnp.float32)
        if steps is not None:
            inputs = range(1, 1 + TARGETS[weight])
            total = total * jnp.expand_dims(steps, inputs)
        total = total + scale * delta.reshape(base.shape)
        layers[weight] = total.astype(base.dtype if steps is None else dtype)
    return {**params, "llm": {**params["llm"], "layers": layers}}
