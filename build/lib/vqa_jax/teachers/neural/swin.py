"""What Swin networks over frames and over clips share (Liu et al. 2021, 2022): all but attention.

Rows and columns are the last two axes before the width; whatever stands before them is kept.
"""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from vqa_jax.models import layers
from vqa_jax.teachers.neural import windows

MASKED = -100.0  # added to logits, as the weights were trained, instead of minus infinity
_NORM_EPSILON = 1e-5

MakeAttention = Callable[[int, nnx.Rngs], nnx.Module]  # width -> attention(x, shifted)


class Sizes(Protocol):
    """Sizes that all Swin networks have.

    Attributes:
      embed_dim: width of the first stage; each further stage doubles it.
      num_layers: blocks of each stage.
      patch_size: sides of a patch.
      feature_dim: width of the features.
    """

    embed_dim: int
    num_layers: tuple[int, ...]
    patch_size: tuple[int, ...]

    @property
    def feature_dim(self) -> int:
        """Width of the last stage."""


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=_NORM_EPSILON, use_fast_variance=False, rngs=rngs)


class Block(nnx.Module):
    """Pre-norm block: attention in windows, then an MLP of four times the width."""

    def __init__(self, make_attention: MakeAttention, width: int, rngs: nnx.Rngs):
        self.norm1 = _norm(width, rngs)
        self.attn = make_attention(width, rngs)
        self.norm2 = _norm(width, rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array, shifted: bool) -> jax.Array:
        """[B, ..., H, W, D] -> the same."""
        x = x + self.attn(self.norm1(x), shifted)
        return x + windows.per_token(self._mlp, x)

    def _mlp(self, tokens: jax.Array) -> jax.Array:
        return self.down(layers.gelu(self.up(self.norm2(tokens))))


class Downsample(nnx.Module):
    """Joins 2x2 tokens of a frame into one of twice the width."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norm = _norm(4 * width, rngs)
        self.reduction = nnx.Linear(4 * width, 2 * width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, ..., H, W, D] -> [B, ..., H / 2, W / 2, 2 * D]."""
        corners = [x[..., row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(jnp.concatenate(corners, -1)))


class Stage(nnx.Module):
    """Blocks of one width, every second with shifted windows."""

    def __init__(
        self,
        make_attention: MakeAttention,
        width: int,
        num_layers: int,
        last: bool,
        rngs: nnx.Rngs,
    ):
        self.blocks = nnx.List([Block(make_attention, width, rngs) for _ in range(num_layers)])
        self.downsample = None if last else Downsample(width, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, ..., H, W, D] -> [B, ..., H / 2, W / 2, 2 * D], the last the same size."""
        for number, block in enumerate(self.blocks):
            x = block(x, shifted=number % 2 == 1)
        return x if self.downsample is None else self.downsample(x)


class Swin(nnx.Module):
    """Pixels to normed features by place; what attends, and to what, is the caller's."""

    def __init__(self, cfg: Sizes, make_attention: list[MakeAttention], rngs: nnx.Rngs):
        """Makes the network.

        Args:
          cfg: its sizes.
          make_attention: of each stage.
          rngs: of its initial weights.
        """
        self.cfg = cfg
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
        self.patch_kernel = nnx.Param(init(rngs.params(), (*cfg.patch_size, 3, cfg.embed_dim)))
        self.patch_bias = nnx.Param(jnp.zeros(cfg.embed_dim))
        self.patch_norm = _norm(cfg.embed_dim, rngs)
        last = len(cfg.num_layers) - 1
        self.stages = nnx.List(
            [
                Stage(make, cfg.embed_dim * 2**number, depth, number == last, rngs)
                for number, (make, depth) in enumerate(
                    zip(make_attention, cfg.num_layers, strict=True)
                )
            ]
        )
        self.norm = _norm(cfg.feature_dim, rngs)

    def places(self, pixels: jax.Array) -> jax.Array:
        """Normalised float32 [B, ..., H, W, 3] -> [B, ..., h, w, feature_dim], normed."""
        x = windows.strided_conv(pixels, self.patch_kernel[...]) + self.patch_bias[...]
        x = self.patch_norm(x)
        for stage in self.stages:
            x = stage(x)
        return self.norm(x)
