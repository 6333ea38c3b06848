"""Parameters stored under our own names, "part/name", read into the tree that needs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flax import nnx

from vqa_jax.models import int8
from vqa_jax.models.efficientnet_lite import SIZES, EfficientNetLite, EfficientNetLiteConfig
from vqa_jax.weights.reader import Checkpoint, WeightsError
from vqa_jax.weights.rules import Rule
from vqa_jax.weights.stream import load_parameter, stored


def misfits(checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> dict[str, list[str]]:
    """What a file lacks, has too much or in another form: kind -> entries, in full.

    Args:
      checkpoint: the file.
      wanted: name -> ShapeDtypeStruct.
    """
    shapes = checkpoint.shapes
    wanted = {name: leaf for name, leaf in wanted.items() if not int8.is_steps(name)}
    return {
        "missing": sorted(wanted.keys() - shapes.keys()),
        "unexpected": sorted(shapes.keys() - wanted.keys()),
        "misshapen": [
            f"{k} is {shapes[k]}, not {wanted[k].shape}"
            for k in sorted(wanted.keys() & shapes.keys())
            if shapes[k] != wanted[k].shape
        ],
        "no weights": [k for k in sorted(shapes) if not checkpoint.is_float(k)],
    }


def load_named(checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Reads every parameter of a file without misfits to where it belongs.

    Args:
      checkpoint: the file.
      wanted: name -> ShapeDtypeStruct, with the sharding where there is one.

    Returns:
      name -> array of the wanted dtype and sharding.
    """
    leaves = {tuple(name.split("/")): leaf for name, leaf in wanted.items()}
    found: dict[str, Any] = {}
    for path in stored(leaves):
        rule = Rule(path, "/".join(path), "same")
        loaded = load_parameter(checkpoint, rule, leaves, path)
        found.update({"/".join(place): array for place, array in loaded.items()})
    return found


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


def fill(checkpoint: Checkpoint, module: nnx.Module, remedy: str) -> None:
    """Gives an abstract module (`nnx.eval_shape`) the parameters of a file.

    Args:
      checkpoint: the file.
      module: its parameters' names are the file's.
      remedy: what to do where they are not.

    Raises:
      WeightsError: with all that does not fit.
    """
    wanted = {name: leaf.get_value() for name, leaf in parameters(module).items()}
    problems = misfits(checkpoint, wanted)
    if any(problems.values()):
        raise WeightsError(checkpoint.path, problems, remedy)
    assign(module, load_named(checkpoint, wanted))


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
    shapes = [{k: leaf.get_value().shape for k, leaf in parameters(m).items()} for m in models]
    size = shapes.index(checkpoint.shapes) if checkpoint.shapes in shapes else 0
    fill(checkpoint, models[size], "Take the file that belongs to it.")
    return models[size]


def _abstract(size: int, compute_dtype: str) -> EfficientNetLite:
    cfg = EfficientNetLiteConfig(size)
    return nnx.eval_shape(lambda: EfficientNetLite(cfg, nnx.Rngs(0), "float32", compute_dtype))
