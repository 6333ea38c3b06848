"""Floating-point operations of a traced function, counted from its jaxpr.

XLA's `cost_analysis` counts the body of a scan once and a Pallas kernel not at all. Here a scan's
body counts as often as it runs, recomputation under `jax.checkpoint` is counted because it is
executed, and a Pallas kernel counts once a grid step. Only matrix products and convolutions count,
two operations a multiply-add: everything else is bandwidth, not arithmetic. Of that too there is an
estimate, what products are given and give.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.interpreters import partial_eval

Cost = Callable[[Any], float]  # of one equation of a jaxpr, in floating-point operations

# Share of a kernel's grid steps that compute anything, by a prefix of the kernel's name.
_KERNEL_MASKS: dict[str, str] = {"splash_": "block_mask"}
# What leaves the share of blocks in a mask as it is. A device's part of one, taken by its number,
# stands for the parts of all.
_PASSING = (
    "convert_element_type",
    "copy",
    "dynamic_slice",
    "reshape",
    "broadcast_in_dim",
    "squeeze",
)
_MOVING = ("dot_general", "conv_general_dilated", "pallas_call")


@dataclasses.dataclass(frozen=True)
class Count:
    """Floating-point operations of one call, over all devices.

    Attributes:
      total: all of them.
      kernels: those inside Pallas kernels and registered custom calls.
      unknown_loops: `while` loops whose number of rounds the jaxpr does not tell; counted once.
      int8: those of products of int8, additions of int32 among them.
      moved: bytes that products, convolutions and kernels are given and give, as if all else were
        done in passing. A compiler keeps some of it on the chip, and moves some more.
    """

    total: float
    kernels: float
    unknown_loops: int
    int8: float = 0.0
    moved: float = 0.0


def _attention_forward(equation: Any) -> float:
    """cuDNN attention: query [B, L, N, E], key [B, S, N, E]; two products."""
    (batch, length, heads, width), keys = (v.aval.shape for v in equation.invars[:2])
    return 2 * 2.0 * batch * length * keys[1] * heads * width


def _attention_backward(equation: Any) -> float:
    """Its gradient: the scores again, and two products for each of the forward's two."""
    return 2.5 * _attention_forward(equation)


# Kernels that are no jaxpr, by the name of their primitive; a model that uses another adds it here.
PRIMITIVE_COSTS: dict[str, Cost] = {
    "dot_product_attention_fwd": _attention_forward,
    "dot_product_attention_fwd_wrapper": _attention_forward,
    "dot_product_attention_bwd": _attention_backward,
    "dot_product_attention_bwd_wrapper": _attention_backward,
}


def _dot_general(equation: Any) -> float:
    (contracted, _), (batched, _) = equation.params["dimension_numbers"]
    left, right = (v.aval.shape for v in equation.invars[:2])
    shared = math.prod(left[d] for d in contracted)
    batch = math.prod(left[d] for d in batched)
    # Rows times columns: each side without its contracted and batch axes.
    rows = math.prod(left) // max(shared * batch, 1)
    columns = math.prod(right) // max(shared * batch, 1)
    return 2.0 * batch * rows * columns * shared


