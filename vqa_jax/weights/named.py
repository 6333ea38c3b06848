"""Parameters stored under our own names, "part/name", read into the tree that needs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flax import nnx

from vqa_jax.models.efficientnet_lite import SIZES, EfficientNetLite, EfficientNetLiteConfig
from vqa_jax.weights.reader import Checkpoint, WeightsError
from vqa_jax.weights.rules import Rule
from vqa_jax.weights.stream import load_array


def load_named(checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Reads every parameter to where it belongs.

    Args:
      checkpoint: the file.
      wanted: name -> ShapeDtypeStruct, with the sharding where there is one.

    Returns:
      name -> array of the wanted dtype and sharding.

    Raises:
      WeightsError: keys are missing, unexpected or misshapen; all of them are listed.
    """
    shapes = checkpoint.shapes
    problems = {
        "missing": sorted(wanted.keys() - shapes.keys()),
        "unexpected": sorted(shapes.keys() - wanted.keys()),
        "misshapen": [
            f"{k} is {shapes[k]}, not {wanted[k].shape}"
            for k in sorted(wanted.keys() & shapes.keys())
            if shapes[k] != wanted[k].shape
        ],
    }
    if any(problems.values()):
        raise WeightsError(checkpoint.path, problems, "Take the file that belongs to it.")
    return {
        name: load_array(checkpoint, Rule(tuple(name.split("/")), name, "same"), leaf)
        for name, leaf in wanted.items()
    }


def parameters(module: nnx.Module) -> dict[str, nnx.Param]:
    """A module's parameters by name: "stages/0/1/project/kernel"."""
    flat = nnx.state(module, nnx.Param).flat_state()
    return {"/".join(map(str, path)): variable for path, variable in flat}


def assign(module: nnx.Module, values: Mapping[str, Any]) -> None:
    """Sets a module's parameters by the names of `parameters`."""
    state = nnx.state(module, nnx.Param)
    for path, variable in state.flat_state():
        variable.set_value(values["/".join(map(str, path))])
    nnx.update(module, state)


def load_efficientnet_lite(
    path: str | os.PathLike[str], compute_dtype: str = "float32"
) -> EfficientNetLite:
    """An EfficientNet-Lite as `launch/convert_efficientnet_lite.py` writes it, of whichever size.

    Args:
      path: safetensors file.
      compute_dtype: of its arithmetic; parameters are held in float32.

    Raises:
      WeightsError: the file holds another network, or is damaged.
    """
    checkpoint = Checkpoint(path)
    models = [_abstract(size, compute_dtype) for size in SIZES]
    shapes = [
        {name: leaf.get_value().shape for name, leaf in parameters(m).items()} for m in models
    ]
    size = shapes.index(checkpoint.shapes) if checkpoint.shapes in shapes else 0
    model = models[size]
    wanted = {name: leaf.get_value() for name, leaf in parameters(model).items()}
    loaded = load_named(checkpoint, wanted)
    state = nnx.state(model, nnx.Param)
    for where, variable in nnx.to_flat_state(state):
        variable.set_value(loaded["/".join(map(str, where))])
    nnx.update(model, state)
    return model


def _abstract(size: int, compute_dtype: str) -> EfficientNetLite:
    cfg = EfficientNetLiteConfig(size)
    return nnx.eval_shape(lambda: EfficientNetLite(cfg, nnx.Rngs(0), "float32", compute_dtype))
