"""Swin-B over frames (Liu et al. 2021), the spatial branch of MinimalisticVQA VII and IX."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.teachers.neural import swin, windows


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
            logits += jnp.where(apart, swin.MASKED, 0.0)
        attended = jnp.einsum("bwhqk,bwhke->bwqhe", jax.nn.softmax(logits), v)

        y = windows.merge(self.proj(attended.reshape(tokens.shape)), sizes, self.window)
        y = jnp.roll(y, shift, (1, 2)) if any(shift) else y
        return y[:, :H, :W]


class Swin2d(swin.Swin):
    """Frames to features."""

    def __init__(self, cfg: Swin2dConfig, rngs: nnx.Rngs):
        def make_attention(heads: int) -> swin.MakeAttention:
            return lambda width, rngs: WindowAttention(cfg, width, heads, rngs)

        super().__init__(cfg, [make_attention(heads) for heads in cfg.num_heads], rngs)

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
        return self.places(frames)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Normalised float32 frames [N, H, W, 3] -> features [N, feature_dim], mean over places."""
        return self.feature_map(frames).mean((1, 2))
