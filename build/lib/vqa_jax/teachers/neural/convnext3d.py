"""ConvNeXt inflated to clips, the aesthetic branch of DOVER (Liu et al. 2022; Wu et al. 2023)."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from vqa_jax.models import layers
from vqa_jax.teachers.neural import windows

_NORM_EPSILON = 1e-6
_SIDE = 7  # of the depthwise kernels, in space


@dataclasses.dataclass(frozen=True)
class ConvNext3dConfig:
    """Sizes of the network; the defaults are DOVER's (ConvNeXt-T).

    Args:
        dims: width of each stage.
        num_layers: blocks of each stage.
        temporal_sizes: frames that the depthwise kernels span, cyclic by block index in a stage.
        stem_size: frames, rows and columns of a patch.
    """

    dims: tuple[int, ...] = (96, 192, 384, 768)
    num_layers: tuple[int, ...] = (3, 3, 9, 3)
    temporal_sizes: tuple[int, ...] = (1, 3, 1)
    stem_size: tuple[int, int, int] = (2, 4, 4)

    @property
    def feature_dim(self) -> int:
        """Width D of the feature map (768)."""
        return self.dims[-1]


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=_NORM_EPSILON, use_fast_variance=False, rngs=rngs)


class StridedConv(nnx.Module):
    """3D convolution whose stride is its size, kernel [time, height, width, in, out]."""

    def __init__(self, size: tuple[int, int, int], d_in: int, d_out: int, rngs: nnx.Rngs):
        init = nnx.initializers.truncated_normal(0.02)
        self.kernel = nnx.Param(init(rngs.params(), (*size, d_in, d_out)))
        self.bias = nnx.Param(jnp.zeros(d_out))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, in] -> [B, T / time, H / height, W / width, out]."""
        return windows.strided_conv(x, self.kernel[...]) + self.bias[...]


class DepthwiseConv(nnx.Module):
    """3D convolution of every channel alone, output as large as input; kernel [t, 7, 7, 1, D]."""

    def __init__(self, frames: int, width: int, rngs: nnx.Rngs):
        init = nnx.initializers.truncated_normal(0.02)
        self.kernel = nnx.Param(init(rngs.params(), (frames, _SIDE, _SIDE, 1, width)))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, D] -> the same."""
        frames, kernel, (T, H, W) = len(self.kernel), self.kernel[...], x.shape[1:4]
        margins = ((0, 0), (frames // 2, frames // 2), (_SIDE // 2,) * 2, (_SIDE // 2,) * 2, (0, 0))
        padded = jnp.pad(x, margins)

        def add_frame(t: jax.Array, y: jax.Array) -> jax.Array:
            # A sum of shifted views: XLA's CPU backend is many times slower at grouped
            # convolutions. The loop keeps it to one frame a fused kernel; more spill registers.
            moved, taps = jax.lax.dynamic_slice_in_dim(padded, t, T, 1), kernel[t, :, :, 0]
            views = itertools.product(range(_SIDE), range(_SIDE))
            return y + sum(moved[:, :, h : h + H, w : w + W] * taps[h, w] for h, w in views)

        y = jax.lax.fori_loop(0, frames, add_frame, jnp.zeros_like(x))
        return y + self.bias[...]


class Block(nnx.Module):
    """Depthwise convolution, then an MLP at every position, scaled by `gamma`."""

    def __init__(self, width: int, frames: int, rngs: nnx.Rngs):
        self.depthwise = DepthwiseConv(frames, width, rngs)
        self.norm = _norm(width, rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)
        self.gamma = nnx.Param(jnp.full(width, 1e-6))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, D] -> the same."""
        return x + windows.per_token(self._mlp, self.depthwise(x))

    def _mlp(self, tokens: jax.Array) -> jax.Array:
        h = layers.gelu(self.up(self.norm(tokens)))
        return self.gamma[...] * self.down(h)


class Downsample(nnx.Module):
    """Norm, then 2x2 tokens of a frame to one of the next width."""

    def __init__(self, d_in: int, d_out: int, rngs: nnx.Rngs):
        self.norm = _norm(d_in, rngs)
        self.conv = StridedConv((1, 2, 2), d_in, d_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, D] -> [B, T, H / 2, W / 2, d_out]."""
        return self.conv(self.norm(x))


class Stage(nnx.Module):
    """Downsampling (not in the first stage), then blocks of one width."""

    def __init__(self, cfg: ConvNext3dConfig, number: int, rngs: nnx.Rngs):
        width, spans = cfg.dims[number], cfg.temporal_sizes
        self.downsample = Downsample(cfg.dims[number - 1], width, rngs) if number else None
        self.blocks = nnx.List(
            [Block(width, spans[i % len(spans)], rngs) for i in range(cfg.num_layers[number])]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, D] -> [B, T, H / 2, W / 2, D'], the first stage -> the same."""
        x = x if self.downsample is None else self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class ConvNext3d(nnx.Module):
    """Clips to feature maps."""

    def __init__(self, cfg: ConvNext3dConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.stem = StridedConv(cfg.stem_size, 3, cfg.dims[0], rngs)
        self.stem_norm = _norm(cfg.dims[0], rngs)
        self.stages = nnx.List([Stage(cfg, number, rngs) for number in range(len(cfg.dims))])
        self.norm = _norm(cfg.feature_dim, rngs)

    def __call__(self, clips: jax.Array) -> jax.Array:
        """Feature maps of normalised clips.

        Args:
            clips: float32 [B, T, H, W, 3]; H and W multiples of 32, an even number T of frames.

        Returns:
            float32 [B, T / 2, H / 32, W / 32, feature_dim], normed.

        Raises:
            ValueError: the clips do not divide so.
        """
        t, h, w = self.cfg.stem_size
        halvings = 2 ** (len(self.cfg.dims) - 1)
        T, H, W = clips.shape[1:4]
        if T % t or H % (h * halvings) or W % (w * halvings):
            raise ValueError(
                f"clips of shape {clips.shape}: {T} frames must be a multiple of {t}, {H}x{W} "
                f"pixels of {h * halvings}x{w * halvings}"
            )
        x = self.stem_norm(self.stem(clips))
        for stage in self.stages:
            x = stage(x)
        return self.norm(x)
