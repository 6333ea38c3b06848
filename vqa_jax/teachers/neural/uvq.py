"""UVQ 1.5 (google/uvq, 2025; after Wang et al., CVPR 2021): content and distortions of a frame.

Two EfficientNet-B0 without classifiers see a frame of 1080x1920: one the whole of it, shrunk to
256x256, the other nine parts of 360x640 at that resolution. Both maps are averaged to 4x4 places
and scored together. The score of a video is the mean over its frames, one a second. Sizes and the
order of operations follow `uvq1p5_pytorch/` of https://github.com/google/uvq.

Batch norms are folded into the convolutions, as in EfficientNet-Lite, which has these very blocks
but for squeeze-and-excitation and the activation.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from vqa_jax.models.efficientnet_lite import Block, BlockConfig, Conv, EfficientNetLiteConfig
from vqa_jax.models.layers import ones, param, zeros

SCORE_RANGE = (1.0, 5.0)
_DTYPE = "float32"
_NORM_EPSILON = 1e-3
_SQUEEZE = 4  # a block's input channels by one squeezed channel


@dataclasses.dataclass(frozen=True)
class UvqConfig:
    """Sizes; the defaults are the published model's.

    Attributes:
      blocks: of either tower.
      stem: channels after the first convolution.
      channels: of either tower's map.
      hidden: channels that see both maps.
      content_side: pixels of the side of the picture that the content tower sees.
      parts: the distortion tower sees the frame in this many rows and columns.
      pool: window of the maxima, height and width, that are taken of a part's map.
      places: both maps are averaged to this many rows and columns.
    """

    blocks: tuple[BlockConfig, ...] = sum(EfficientNetLiteConfig(0).stages, ())
    stem: int = 32
    channels: int = 128
    hidden: int = 256
    content_side: int = 256
    parts: int = 3
    pool: tuple[int, int] = (5, 13)
    places: int = 4


class SqueezedBlock(Block):
    """An inverted bottleneck whose inner channels are weighted by what the whole map says."""

    def __init__(self, cfg: BlockConfig, rngs: nnx.Rngs):
        super().__init__(cfg, rngs, _DTYPE)
        inner, squeezed = cfg.d_in * cfg.expansion, max(1, cfg.d_in // _SQUEEZE)
        self.squeeze = Conv(1, inner, squeezed, rngs, _DTYPE)
        self.excite = Conv(1, squeezed, inner, rngs, _DTYPE)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, d_in] -> [N, ceil(H / stride), ceil(W / stride), d_out]."""
        y = x if self.expand is None else jax.nn.silu(self.expand.pointwise(x))
        y = jax.nn.silu(self.depthwise.spatial(y, self.cfg.stride))
        weight = jax.nn.silu(self.squeeze.pointwise(y.mean((1, 2), keepdims=True)))
        y = self.project.pointwise(y * jax.nn.sigmoid(self.excite.pointwise(weight)))
        return x + y if self.cfg.is_residual else y


class Tower(nnx.Module):
    """Pictures to a map of features, a place for 32 x 32 pixels."""

    def __init__(self, cfg: UvqConfig, rngs: nnx.Rngs):
        self.stem = Conv(3, 3, cfg.stem, rngs, _DTYPE)
        self.blocks = nnx.List([SqueezedBlock(block, rngs) for block in cfg.blocks])
        self.head = Conv(2, cfg.blocks[-1].d_out, cfg.channels, rngs, _DTYPE)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """RGB in -1..1 [N, H, W, 3] -> [N, ceil(H / 32), ceil(W / 32), channels]."""
        x = jax.nn.silu(self.stem.spatial(pictures, 2))
        for block in self.blocks:
            x = block(x)
        return self.head.spatial(x, 1)


