"""Fast pathway of SlowFast-R50 (Feichtenhofer et al. 2019), at any width, as a motion extractor.

The published student takes its motion features from a Kinetics-400 SlowFast-R50, fast pathway, last
stage, averaged over time and space (method 4). The same topology at stem width 4 is the
extractor of the small student. Weights keep pytorchvideo's names (`vqa_jax.motion.weights`).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

PIXEL_MEAN = 0.45  # of pixels in [0, 1]
PIXEL_STD = 0.225
_BN_EPSILON = 1e-5
_EXPANSION = 4  # a residual block's output channels per inner channel
# Narrow 2D convolutions are several times faster per channel on CPUs up to this many outputs.
_MAX_STEM_OUTPUTS = 16


@dataclass(frozen=True)
class FastPathwayConfig:
    """Sizes of the pathway; the defaults are SlowFast-R50's.

    Args:
        stem_width: channels after the stem (8 in SlowFast-R50).
        num_blocks: residual blocks of the four stages.
    """

    stem_width: int = 8
    num_blocks: tuple[int, ...] = (3, 4, 6, 3)

    @property
    def motion_dim(self) -> int:
        """Width of the motion feature (256 in SlowFast-R50)."""
        return self.stem_width * 2 ** (len(self.num_blocks) - 1) * _EXPANSION


class Conv(nnx.Module):
    """Kernel of a 3D convolution without bias, [time, height, width, in, out]."""

    def __init__(self, size: tuple[int, int, int], d_in: int, d_out: int, rngs: nnx.Rngs):
        he_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
        self.kernel = nnx.Param(he_normal(rngs.params(), (*size, d_in, d_out)))


def _batch_norm(width: int, rngs: nnx.Rngs, zero: bool = False) -> nnx.BatchNorm:
    scale = nnx.initializers.zeros if zero else nnx.initializers.ones
    return nnx.BatchNorm(
        width,
        use_running_average=True,
        momentum=0.97,
        epsilon=_BN_EPSILON,
        scale_init=scale,
        rngs=rngs,
    )


class Block(nnx.Module):
    """Bottleneck: 3x1x1 in time, 1x3x3 in space (where the stride is), 1x1x1."""

    def __init__(self, d_in: int, d_inner: int, stride: int, project: bool, rngs: nnx.Rngs):
        d_out = d_inner * _EXPANSION
        self.stride = stride
        self.conv_a, self.norm_a = Conv((3, 1, 1), d_in, d_inner, rngs), _batch_norm(d_inner, rngs)
        self.conv_b, self.norm_b = (
            Conv((1, 3, 3), d_inner, d_inner, rngs),
            _batch_norm(d_inner, rngs),
        )
        self.conv_c, self.norm_c = (
            Conv((1, 1, 1), d_inner, d_out, rngs),
            _batch_norm(d_out, rngs, True),
        )
        self.shortcut = Conv((1, 1, 1), d_in, d_out, rngs) if project else None
        self.shortcut_norm = _batch_norm(d_out, rngs) if project else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H / stride, W / stride, 4 * d_inner]."""
        y = nnx.relu(self.norm_a(_temporal_conv(x, self.conv_a.kernel[:, 0, 0])))
        y = nnx.relu(self.norm_b(_spatial_conv(y, self.conv_b.kernel[0], self.stride)))
        y = self.norm_c(y @ self.conv_c.kernel[0, 0, 0])
        if self.shortcut is not None:
            x = x[:, :, :: self.stride, :: self.stride]
            x = self.shortcut_norm(x @ self.shortcut.kernel[0, 0, 0])
        return nnx.relu(x + y)


class FastPathway(nnx.Module):
    """clips -> motion features. BatchNorm is frozen unless `.train()` was called."""

    def __init__(self, cfg: FastPathwayConfig, rngs: nnx.Rngs):
        self.stem = Conv((5, 7, 7), 3, cfg.stem_width, rngs)
        self.stem_norm = _batch_norm(cfg.stem_width, rngs)
        self.stages = nnx.List([])
        width = cfg.stem_width
        for stage, num_blocks in enumerate(cfg.num_blocks):
            inner = cfg.stem_width * 2**stage
            blocks = nnx.List([])
            for number in range(num_blocks):
                stride = 2 if stage and not number else 1
                blocks.append(Block(width, inner, stride, not number, rngs))
                width = inner * _EXPANSION
            self.stages.append(blocks)

    def stage_outputs(self, clips: jax.Array) -> list[jax.Array]:
        """Activations [M, K, h, w, C] after the stem and after each stage.

        Args:
            clips: uint8 RGB [M, K, H, W, 3].
        """
        x = (clips.astype(jnp.float32) / 255 - PIXEL_MEAN) / PIXEL_STD
        x = _max_pool(nnx.relu(self.stem_norm(_stem_conv(x, self.stem.kernel[...]))))
        outputs = [x]
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
            outputs.append(x)
        return outputs

    def __call__(self, clips: jax.Array) -> jax.Array:
        """uint8 RGB clips [M, K, H, W, 3] -> motion features float32 [M, motion_dim]."""
        return self.stage_outputs(clips)[-1].mean((1, 2, 3))


