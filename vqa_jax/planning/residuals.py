"""What a step keeps for its backward pass, read from its jaxpr."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from vqa_jax.planning import flops

# Operations whose results are stored, since what follows cannot be computed with them in passing.
_STORED = ("dot_general", "conv_general_dilated", "pallas_call", "scan", "while", "cond")
# Those that hand on what they are given, in another shape.
_MOVED = ("reshape", "transpose", "squeeze", "expand_dims", "copy", "optimization_barrier")


def stacked_bytes(jaxpr: Any) -> float:
    """Bytes that forward scans stack for the backward pass, which runs them in reverse."""
    return sum(
        variable.aval.size * variable.aval.dtype.itemsize
        for scan in _forward_scans(jaxpr)
        for variable, _ in _stacked(scan)
    )


def fused_bytes(jaxpr: Any) -> float:
    """The same where layers are compiled one by one, as on GPUs, instead of as steps of a scan.

    Then nothing has to be stacked as it is. What products and kernels are given and give is stored,
    in the dtype that they have it in; what lies between them (norms in float32, rotations, a GELU's
    slope) is computed again in passing, by the kernel that reads it.
    """
    return sum(map(_fused, _forward_scans(jaxpr)))


def _forward_scans(jaxpr: Any) -> Iterator[Any]:
    """Scans that do not run in reverse, outside of others."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            if not equation.params["reverse"]:
                yield equation
            continue
        for inner in _inner(equation):
            yield from _forward_scans(inner)


def _stacked(scan: Any) -> list[tuple[Any, Any]]:
    """(Result, what one round gives) of everything that a scan stacks.

    It has a step more of rank than what the body gives; what is carried has not. How many there
    are of each, JAX keeps under other names in every version.
    """
    pairs = zip(scan.outvars, scan.params["jaxpr"].jaxpr.outvars, strict=True)
    return [(v, one) for v, one in pairs if v.aval.ndim > one.aval.ndim]


def _inner(equation: Any) -> list[Any]:
    """Jaxprs that an equation runs."""
    values = list(equation.params.values())
    found = [v for v in jax.tree.leaves(values, is_leaf=_is_jaxpr) if _is_jaxpr(v)]
    return [getattr(one, "jaxpr", one) for one in found]


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


@dataclasses.dataclass(eq=False)
class _Value:
    """An array of a jaxpr. size: its bytes; 0 of what is there anyway. sources: what it is computed
    from. stored: it is, whether the backward pass reads it or not."""

    size: float = 0.0
    sources: Sequence[_Value] = ()
    stored: bool = False


def _values(jaxpr: Any, given: Sequence[_Value]) -> list[_Value]:
    """Of the results of a jaxpr, those of the functions that it calls among the sources."""
    found = dict(zip(jaxpr.invars, given, strict=True))
    found |= {v: _Value() for v in jaxpr.constvars}
    for equation in jaxpr.eqns:
        name, inner, outs = equation.primitive.name, _inner(equation), equation.outvars
        sources = [_Value() if hasattr(v, "val") else found[v] for v in equation.invars]
        stored = name in _STORED or name.startswith("dot_product_attention")
        if name in _MOVED:
            results = sources[:1]
        elif not stored and len(inner) == 1 and len(inner[0].invars) == len(sources):
            results = _values(inner[0], sources)
        else:
            sizes = [v.aval.size * v.aval.dtype.itemsize for v in outs]
            # What has a name is stored as it is, where it is at all, and not what it is a sum of.
            results = [_Value(size, sources, stored or name == "name") for size in sizes]
            for source in sources:
                source.stored |= stored
        found |= zip(outs, results, strict=True)
    return [_Value() if hasattr(v, "val") else found[v] for v in jaxpr.outvars]


def _fused(scan: Any) -> float:
    body, stacked = scan.params["jaxpr"].jaxpr, {one for _, one in _stacked(scan)}
    constants = flops.num_scan_constants(scan)
    last = constants + len(scan.outvars) - len(_stacked(scan))
    # What is carried is another array every round; constants and weights are there anyway.
    sizes = [v.aval.size * v.aval.dtype.itemsize for v in body.invars]
    carried = [_Value(size, (), True) for size in sizes[constants:last]]
    given = [*(_Value() for _ in sizes[:constants]), *carried, *(_Value() for _ in sizes[last:])]
    results = zip(body.outvars, _values(body, given), strict=True)
    wanted = [value for one, value in results if one in stacked]
    kept = {value for value in wanted if value.stored}
    for value in wanted:
        needed = _needed(value)
        # What is smaller than all of that, as a norm's number for a row, is kept itself.
        smaller = needed and value.size < min(one.size for one in needed)
        kept |= {value} if smaller else needed
    return sum(one.size for one in kept) * scan.params["length"]


def _needed(value: _Value) -> set[_Value]:
    """What is stored and enough to compute a value from, without products and kernels."""
    found, seen, waiting = set(), set(), [value]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if one.stored:
            found.add(one)
        else:
            waiting += one.sources
    return found
