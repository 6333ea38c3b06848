"""Converts the checkpoints of UVQ 1.5 to the safetensors that we read.

    git clone https://github.com/google/uvq       # Apache-2.0, with the weights
    pip install torch --index-url https://download.pytorch.org/whl/cpu    # for this script only
    python launch/convert_uvq.py uvq/uvq1p5_pytorch/checkpoints uvq.safetensors

Give the folder: the network is in three files, content_net.pth, distortion_net.pth and
aggregation_net.pth. They are read with `weights_only=True`, so they can hold tensors and cannot run
code. Batch norms are folded into the convolutions in double precision.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from launch import convert_slowfast as converting
from launch.convert_efficientnet_lite import folded, taken

if TYPE_CHECKING:
    from vqa_jax.models.efficientnet_lite import BlockConfig

Tensors = dict[str, np.ndarray]


def to_ours(
    parts: Mapping[str, Mapping[str, np.ndarray]], blocks: Sequence[BlockConfig]
) -> Tensors:
    """The network under our names, float64.

    Args:
      parts: content, distortion, aggregation: the tensors of each file.
      blocks: of either tower.

    Raises:
      ValueError: a tensor is missing, or one is not known; the message names it.
    """
    found: Tensors = {}
    for part, foreign in parts.items():
        left = {k: v for k, v in foreign.items() if not k.endswith("num_batches_tracked")}
        try:
            ours = _aggregation(left) if part == "aggregation" else _tower(left, blocks)
        except ValueError as error:
            raise ValueError(f"{part}_net.pth: {error}") from error
        if left:
            raise ValueError(f"{part}_net.pth: {sorted(left)[0]} is not known")
        found |= {f"{part}/{name}": value for name, value in ours.items()}
    return found


def _tower(left: Tensors, blocks: Sequence[BlockConfig]) -> Tensors:
    """Layers are numbered: the stem, the blocks, the head; so are the parts of a block."""
    found = folded(left, "features.0.0.conv", "features.0.1", "stem")
    for number, block in enumerate(blocks):
        names = ["depthwise", "squeeze", "project"]
        if block.expansion > 1:
            names.insert(0, "expand")
        for place, name in enumerate(names):
            theirs, ours = f"features.{number + 1}.block.{place}", f"blocks/{number}/{name}"
            if name == "squeeze":
                found |= _biased(left, f"{theirs}.fc1", ours)
                found |= _biased(left, f"{theirs}.fc2", f"blocks/{number}/excite")
            else:
                found |= folded(left, f"{theirs}.0.conv", f"{theirs}.1", ours)
    kernel = _kernel(left, f"features.{len(blocks) + 1}.conv")
    # The last convolution has neither norm nor bias.
    return found | {"head/kernel": kernel, "head/bias": np.zeros(kernel.shape[-1])}


def _aggregation(left: Tensors) -> Tensors:
    """The norm's scale and bias have a number for every place of every channel."""
    return {
        **_biased(left, "conv1", "hidden"),
        "norm_scale": taken(left, "ln1.weight").transpose(1, 2, 0),
        "norm_bias": taken(left, "ln1.bias").transpose(1, 2, 0),
        **_biased(left, "linear1", "last"),
    }


def _biased(left: Tensors, theirs: str, ours: str) -> Tensors:
    return {f"{ours}/kernel": _kernel(left, theirs), f"{ours}/bias": taken(left, f"{theirs}.bias")}


def _kernel(left: Tensors, theirs: str) -> np.ndarray:
    """[out, in, height, width], or [out, in] of a linear layer -> [height, width, in, out]."""
    tensor = taken(left, f"{theirs}.weight")
    return tensor.reshape(*tensor.shape, *(1,) * (4 - tensor.ndim)).transpose(2, 3, 1, 0)


def _convert(source: str, destination: str) -> str:
    from safetensors.numpy import save_file

    from vqa_jax.teachers.neural import weights
    from vqa_jax.teachers.neural.uvq import UvqConfig

    parts = {}
    for part in ("content", "distortion", "aggregation"):
        found = converting.load_pickle(os.path.join(source, f"{part}_net.pth"))
        parts[part] = {key: value.numpy() for key, value in found.items()}
    ours = to_ours(parts, UvqConfig().blocks)
    stored = {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in ours.items()}
    save_file(stored, destination)
    weights.load_uvq(destination)
    return f"UVQ 1.5, {sum(value.size for value in stored.values()):,} parameters"


def main(argv: Sequence[str] | None = None) -> int:
    """Converts one folder."""
    source = "folder of content_net.pth, distortion_net.pth and aggregation_net.pth"
    return converting.run("convert_uvq.py", __doc__, _convert, argv, source)


if __name__ == "__main__":
    sys.exit(main())
