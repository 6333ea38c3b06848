"""Video Swin with gated relative position bias (Liu et al. 2022; Wu et al., FAST-VQA, ECCV 2022).

Clips are spliced from 7x7 fragments of a frame. Neighbouring tokens may come from two fragments,
which are no neighbours in the video, so the first stages hold two tables of position biases: one
for pairs inside a fragment and one for pairs across fragments.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.teachers.neural import swin, windows


@dataclasses.dataclass(frozen=True)
class Swin3dConfig:
    """Sizes of the network; the defaults are FAST-VQA's and DOVER's.

    Args:
        embed_dim: width of the first stage; each further stage doubles it.
        num_layers: blocks of each stage.
        num_heads: attention heads of each stage.
        gated: whether a stage's blocks hold the fragment table too.
        patch_size: frames, rows and columns of a patch.
        window: frames, rows and columns of an attention window, in tokens.
        fragments: fragments along rows and columns of a frame.
    """

    embed_dim: int = 96
    num_layers: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    gated: tuple[bool, ...] = (True, True, True, False)
    patch_size: tuple[int, int, int] = (2, 4, 4)
    window: tuple[int, int, int] = (8, 7, 7)
    fragments: tuple[int, int] = (7, 7)

    @property
    def feature_dim(self) -> int:
        """Width D of the feature map (768)."""
        return self.embed_dim * 2 ** (len(self.num_layers) - 1)


class WindowAttention(nnx.Module):
    """Self-attention inside windows, with position biases by offset."""

    def __init__(self, cfg: Swin3dConfig, width: int, num_heads: int, gated: bool, rngs: nnx.Rngs):
        self.window, self.fragments, self.num_heads = cfg.window, cfg.fragments, num_heads
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.proj = nnx.Linear(width, width, rngs=rngs)
        offsets = np.prod([2 * w - 1 for w in cfg.window])
        table = nnx.initializers.truncated_normal(0.02)
        self.relative_table = nnx.Param(table(rngs.params(), (offsets, num_heads)))
        self.fragment_table = (
            nnx.Param(table(rngs.params(), (offsets, num_heads))) if gated else None
        )

    def __call__(self, x: jax.Array, shifted: bool) -> jax.Array:
        """[B, T, H, W, D] -> the same; `shifted` moves the windows by half a window."""
        sizes = x.shape[1:4]
        window = tuple(map(min, self.window, sizes))
        shift = windows.shift_for(sizes, self.window) if shifted else (0, 0, 0)
        x = jnp.roll(x, [-s for s in shift], (1, 2, 3)) if any(shift) else x
        tokens = windows.partition(x, window)

        qkv = self.qkv(tokens).reshape(*tokens.shape[:3], 3, self.num_heads, -1)
        q, k, v = jnp.moveaxis(qkv, (3, 4), (0, 3))  # each [B, W, heads, N, head_dim]
        logits = jnp.einsum("bwhqe,bwhke->bwhqk", q * q.shape[-1] ** -0.5, k)
        logits += self._position_bias(sizes, window, shift)
        if any(shift):
            region = windows.unfolded(windows.regions(sizes, window, shift)[:, None])
            apart = region[..., :, None] != region[..., None, :]
            logits += jnp.where(apart, swin.MASKED, 0.0)
        attended = jnp.einsum("bwhqk,bwhke->bwqhe", jax.nn.softmax(logits), v)

        y = windows.merge(self.proj(attended.reshape(tokens.shape)), sizes, window)
        return jnp.roll(y, shift, (1, 2, 3)) if any(shift) else y

    def _position_bias(self, sizes, window, shift) -> jax.Array:
        """Biases [W or 1, heads, N, N]."""
        rows = windows.pair_offsets(window, self.window)
        relative = self.relative_table[...].T[:, rows]
        if self.fragment_table is None:
            return relative[None]
        fragment = self.fragment_table[...].T[:, rows]
        # The gate counts the fragments between two tokens. It is a factor, not a switch: the
        # weights were trained with gates of 2 and more applied as such.
        gate = 0.0
        for axis, parts in zip((1, 2), self.fragments, strict=True):
            index = np.arange(sizes[axis]) * parts // sizes[axis]
            index = np.roll(index, -shift[axis]).astype(np.float32)
            index = np.expand_dims(index, [a for a in range(3) if a != axis])
            index = np.broadcast_to(index, sizes)[None, ..., None]
            index = windows.unfolded(windows.partition(index, window)[0, :, None, :, 0])
            gate += jnp.abs(index[..., :, None] - index[..., None, :])
        return fragment + gate * (relative - fragment)


class Swin3d(swin.Swin):
    """Clips to feature maps."""

    def __init__(self, cfg: Swin3dConfig, rngs: nnx.Rngs):
        def make_attention(heads: int, gated: bool) -> swin.MakeAttention:
            return lambda width, rngs: WindowAttention(cfg, width, heads, gated, rngs)

        stages = zip(cfg.num_heads, cfg.gated, strict=True)
        super().__init__(cfg, [make_attention(*stage) for stage in stages], rngs)

    def __call__(self, clips: jax.Array) -> jax.Array:
        """Feature maps of normalised clips.

        Args:
            clips: float32 [B, T, H, W, 3]; 224 rows and columns, an even number T of frames.

        Returns:
            float32 [B, T / 2, H / 32, W / 32, feature_dim], normed.

        Raises:
            ValueError: the clips do not divide into patches and whole windows in every stage.
        """
        self._check(clips.shape)
        return self.places(clips)

    def _check(self, shape: tuple[int, ...]) -> None:
        cfg = self.cfg
        halvings = 2 ** (len(cfg.num_layers) - 1)
        tokens = [size // patch for size, patch in zip(shape[1:4], cfg.patch_size, strict=True)]
        whole = all(t * p == s for t, p, s in zip(tokens, cfg.patch_size, shape[1:4], strict=True))
        rows = all(t % (w * halvings) == 0 for t, w in zip(tokens[1:], cfg.window[1:], strict=True))
        time = tokens[0] <= cfg.window[0] or tokens[0] % cfg.window[0] == 0
        if not (len(shape) == 5 and whole and rows and time):
            raise ValueError(
                f"clips of shape {shape} do not divide into patches {cfg.patch_size} and windows "
                f"{cfg.window} over {halvings}x downsampling: give 224x224 pixels, 32 frames"
            )
