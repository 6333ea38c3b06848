"""Building blocks shared by the towers: parameters with logical axis names, norms, projector.

Parameters carry the logical names of their axes as metadata `out_sharding`. Eager sharding is off,
so that a model can be built with or without a mesh; `devices.sharding` maps the names to mesh axes.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.devices.execution import current, on_shards, total
from vqa_jax.models import int8

Initializer = Callable[[jax.Array, tuple[int, ...], jnp.dtype], jax.Array]

zeros: Initializer = jax.nn.initializers.zeros
ones: Initializer = jax.nn.initializers.ones


def truncated_normal(std: float) -> Initializer:
    """Normal cut at two standard deviations, rescaled so that `std` is the std of the result."""
    return jax.nn.initializers.truncated_normal(std / 0.87962566103423978)


def fan_in(size: int, scale: float = 1.0) -> Initializer:
    """Truncated normal that keeps the variance of a sum over `size` inputs, times scale**2."""
    return truncated_normal(scale / math.sqrt(size))


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU by erf: jax.nn.gelu's erfc takes a CPU twice as long, for far tails alone."""
    return x * (0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5)))


def param(
    rngs: nnx.Rngs,
    init: Initializer,
    shape: tuple[int, ...],
    names: tuple[str | None, ...],
    dtype: str,
) -> nnx.Param:
    """A parameter whose axes are named, made where the current execution puts it.

    Args:
        rngs: stream `params` is used.
        init: initialiser (key, shape, dtype) -> array.
        shape: of the array.
        names: logical name of every axis, or None for an axis that is never sharded.
        dtype: name of the storage dtype.

    Raises:
        ValueError: not one name an axis.
    """
    if len(names) != len(shape):
        raise ValueError(f"{len(shape)} axes {shape} but {len(names)} names {names}")
    return nnx.Param(
        _drawn(init, rngs.params(), shape, names, jnp.dtype(dtype)),
        out_sharding=names,
        eager_sharding=False,
    )


def _drawn(
    init: Initializer,
    key: jax.Array,
    shape: tuple[int, ...],
    names: tuple[str | None, ...],
    dtype: jnp.dtype,
) -> jax.Array:
    """An array's first numbers; on a mesh every device makes its shards and nothing else."""
    place = current().place(names, shape)
    if place is None:
        return init(key, shape, dtype)
    if place.is_fully_replicated:  # every process makes what all of its devices hold
        return jax.make_array_from_callback(
            shape, place, np.asarray(init(key, shape, dtype)).__getitem__
        )
    # The key's numbers, which every process has, and not an array of this process's device.
    words = np.asarray(jax.random.key_data(key))
    make = jax.jit(
        lambda words: init(jax.random.wrap_key_data(words), shape, dtype), out_shardings=place
    )
    return make(words)


def stacked(module: nnx.Module, dtype: jnp.dtype) -> dict[str, jax.Array]:
    """The module's own parameters by attribute name, in the compute dtype, ready for a scan.

    Weights of codes and steps (`int8`) stay in their own.
    """
    own = {name: value[...] for name, value in vars(module).items() if isinstance(value, nnx.Param)}
    return {
        name: value if int8.is_part(name, value) else value.astype(dtype)
        for name, value in own.items()
    }


def axis_names(module: nnx.Module, *, stacked: bool = False) -> dict[str, tuple[str | None, ...]]:
    """Logical axes of the module's own parameters; of one layer, where they are stacked."""
    own = {name: value for name, value in vars(module).items() if isinstance(value, nnx.Param)}
    names = {name: tuple(value.get_metadata()["out_sharding"]) for name, value in own.items()}
    return {name: axes[1:] if stacked else axes for name, axes in names.items()}


def dense(equation: str, x: jax.Array, p: Mapping[str, jax.Array], weight: str) -> jax.Array:
    """A matmul of a layer: with the weight as it is, or in int8 where it is codes and steps.

    Args:
        equation: einsum of input and weight; the result's axes are the input's, then the weight's.
        x: input.
        p: one layer's parameters.
        weight: name in `p`.
    """
    steps = p.get(int8.steps_of(weight))
    if steps is None:
        return jnp.einsum(equation, x, p[weight])
    return int8.dense(equation, x, p[weight], steps)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm over the last axis [..., D], computed in float32, returned in the dtype of `x`."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    return (normed * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def rms_norm(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    """RMSNorm over the last axis [..., D], computed in float32, returned in the dtype of `x`."""
    wide = x.astype(jnp.float32)
    normed = wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + epsilon)
    return (normed * scale.astype(jnp.float32)).astype(x.dtype)


class Projector(nnx.Module):
    """Two linear layers with an exact GELU between them (method 4), into the decoder's width.

    With a skip, one more linear layer past both [beyond the paper]: what is nearly linear in the
    features of a frozen tower is then learnt sooner.
    """

    def __init__(
        self, in_dim: int, embed_dim: int, param_dtype: str, rngs: nnx.Rngs, skip: bool = False
    ):
        """Builds in_dim -> embed_dim -> embed_dim."""
        self.embed_dim = embed_dim
        # The hidden axis is named as an MLP's, so that tensor parallelism splits it.
        self.w_in = param(rngs, fan_in(in_dim), (in_dim, embed_dim), ("embed", "mlp"), param_dtype)
        self.b_in = param(rngs, zeros, (embed_dim,), ("mlp",), param_dtype)
        self.w_out = param(
            rngs, fan_in(embed_dim), (embed_dim, embed_dim), ("mlp", "embed"), param_dtype
        )
        self.b_out = param(rngs, zeros, (embed_dim,), ("embed",), param_dtype)
        if skip:
            self.w_skip = param(rngs, zeros, (in_dim, embed_dim), ("embed", None), param_dtype)

    def __call__(self, x: jax.Array, first: str = "batch") -> jax.Array:
        """[..., in_dim] -> [..., embed_dim], in the dtype of `x`; `first`: see `on_shards`."""

        def local(p, x):
            hidden = jax.nn.gelu(x @ p["w_in"] + p["b_in"], approximate=False)
            out = total(hidden @ p["w_out"], "mlp", hidden.shape[-1], self.embed_dim)
            skipped = x @ p["w_skip"] if "w_skip" in p else 0
            return out + p["b_out"] + skipped

        return on_shards(local, stacked(self, x.dtype), axis_names(self), (x,), first=first)