def _convolution(equation: Any) -> float:
    numbers = equation.params["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    inputs = kernel[numbers.rhs_spec[1]]  # already divided by feature_group_count
    window = math.prod(kernel[d] for d in numbers.rhs_spec[2:])
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * inputs * window


def num_scan_constants(equation: Any) -> int:
    """How many of a scan's inputs, its first, are the same in each round.

    Told from shapes, since versions of JAX name a scan's parameters differently: inputs are
    constants, carries, then what is scanned over; outputs are carries, then what is stacked. The
    body sees what is scanned or stacked without its leading axis.
    """
    body = equation.params["jaxpr"]

    def whole(outer: Sequence[Any], inner: Sequence[Any]) -> int:
        return sum(o.aval.ndim == i.ndim for o, i in zip(outer, inner, strict=True))

    return whole(equation.invars, body.in_avals) - whole(equation.outvars, body.out_avals)


def _sub_jaxprs(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [found for one in value for found in _sub_jaxprs(one)]
    if hasattr(value, "jaxpr") and hasattr(value, "consts"):
        return [value]
    return [value] if hasattr(value, "eqns") and hasattr(value, "invars") else []


class _Counter:
    """Walks jaxprs; remembers arrays that are constants, because a kernel's mask is one."""

    def __init__(self) -> None:
        self.kernels = 0.0
        self.int8 = 0.0
        self.moved = 0.0
        self.unknown_loops = 0
        self._outputs: list[Any] = []  # of the jaxpr that was walked last, or None each

    def jaxpr(self, jaxpr: Any, known: Sequence[Any], times: float) -> float:
        """Operations of a (closed) jaxpr that runs `times` times; `known`: inputs or None."""
        values: dict[Any, Any] = {}
        if hasattr(jaxpr, "consts"):
            values.update(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
            jaxpr = jaxpr.jaxpr
        values.update(zip(jaxpr.invars, known, strict=False))

        def read(atom: Any) -> Any:
            return atom.val if hasattr(atom, "val") else values.get(atom)

        total = 0.0
        for equation in jaxpr.eqns:
            self._outputs = []
            total += self.equation(equation, [read(v) for v in equation.invars], times)
            if equation.primitive.name in _PASSING:
                values[equation.outvars[0]] = read(equation.invars[0])
            elif equation.primitive.name not in ("scan", "cond", "while", "pallas_call"):
                values.update(zip(equation.outvars, self._outputs, strict=False))
        self._outputs = [read(v) for v in jaxpr.outvars]
        return total

    def equation(self, equation: Any, known: Sequence[Any], times: float) -> float:
        """Operations of one equation, all its inner jaxprs included."""
        name, params = equation.primitive.name, equation.params
        if name in _MOVING or name in PRIMITIVE_COSTS:
            arrays = [v.aval for v in (*equation.invars, *equation.outvars)]
            self.moved += times * sum(a.size * a.dtype.itemsize for a in arrays)
        if name == "dot_general":
            cost = times * _dot_general(equation)
            self.int8 += cost * all(v.aval.dtype == np.int8 for v in equation.invars[:2])
            return cost
        if name == "conv_general_dilated":
            return times * _convolution(equation)
        if name in PRIMITIVE_COSTS:
            cost = times * PRIMITIVE_COSTS[name](equation)
            self.kernels += cost
            return cost
        if name == "pallas_call":
            return self.kernel(equation, known, times)
        if name == "scan":
            consts = list(known[: num_scan_constants(equation)])
            unknown = [None] * (len(known) - len(consts))
            return self.jaxpr(params["jaxpr"], consts + unknown, times * params["length"])
        if name == "cond":
            return max(self.jaxpr(branch, known[1:], times) for branch in params["branches"])
        if name == "while":
            body = params["body_jaxpr"]
            found = self.jaxpr(body, [None] * len(body.in_avals), times)
            self.unknown_loops += found > 0
            return found
        if name == "shard_map":
            # Its jaxpr is one device's part.
            sizes, axes = dict(params["mesh"].shape), params.get("manual_axes", ())
            times *= math.prod(sizes[axis] for axis in axes or sizes)
        inner = [found for value in params.values() for found in _sub_jaxprs(value)]
        if name in ("custom_jvp_call", "custom_vjp_call"):
            inner = inner[:1]  # the function itself; its rules are not run
        return sum(self.jaxpr(one, known, times) for one in inner)

    def kernel(self, equation: Any, known: Sequence[Any], times: float) -> float:
        """A Pallas kernel: its body once a grid step, less the steps that its mask leaves out."""
        params = equation.params
        steps = math.prod(int(size) for size in params["grid_mapping"].grid)
        moved = self.moved  # what the body moves stays on the chip
        cost = self.jaxpr(params["jaxpr"], [], times * steps)
        self.moved = moved
        label = str(params.get("name") or params.get("name_and_src_info", ""))
        if label.startswith(tuple(_KERNEL_MASKS)):
            # Scalar operands come first: data_next, block_mask (0 = nothing to do), mask_next.
            mask = known[1] if len(known) > 1 else None
            if mask is not None:
                cost *= float(np.mean(np.asarray(mask) > 0))
        self.kernels += cost
        return cost


def count_jaxpr(closed: Any) -> Count:
    """Operations of a closed jaxpr after dead code is removed, as a compiler would.

    Args:
      closed: of `jax.make_jaxpr` or `jax.jit(f).trace(...).jaxpr`.
    """
    jaxpr, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    counter = _Counter()
    values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    if jaxpr.constvars:
        inputs = [values.get(v) for v in jaxpr.constvars]
        lead = {v: i for v, i in zip(jaxpr.constvars, inputs, strict=True)}
        closed = type(closed)(jaxpr, [lead[v] for v in jaxpr.constvars])
    else:
        closed = type(closed)(jaxpr, [])
    total = counter.jaxpr(closed, [None] * sum(used), 1.0)
    return Count(total, counter.kernels, counter.unknown_loops, counter.int8, counter.moved)


def count(function: Callable[..., Any], *args: Any) -> Count:
    """Operations of `function(*args)`; arguments may be abstract, nothing is computed."""
    traced = function.trace(*args) if hasattr(function, "trace") else jax.jit(function).trace(*args)
    return count_jaxpr(traced.jaxpr)
