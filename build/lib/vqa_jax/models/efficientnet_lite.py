"""EfficientNet-Lite 0, 1 and 2 (Tan and Le 2019, without squeeze-and-excitation, ReLU6 throughout).

Weights pretrained on ImageNet are the past that a small tower brings along. Batch norms are folded
into the convolutions, so that a layer is a kernel and a bias. Pictures may have any size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.devices import execution
from vqa_jax.models.layers import Initializer, param, zeros

NUM_STAGES = 8  # seven of blocks, and the head
_MEAN, _SCALE = 127.0, 128.0  # of pixels 0..255
_STEM, _HEAD = 32, 1280  # widths that do not grow with the network
# Repeats, kernel, stride of the first block, expansion and channels of Lite0's stages.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_GROWTH = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # (width, depth) of Lite0, 1, 2
SIZES = tuple(_GROWTH)


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """An inverted bottleneck: 1x1 expansion, depthwise convolution, 1x1 projection.

    Attributes:
      kernel: side of the depthwise kernel.
      stride: of the depthwise convolution.
      expansion: inner channels by input channel; at 1 there is no expansion.
      d_in, d_out: channels.
    """

    kernel: int
    stride: int
    expansion: int
    d_in: int
    d_out: int

    @property
    def is_residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.d_in == self.d_out


@dataclasses.dataclass(frozen=True)
class EfficientNetLiteConfig:
    """Which of the family: `size` 0, 1 or 2."""

    size: int = 0

    def __post_init__(self) -> None:
        """Refuses sizes that the family lacks here."""
        if self.size not in SIZES:
            raise ValueError(f"EfficientNet-Lite{self.size}: sizes are 0, 1 and 2")

    @property
    def stages(self) -> tuple[tuple[BlockConfig, ...], ...]:
        """Blocks of the seven stages; the first and the last do not grow deeper."""
        wider, deeper = _GROWTH[self.size]
        stages, d_in = [], _STEM
        for number, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
            if 0 < number < len(_STAGES) - 1:
                repeats = math.ceil(repeats * deeper)
            blocks = []
            for repeat in range(repeats):
                d_out = _whole_eights(channels * wider)
                blocks.append(BlockConfig(kernel, 1 if repeat else stride, expansion, d_in, d_out))
                d_in = d_out
            stages.append(tuple(blocks))
        return tuple(stages)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the outputs of the eight stages, the head last."""
        return (*(blocks[-1].d_out for blocks in self.stages), _HEAD)


def _whole_eights(channels: float) -> int:
    """The nearest multiple of 8, never more than a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _he_normal(fan_in: int) -> Initializer:
    return jax.nn.initializers.normal(math.sqrt(2 / fan_in))


class Conv(nnx.Module):
    """A convolution with bias, kernel [side, side, in, out]; depthwise where `in` is 1."""

    def __init__(self, side: int, d_in: int, d_out: int, rngs: nnx.Rngs, dtype: str):
        shape = (side, side, d_in, d_out)
        self.kernel = param(rngs, _he_normal(side * side * d_in), shape, (None,) * 4, dtype)
        self.bias = param(rngs, zeros, (d_out,), (None,), dtype)

    def pointwise(self, x: jax.Array) -> jax.Array:
        """[N, H, W, in] -> [N, H, W, out] by a kernel of one pixel."""
        return x @ self.kernel[0, 0].astype(x.dtype) + self.bias[...].astype(x.dtype)

    def spatial(self, x: jax.Array, stride: int) -> jax.Array:
        """[N, H, W, C] -> [N, ceil(H / stride), ceil(W / stride), out], padded as SAME."""
        kernel, bias = self.kernel[...].astype(x.dtype), self.bias[...].astype(x.dtype)
        if kernel.shape[2] == 1 and execution.current().platform == "cpu":
            return depthwise(x, kernel[:, :, 0], stride) + bias
        out = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1] if kernel.shape[2] == 1 else 1,
        )
        return out + bias


def depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A depthwise convolution as a sum of shifted products: XLA's takes CPUs eight times longer.

    Args:
        x: [N, H, W, C].
        kernel: [side, side, C].
        stride: of both axes.

    Returns:
        [N, ceil(H / stride), ceil(W / stride), C], padded as SAME (more behind than in front).
    """
    side = kernel.shape[0]
    sizes = [-(-length // stride) for length in x.shape[1:3]]
    total = [
        max((out - 1) * stride + side - length, 0)
        for out, length in zip(sizes, x.shape[1:3], strict=True)
    ]
    x = jnp.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)))
    shifted = (
        x[
            :,
            row : row + (sizes[0] - 1) * stride + 1 : stride,
            column : column + (sizes[1] - 1) * stride + 1 : stride,
        ]
        * kernel[row, column]
        for row, column in np.ndindex(side, side)
    )
    return sum(shifted, start=jnp.zeros((), x.dtype))


class Block(nnx.Module):
    """See `BlockConfig`."""

    def __init__(self, cfg: BlockConfig, rngs: nnx.Rngs, dtype: str):
        self.cfg = cfg
        inner = cfg.d_in * cfg.expansion
        self.expand = Conv(1, cfg.d_in, inner, rngs, dtype) if cfg.expansion > 1 else None
        self.depthwise = Conv(cfg.kernel, 1, inner, rngs, dtype)
        self.project = Conv(1, inner, cfg.d_out, rngs, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, d_in] -> [N, ceil(H / stride), ceil(W / stride), d_out]."""
        y = x if self.expand is None else jax.nn.relu6(self.expand.pointwise(x))
        y = jax.nn.relu6(self.depthwise.spatial(y, self.cfg.stride))
        y = self.project.pointwise(y)
        return x + y if self.cfg.is_residual else y


class EfficientNetLite(nnx.Module):
    """Pictures to maps of features; there is no classifier."""

    def __init__(
        self,
        cfg: EfficientNetLiteConfig,
        rngs: nnx.Rngs,
        param_dtype: str = "float32",
        compute_dtype: str = "float32",
    ):
        self.cfg, self.compute_dtype = cfg, compute_dtype
        self.stem = Conv(3, 3, _STEM, rngs, param_dtype)
        self.stages = nnx.List(
            [
                nnx.List([Block(block, rngs, param_dtype) for block in blocks])
                for blocks in cfg.stages
            ]
        )
        self.head = Conv(1, cfg.widths[-2], _HEAD, rngs, param_dtype)

    def stage_outputs(self, pictures: jax.Array) -> Iterator[jax.Array]:
        """Yields the maps [N, h, w, C] after each of the seven stages and after the head.

        Args:
            pictures: [N, H, W, 3], RGB 0..255.
        """
        x = (pictures.astype(jnp.float32) - _MEAN) / _SCALE
        x = jax.nn.relu6(self.stem.spatial(x.astype(self.compute_dtype), 2))
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
            yield x
        yield jax.nn.relu6(self.head.pointwise(x))
