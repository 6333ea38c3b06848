"""Rule table between pytorchvideo's SlowFast-R50 parameter names and our fast pathway's.

Only the fast pathway is read: the lateral connections of SlowFast run from fast to slow, so nothing
else has a part in the motion feature (METHOD section 4).
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

FAST = "multipathway_blocks.1"

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


class WeightsError(ValueError):
    """A weights file does not hold the fast pathway that it should; names every offending key."""


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


def stem_width(tensors: Mapping[str, np.ndarray]) -> int:
    """Channels of the fast stem, from which every other width follows.

    Raises:
        WeightsError: there is no fast stem.
    """
    key = f"blocks.0.{FAST}.conv.weight"
    if key not in tensors or np.ndim(tensors[key]) != 5:
        raise WeightsError(
            f"no 5-dimensional {key}: give the safetensors of a pytorchvideo SlowFast model"
        )
    return tensors[key].shape[0]


def to_ours(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Fast-pathway parameters under our names.

    Args:
        tensors: pytorchvideo key -> array; convolutions are [out, in, time, height, width].
        shapes: our path -> shape of everything that the model needs.

    Returns:
        our path -> float32 array; convolutions are [time, height, width, in, out].

    Raises:
        WeightsError: lists the missing, unexpected and misshapen keys.
    """
    keys = {path: foreign_key(path) for path in shapes}
    missing = [key for key in keys.values() if key not in tensors]
    unexpected = _unexpected(tensors, keys.values())
    ours, misshapen = {}, []
    for path, key in keys.items():
        if key not in tensors:
            continue
        value = np.asarray(tensors[key], np.float32)
        if value.ndim == 5:
            value = value.transpose(2, 3, 4, 1, 0)
        if value.shape != tuple(shapes[path]):
            misshapen.append(f"{key} {tuple(tensors[key].shape)}")
        ours[path] = value
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    if any(problems.values()):
        listed = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in problems.items() if keys)
        raise WeightsError(f"not a SlowFast fast pathway of one width: {listed}")
    return ours


def to_foreign(ours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `to_ours`: float32 tensors under pytorchvideo's names."""
    foreign = {}
    for path, value in ours.items():
        value = np.asarray(value, np.float32)
        if value.ndim == 5:
            value = value.transpose(4, 3, 0, 1, 2)
        foreign[foreign_key(path)] = np.ascontiguousarray(value)
    return foreign


def _unexpected(tensors: Mapping[str, np.ndarray], wanted: Iterable[str]) -> list[str]:
    known = set(wanted)
    return [
        key
        for key in tensors
        if key not in known and not any(re.fullmatch(pattern, key) for pattern, _ in _IGNORED)
    ]
