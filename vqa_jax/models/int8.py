"""int8: weights, activations and cached keys and values are whole numbers times a step.

In dense layers, whose sums are int32,

W[i, o] = codes[i, o] * steps[o], one step an output channel, chosen once when weights are loaded;
x[t, i] = codes[t, i] * steps[t], one step a token, chosen as it comes. A step is the largest
magnitude over 127, so nothing is cut off. Towers' and decoders' layers compute so; embeddings,
norms, projectors, the levels' rows and softmax stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vqa_jax.devices.execution import current

DTYPE = "int8"
_MOST = 127
_STEPS = "_steps"


def steps_of(weight: str) -> str:
    """Name of the parameter that holds a weight's steps."""
    return weight + _STEPS


def is_steps(name: str) -> bool:
    """Whether a parameter's name is that of some weight's steps."""
    return name.endswith(_STEPS)


def is_part(name: str, leaf: Any) -> bool:
    """Whether a parameter holds codes or steps."""
    return leaf.dtype == jnp.int8 or is_steps(name)


def quantized(values: jax.Array, axes: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Codes int8 of the shape of `values`, and steps float32 without `axes`, which share one."""
    values = values.astype(jnp.float32)
    largest = jnp.abs(values).max(axes, keepdims=True)
    steps = jnp.maximum(largest, jnp.finfo(jnp.float32).tiny * _MOST) / _MOST
    return jnp.round(values / steps).astype(jnp.int8), jnp.squeeze(steps, axes)


class Quantized(NamedTuple):
    """Values [..., E] as codes int8 [..., E] and steps float32 [..., 1], one a last axis."""

    codes: jax.Array
    steps: jax.Array

    @classmethod
    def of(cls, values: jax.Array) -> Quantized:
        """What `restored` gives back to within half a step."""
        codes, steps = quantized(values, (-1,))
        return cls(codes, steps[..., None])


def restored(values: jax.Array | Quantized, dtype: jnp.dtype) -> jax.Array:
    """The values, as they are or out of their codes, in `dtype`."""
    if isinstance(values, Quantized):
        return (values.codes.astype(jnp.float32) * values.steps).astype(dtype)
    return values.astype(dtype)


def quantized_weight(weight: jax.Array, inputs: int) -> tuple[jax.Array, jax.Array]:
    """Codes and steps of stacked weights [layers, *inputs, *outputs], a step an output channel."""
    return quantized(weight, range(1, 1 + inputs))


def quantize(layers: nnx.Module, inputs: Mapping[str, int]) -> None:
    """Puts codes and steps in the place of the weights of stacked layers.

    Args:
      layers: holds them.
      inputs: weight -> how many of its axes, after `layers`, are inputs.
    """
    for name, count in inputs.items():
        weight = getattr(layers, name)
        axes = tuple(weight.get_metadata()["out_sharding"])
        codes, steps = quantized_weight(weight[...], count)
        for at, value, names in (
            (name, codes, axes),
            (steps_of(name), steps, (axes[0], *axes[1 + count :])),
        ):
            setattr(layers, at, nnx.Param(value, out_sharding=names, eager_sharding=False))


def whole_sums(equation: str, x: jax.Array, codes: jax.Array, as_floats: bool) -> jax.Array:
    """Sums of products of int8, in int32 or float32.

    XLA for a CPU multiplies int8 one by one. In float32 the sums are exact up to a thousand terms
    and then rounded in the eighth digit.
    """
    if as_floats:
        return jnp.einsum(equation, x.astype(jnp.float32), codes.astype(jnp.float32))
    return jnp.einsum(equation, x, codes, preferred_element_type=jnp.int32)


def dense(equation: str, x: jax.Array, codes: jax.Array, steps: jax.Array) -> jax.Array:
    """x times a weight of codes and steps, in the dtype of `x`.

    Where devices split what is summed over, each gives its part of a token a step of its own.

    Args:
      equation: einsum of input and weight; the result's axes are the input's, then the weight's.
      x: input, whose axes that are not summed over tell tokens apart.
      codes: int8.
      steps: float32, of the weight's axes that are not summed over.
    """
    left, result = equation.partition(",")[0], equation.partition("->")[2]
    summed = [axis for axis, letter in enumerate(left) if letter not in result]
    own, own_steps = quantized(x, summed)
    sums = whole_sums(equation, own, codes, current().platform == "cpu")
    own_steps = own_steps.reshape(*own_steps.shape, *[1] * steps.ndim)
    return (sums.astype(jnp.float32) * (own_steps * steps)).astype(x.dtype)
