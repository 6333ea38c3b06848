"""Swin-B over frames (Liu et al. 2021), the spatial branch of MinimalisticVQA VII and IX."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.models import layers
from vqa_jax.teachers.neural import windows

_NORM_EPSILON = 1e-5
_MASKED = -100.0  # added to logits, as the weights were trained, instead of minus infinity


@dataclasses.dataclass(frozen=True)
class Swin2dConfig:
    """Sizes of the network; the defaults are Swin-B's.

    Args:
        embed_dim: width of the first stage; each further stage doubles it.
        num_layers: blocks of each stage.
        num_heads: attention heads of each stage.
        patch_size: rows and columns of a patch.
        window: rows and columns of an attention window, in tokens.
    """

    embed_dim: int = 128
    num_layers: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    patch_size: tuple[int, int] = (4, 4)
    window: tuple[int, int] = (7, 7)

    @property
    def feature_dim(self) -> int:
        """Width D of the pooled feature (1024)."""
        return self.embed_dim * 2 ** (len(self.num_layers) - 1)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=_NORM_EPSILON, use_fast_variance=False, rngs=rngs)


class WindowAttention(nnx.Module):
    """Self-attention inside windows, with position biases by offset."""

    def __init__(self, cfg: Swin2dConfig, width: int, num_heads: int, rngs: nnx.Rngs):
        self.window, self.num_heads = cfg.window, num_heads
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.proj = nnx.Linear(width, width, rngs=rngs)
        offsets = np.prod([2 * w - 1 for w in cfg.window])
        table = nnx.initializers.truncated_normal(0.02)
        self.relative_table = nnx.Param(table(rngs.params(), (offsets, num_heads)))

    def __call__(self, x: jax.Array, shifted: bool) -> jax.Array:
        """[N, H, W, D] -> the same; `shifted` moves the windows by half a window.

        A grid that is no multiple of the window is padded with zeros, which take part in the
        attention, as they did when the weights were trained.
        """
        H, W = x.shape[1:3]
        sizes = tuple(-(-size // w) * w for size, w in zip((H, W), self.window, strict=True))
        x = jnp.pad(x, ((0, 0), (0, sizes[0] - H), (0, sizes[1] - W), (0, 0)))
        shift = windows.shift_for(sizes, self.window) if shifted else (0, 0)
        x = jnp.roll(x, [-s for s in shift], (1, 2)) if any(shift) else x
        tokens = windows.partition(x, self.window)

        qkv = self.qkv(tokens).reshape(*tokens.shape[:3], 3, self.num_heads, -1)
        q, k, v = jnp.moveaxis(qkv, (3, 4), (0, 3))  # each [N, windows, heads, tokens, head_dim]
        logits = jnp.einsum("bwhqe,bwhke->bwhqk", q * q.shape[-1] ** -0.5, k)
        logits += self.relative_table[...].T[:, windows.pair_offsets(self.window, self.window)]
        if any(shift):
            region = windows.unfolded(windows.regions(sizes, self.window, shift)[:, None])
            apart = region[..., :, None] != region[..., None, :]
            logits += jnp.where(apart, _MASKED, 0.0)
        attended = jnp.einsum("bwhqk,bwhke->bwqhe", jax.nn.softmax(logits), v)

        y = windows.merge(self.proj(attended.reshape(tokens.shape)), sizes, self.window)
        y = jnp.roll(y, shift, (1, 2)) if any(shift) else y
        return y[:, :H, :W]


class Block(nnx.Module):
    """Pre-norm block: attention in windows, then an MLP of four times the width."""

    def __init__(self, cfg: Swin2dConfig, width: int, num_heads: int, rngs: nnx.Rngs):
        self.norm1 = _norm(width, rngs)
        self.attn = WindowAttention(cfg, width, num_heads, rngs)
        self.norm2 = _norm(width, rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array, shifted: bool) -> jax.Array:
        """[N, H, W, D] -> the same."""
        x = x + self.attn(self.norm1(x), shifted)
        return x + windows.per_token(self._mlp, x)

    def _mlp(self, tokens: jax.Array) -> jax.Array:
        return self.down(layers.gelu(self.up(self.norm2(tokens))))


class Downsample(nnx.Module):
    """Joins 2x2 tokens into one of twice the width."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norm = _norm(4 * width, rngs)
        self.reduction = nnx.Linear(4 * width, 2 * width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, D] -> [N, H / 2, W / 2, 2 * D]."""
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(jnp.concatenate(corners, -1)))


class Stage(nnx.Module):
    """Blocks of one width, every second with shifted windows."""

    def __init__(self, cfg: Swin2dConfig, number: int, rngs: nnx.Rngs):
        width, heads = cfg.embed_dim * 2**number, cfg.num_heads[number]
        self.blocks = nnx.List(
            [Block(cfg, width, heads, rngs) for _ in range(cfg.num_layers[number])]
        )
        last = number == len(cfg.num_layers) - 1
        self.downsample = None if last else Downsample(width, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, D] -> [N, H / 2, W / 2, 2 * D], or the same size in the last stage."""
        for number, block in enumerate(self.blocks):
            x = block(x, shifted=number % 2 == 1)
        return x if self.downsample is None else self.downsample(x)


class Swin2d(nnx.Module):
    """Frames to features."""

    def __init__(self, cfg: Swin2dConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
        self.patch_kernel = nnx.Param(init(rngs.params(), (*cfg.patch_size, 3, cfg.embed_dim)))
        self.patch_bias = nnx.Param(jnp.zeros(cfg.embed_dim))
        self.patch_norm = _norm(cfg.embed_dim, rngs)
        self.stages = nnx.List([Stage(cfg, number, rngs) for number in range(len(cfg.num_layers))])
        self.norm = _norm(cfg.feature_dim, rngs)

    def feature_map(self, frames: jax.Array) -> jax.Array:
        """Normed features by place.

        Args:
            frames: normalised float32 [N, H, W, 3]; H and W multiples of 32.

        Returns:
            float32 [N, H / 32, W / 32, feature_dim].

        Raises:
            ValueError: the frames do not divide so.
        """
        _, H, W, _ = frames.shape
        h, w = self.cfg.patch_size
        halvings = 2 ** (len(self.cfg.num_layers) - 1)
        if H % (h * halvings) or W % (w * halvings):
            raise ValueError(f"{H}x{W} frames are no multiple of {h * halvings}x{w * halvings}")
        x = windows.strided_conv(frames, self.patch_kernel[...]) + self.patch_bias[...]
        x = self.patch_norm(x)
        for stage in self.stages:
            x = stage(x)
        return self.norm(x)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Normalised float32 frames [N, H, W, 3] -> features [N, feature_dim], mean over places."""
        return self.feature_map(frames).mean((1, 2))