class Aggregation(nnx.Module):
    """The two maps of a frame to its score."""

    def __init__(self, cfg: UvqConfig, rngs: nnx.Rngs):
        self.places = cfg.places
        self.hidden = Conv(1, 2 * cfg.channels, cfg.hidden, rngs, _DTYPE)
        shape = (cfg.places, cfg.places, cfg.hidden)
        self.norm_scale = param(rngs, ones, shape, (None,) * 3, _DTYPE)
        self.norm_bias = param(rngs, zeros, shape, (None,) * 3, _DTYPE)
        self.last = Conv(1, cfg.hidden, 1, rngs, _DTYPE)

    def __call__(self, content: jax.Array, distortion: jax.Array) -> jax.Array:
        """Maps [N, H, W, channels], either of any size, to scores [N] in 1..5."""
        maps = [mean_of_places(x, self.places) for x in (content, distortion)]
        x = self.hidden.pointwise(jnp.concatenate(maps, -1))
        axes = (1, 2, 3)  # a frame's whole map is one sample of the norm
        x = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + _NORM_EPSILON)
        x = jax.nn.relu(x * self.norm_scale[...] + self.norm_bias[...])
        x = self.last.pointwise(x.max((1, 2), keepdims=True))[:, 0, 0, 0]
        low, high = SCORE_RANGE
        return jnp.tanh(x) * ((high - low) / 2) + (high + low) / 2


class Uvq(nnx.Module):
    """Frames to scores."""

    def __init__(self, cfg: UvqConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.content = Tower(cfg, rngs)
        self.distortion = Tower(cfg, rngs)
        self.aggregation = Aggregation(cfg, rngs)

    def content_map(self, pixels: jax.Array) -> jax.Array:
        """Normalized frames [N, H, W, 3] -> [N, 8, 8, channels] of the shrunk frame."""
        side = self.cfg.content_side
        # Two neighbours a side however much is left out between them: so it was trained.
        shape = (len(pixels), side, side, 3)
        return self.content(jax.image.resize(pixels, shape, "bilinear", antialias=False))

    def distortion_map(self, pixels: jax.Array) -> jax.Array:
        """Normalized frames [N, H, W, 3] -> [N, 24, 24, channels], 8 x 8 of each part.

        Parts are seen one after another: all nine at once would take nine times the memory.

        Raises:
          ValueError: the sides are no multiples of `parts`.
        """
        n, height, width = pixels.shape[:3]
        parts = self.cfg.parts
        if height % parts or width % parts:
            raise ValueError(f"frames of {height} x {width} pixels cannot be cut in {parts} parts")
        h, w = height // parts, width // parts
        cut = pixels.reshape(n, parts, h, parts, w, 3).transpose(1, 3, 0, 2, 4, 5)
        maps = jax.lax.map(self._part_map, cut.reshape(parts**2, n, h, w, 3))
        h, w = maps.shape[2:4]
        maps = maps.reshape(parts, parts, n, h, w, -1).transpose(2, 0, 3, 1, 4, 5)
        return maps.reshape(n, parts * h, parts * w, -1)

    def _part_map(self, part: jax.Array) -> jax.Array:
        return nnx.max_pool(self.distortion(part), self.cfg.pool)

    def maps(self, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """uint8 RGB [N, H, W, 3] -> the maps of content and distortions."""
        pixels = normalize(frames)
        return self.content_map(pixels), self.distortion_map(pixels)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Scores of frames; the mean over a video's frames is its score.

        Args:
            frames: uint8 RGB [N, 1080, 1920, 3].

        Returns:
            float32 [N] in 1..5; higher is better.
        """
        return self.aggregation(*self.maps(frames))


def normalize(frames: jax.Array) -> jax.Array:
    """uint8 RGB [..., 3] -> float32 in -1..1."""
    return (frames.astype(jnp.float32) / 255 - 0.5) * 2


def mean_of_places(maps: jax.Array, places: int) -> jax.Array:
    """[N, H, W, C] -> means [N, places, places, C] of equal cells.

    Raises:
      ValueError: the sides are no multiples of `places`.
    """
    n, height, width, channels = maps.shape
    if height % places or width % places:
        raise ValueError(f"a map of {height} x {width} places cannot be averaged to {places}")
    cells = maps.reshape(n, places, height // places, places, width // places, channels)
    return cells.mean((2, 4))
