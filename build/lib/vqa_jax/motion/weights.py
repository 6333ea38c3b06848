"""Rule table between pytorchvideo's SlowFast-R50 parameter names and our fast pathway's.

Only the fast pathway is read: the lateral connections of SlowFast run from fast to slow, so nothing
else has a part in the motion feature (method 4).
"""

import functools
import os
import re
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.motion.network import FastPathway, FastPathwayConfig, MotionFeatures
from vqa_jax.weights.reader import Checkpoint, WeightsError

FAST = "multipathway_blocks.1"
_MAX_WIDTH = 1024  # of a stem; SlowFast-R50's has 8 channels

# Keys of a whole checkpoint that the motion feature does not depend on.
_IGNORED = (
    (r"blocks\.\d+\.multipathway_blocks\.0\..+", "slow pathway"),
    (r"blocks\.\d+\.multipathway_fusion\..+", "lateral connection, fast to slow"),
    (r"blocks\.6\..+", "Kinetics classifier"),
    (r".+\.num_batches_tracked", "training counter of a frozen BatchNorm"),
)

# Our path -> pytorchvideo's key; s and b number stage and block from 0, n is a leaf of a norm.
_RULES = (
    (r"stem/kernel", "blocks.0.{fast}.conv.weight"),
    (r"stem_norm/(?P<n>\w+)", "blocks.0.{fast}.norm.{n}"),
    (r"stages/(?P<s>\d+)/(?P<b>\d+)/shortcut/kernel", "{block}.branch1_conv.weight"),
    (r"stages/(?P<s>\d+)/(?P<b>\d+)/shortcut_norm/(?P<n>\w+)", "{block}.branch1_norm.{n}"),
    (r"stages/(?P<s>\d+)/(?P<b>\d+)/conv_(?P<c>[abc])/kernel", "{block}.branch2.conv_{c}.weight"),
    (r"stages/(?P<s>\d+)/(?P<b>\d+)/norm_(?P<c>[abc])/(?P<n>\w+)", "{block}.branch2.norm_{c}.{n}"),
)
_NORM_LEAVES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def foreign_key(path: str) -> str:
    """pytorchvideo's key of our parameter `path` (names joined by "/").

    Raises:
        KeyError: no rule names such a parameter.
    """
    for pattern, template in _RULES:
        if match := re.fullmatch(pattern, path):
            part = match.groupdict()
            names = {"fast": FAST, "c": part.get("c"), "n": _NORM_LEAVES.get(part.get("n", ""))}
            if "s" in part:
                stage = int(part["s"]) + 1
                names["block"] = f"blocks.{stage}.{FAST}.res_blocks.{part['b']}"
            return template.format(**names)
    raise KeyError(f"no rule for parameter {path}")


def stem_width(checkpoint: Checkpoint) -> int:
    """Channels of the fast stem, from which every other width follows.

    Raises:
        WeightsError: there is no fast stem.
    """
    key = f"blocks.0.{FAST}.conv.weight"
    shape = checkpoint.shapes.get(key, ())
    if len(shape) != 5:
        remedy = (
            "Give the safetensors of a pytorchvideo SlowFast model (launch/convert_slowfast.py)."
        )
        raise WeightsError(checkpoint.path, {"missing": [f"{key}, of 5 axes"]}, remedy)
    if not 1 <= shape[0] <= _MAX_WIDTH:
        raise WeightsError(checkpoint.path, {}, f"{key} has {shape[0]} channels: fetch it again.")
    return shape[0]


def to_ours(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Fast-pathway parameters under our names.

    Args:
        checkpoint: pytorchvideo's names; convolutions are [out, in, time, height, width].
        shapes: our path -> shape of everything that the model needs.

    Returns:
        our path -> float32 array; convolutions are [time, height, width, in, out].

    Raises:
        WeightsError: lists the missing, unexpected, duplicate and misshapen keys.
    """
    keys = {path: foreign_key(path) for path in shapes}
    found = checkpoint.shapes
    wanted = {keys[path]: _foreign_shape(tuple(shape)) for path, shape in shapes.items()}
    problems = {
        "missing": sorted({key for key in wanted if key not in found} | set(checkpoint.absent)),
        "unexpected": _unexpected(found, wanted),
        "duplicate": checkpoint.duplicates,
        "not in the index": checkpoint.unindexed,
        "misshapen": [
            f"{key}: {found[key]} instead of {shape}"
            for key, shape in wanted.items()
            if key in found and found[key] != shape
        ],
    }
    if any(problems.values()):
        remedy = "It is no SlowFast fast pathway of one width: convert the file again."
        raise WeightsError(checkpoint.path, problems, remedy)
    ours = {}
    for path, key in keys.items():
        value = checkpoint.read(key).astype(np.float32)
        ours[path] = value.transpose(2, 3, 4, 1, 0) if value.ndim == 5 else value
    return ours


def _foreign_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 5:
        return shape
    time, height, width, d_in, d_out = shape
    return d_out, d_in, time, height, width


def to_foreign(ours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `to_ours`: float32 tensors under pytorchvideo's names."""
    foreign = {}
    for path, value in ours.items():
        value = np.asarray(value, np.float32)
        if value.ndim == 5:
            value = value.transpose(4, 3, 0, 1, 2)
        foreign[foreign_key(path)] = np.ascontiguousarray(value)
    return foreign


def _unexpected(keys: Iterable[str], wanted: Iterable[str]) -> list[str]:
    known = set(wanted)
    return [
        key
        for key in keys
        if key not in known and not any(re.fullmatch(pattern, key) for pattern, _ in _IGNORED)
    ]


def load_features(
    path: str | os.PathLike, num_blocks: tuple[int, ...] = (3, 4, 6, 3)
) -> MotionFeatures:
    """Motion features from a safetensors file with pytorchvideo's names; the width is inferred.

    Args:
        path: whole SlowFast-R50 or its fast pathway alone, of any width.
        num_blocks: residual blocks a stage.

    Raises:
        WeightsError: the file lacks keys, has unknown ones or wrong shapes; all are listed.
    """
    checkpoint = Checkpoint(os.fspath(path))
    cfg = FastPathwayConfig(stem_width(checkpoint), num_blocks)
    graph, state = _described(cfg)
    model = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))  # a copy, to be filled
    shapes = {name: leaf.shape for name, leaf in _flat_state(model).items()}
    _set_flat_state(model, to_ours(checkpoint, shapes))
    return MotionFeatures(model, cfg)


@functools.lru_cache(maxsize=4)
def _described(cfg: FastPathwayConfig) -> tuple[nnx.GraphDef[FastPathway], nnx.State]:
    """A pathway's structure and abstract parameters; tracing it takes a second."""
    return nnx.split(nnx.eval_shape(lambda: FastPathway(cfg, nnx.Rngs(0))))


def export_pathway(model: FastPathway) -> dict[str, np.ndarray]:
    """The parameters under pytorchvideo's names, as `load_features` reads them."""
    return to_foreign({path: np.asarray(value) for path, value in _flat_state(model).items()})


def _flat_state(model: FastPathway) -> dict[str, jax.Array]:
    flat = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {"/".join(map(str, path)): variable.get_value() for path, variable in flat}


def _set_flat_state(model: FastPathway, values: Mapping[str, np.ndarray]) -> None:
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    for path, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.asarray(values["/".join(map(str, path))]))
    nnx.update(model, state)