class MotionFeatures:
    """A loaded pathway as a compiled function of clips; one compilation a shape of clips."""

    def __init__(self, model: FastPathway, config: FastPathwayConfig):
        self.config = config
        self.model = model
        graphdef, state = nnx.split(model)

        def features(state, clips):
            # A frozen feature must not depend on an accelerator's reduced default precision.
            with jax.default_matmul_precision("highest"):
                return nnx.merge(graphdef, state)(clips)

        self._features, self._state = jax.jit(features), state

    def over(self, devices: Sequence[jax.Device]) -> "MotionFeatures":
        """The same function with M clips split evenly over devices; M must be a multiple.

        Every device runs the program of its M / len(devices) clips, so the features are those of
        as many calls on one device.
        """
        if len(devices) == 1:
            return self
        mesh = Mesh(np.array(devices), ("clips",))
        split = copy.copy(self)
        whole, part = PartitionSpec(), PartitionSpec("clips")
        split._features = jax.jit(
            jax.shard_map(self._features, mesh=mesh, in_specs=(whole, part), out_specs=part)
        )
        split._state = jax.device_put(self._state, NamedSharding(mesh, whole))
        return split

    def __call__(self, clips: np.ndarray | jax.Array) -> jax.Array:
        """uint8 RGB clips [M, K, H, W, 3] -> motion features float32 [M, motion_dim]."""
        if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8:
            raise ValueError(f"clips must be uint8 [M,K,H,W,3], not {clips.dtype} {clips.shape}")
        return self._features(self._state, clips)


# The 3D kernels factor into 2D ones (exactly, except for the order of sums), and XLA's CPU backend
# runs 2D convolutions many times faster than 3D ones.


def _conv2d(x: jax.Array, kernel: jax.Array, stride: int, pad) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _spatial_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """1x3x3 with padding 1: time is folded into the batch. kernel [3, 3, in, out]."""
    B, T, H, W, C = x.shape
    y = _conv2d(x.reshape(B * T, H, W, C), kernel, stride, ((1, 1), (1, 1)))
    return y.reshape(B, T, *y.shape[1:])


def _temporal_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x1x1 with padding 1: one matmul over the stacked neighbours. kernel [3, in, out]."""
    T = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    stacked = jnp.concatenate([padded[:, i : i + T] for i in range(3)], axis=-1)
    return stacked @ kernel.reshape(-1, kernel.shape[-1])


def _stem_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """5x7x7, stride 1x2x2, padding 2x3x3; kernel [5, 7, 7, 3, out].

    2x2 pixels become channels, which turns the strided 7x7 into a dense 4x4; the temporal taps are
    further output channels, shifted in time and added up afterwards.
    """
    B, T, H, W, C = x.shape
    taps, width = kernel.shape[0], kernel.shape[-1]
    h, w = (H + 1) // 2 + 3, (W + 1) // 2 + 3
    x = jnp.pad(x, ((0, 0), (0, 0), (3, 2 * h - H - 3), (3, 2 * w - W - 3), (0, 0)))
    x = x.reshape(B * T, h, 2, w, 2, C).transpose(0, 1, 3, 2, 4, 5).reshape(B * T, h, w, 4 * C)
    kernel = jnp.pad(kernel, ((0, 0), (0, 1), (0, 1), (0, 0), (0, 0)))
    kernel = kernel.reshape(taps, 4, 2, 4, 2, C, width).transpose(1, 3, 2, 4, 5, 0, 6)
    kernel = kernel.reshape(4, 4, 4 * C, taps, width)
    together = max(1, _MAX_STEM_OUTPUTS // width)
    total = 0
    for first in range(0, taps, together):
        group = kernel[..., first : first + together, :]
        y = _conv2d(x, group.reshape(4, 4, 4 * C, -1), 1, "VALID")
        y = y.reshape(B, T, *y.shape[1:3], -1, width)
        y = jnp.pad(y, ((0, 0), (taps // 2, taps // 2), (0, 0), (0, 0), (0, 0), (0, 0)))
        for i in range(group.shape[-2]):
            total += y[:, first + i : first + i + T, :, :, i]
    return total


def _max_pool(x: jax.Array) -> jax.Array:
    """1x3x3, stride 1x2x2, padding 0x1x1, of values that are not negative.

    A maximum of shifted views: the gradient of a windowed maximum is slow on CPUs.
    """
    for axis in (2, 3):
        size = (x.shape[axis] + 1) // 2
        pad = [(0, 0)] * x.ndim
        pad[axis] = (1, 2 * size - x.shape[axis])
        padded = jnp.pad(x, pad)
        views = (jax.lax.slice_in_dim(padded, i, i + 2 * size - 1, 2, axis) for i in range(3))
        x = jnp.maximum(next(views), jnp.maximum(next(views), next(views)))
    return x
