"""A pretrained EfficientNet-Lite as vision tower: its stages' statistics over cells are the tokens.

Early stages tell noise, blocks and blur, late ones what is shown. Means and deviations of all
their channels over a grid of cells keep both, whatever shape the frame has.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.models.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from vqa_jax.models.layers import ones, param, zeros

TOKEN_DTYPE = "float16"  # in which tokens are stored, and in which scoring hands them on
_LIMIT = 8.0  # deviations from the mean; an odd picture must not drown the rest of its token


@dataclasses.dataclass(frozen=True)
class CellTowerConfig:
    """Sizes of the tower.

    Attributes:
      lite: which EfficientNet-Lite, 0, 1 or 2.
      cells: cells along each side of a frame.
      image_size: short side of the frames, pixels.
    """

    lite: int = 0
    cells: int = 2
    image_size: int = 512

    def __post_init__(self) -> None:
        """Refuses networks that there are not."""
        if self.cells < 1:
            raise ValueError("cells starts at 1")
        self.network  # noqa: B018  # raises for another size

    @property
    def network(self) -> EfficientNetLiteConfig:
        """The network below."""
        return EfficientNetLiteConfig(self.lite)

    @property
    def grid(self) -> int:
        """Tokens along a side, before and after pooling."""
        return self.cells

    @property
    def token_grid(self) -> int:
        """Tokens along a side as the decoder reads them."""
        return self.cells

    @property
    def embed_dim(self) -> int:
        """Width of a token: a mean and a deviation for every channel of every stage."""
        return 2 * sum(self.network.widths)


class CellTower(nnx.Module):
    """Frames to tokens: standardized statistics of every cell."""

    def __init__(self, cfg: CellTowerConfig, rngs: nnx.Rngs, param_dtype: str, compute_dtype: str):
        """Builds the tower; `network` is meant to be loaded, `mean` and `scale` to be measured."""
        self.cfg, self.compute_dtype = cfg, compute_dtype
        self.network = EfficientNetLite(cfg.network, rngs, param_dtype, compute_dtype)
        self.mean = param(rngs, zeros, (cfg.embed_dim,), (None,), param_dtype)
        self.scale = param(rngs, ones, (cfg.embed_dim,), (None,), param_dtype)

    def statistics(self, frames: jax.Array) -> jax.Array:
        """What a frozen tower makes of frames once and for all.

        Args:
            frames: uint8 [N, H, W, 3], RGB, of any size.

        Returns:
            float32 [N, P, W], P = cells**2, row by row; W: means of all stages, then deviations.
        """
        return stage_statistics(self.network, frames, self.cfg.cells)

    def standardized(self, statistics: jax.Array) -> jax.Array:
        """[..., P, W] of `statistics`: each by its mean and deviation over a corpus, clipped, the
        stages then in balance."""
        wide = statistics - self.mean[...].astype(jnp.float32)
        wide = wide / self.scale[...].astype(jnp.float32)
        weights = np.tile(stage_balance(self.cfg.network.widths), 2)
        return (jnp.clip(wide, -_LIMIT, _LIMIT) * weights).astype(self.compute_dtype)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Tokens [N, P, W] in the compute dtype of frames uint8 [N, H, W, 3]."""
        return self.standardized(self.statistics(frames))


def program_dtype(stored: np.dtype) -> type[np.generic]:
    """In which dtype programs see frames, or tokens, that are stored in another.

    XLA converts halves only on processors that can.
    """
    return np.uint8 if stored == np.uint8 else np.float32


def stage_balance(widths: Sequence[int]) -> np.ndarray:
    """Weights of channels, float32 [sum of widths], with which stages of any width weigh the same.

    The head has more channels than all other stages together. The mean of the squares is 1.
    """
    return np.sqrt(np.repeat(np.mean(widths) / np.array(widths), widths)).astype(np.float32)


def stage_statistics(network: EfficientNetLite, frames: jax.Array, cells: int) -> jax.Array:
    """Means of all stages' channels over every cell, then their deviations.

    Args:
        network: whose stages they are.
        frames: uint8 RGB [N, H, W, 3], of any size.
        cells: cells along each side.

    Returns:
        float32 [N, cells**2, W], row by row.
    """
    moments = [cell_moments(maps, cells) for maps in network.stage_outputs(frames)]
    parts = [m for m, _ in moments] + [s for _, s in moments]
    return jnp.concatenate(parts, -1)


@functools.cache
def _areas(size: int, cells: int) -> np.ndarray:
    """[cells, size]: the share of each pixel in each cell's mean; border pixels are divided."""
    edges = np.arange(cells + 1) * (size / cells)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) / (size / cells)).astype(np.float32)


def cell_moments(maps: jax.Array, cells: int) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation of every channel over each cell of a map.

    Args:
        maps: [N, H, W, C].
        cells: cells along each side.

    Returns:
        Two float32 [N, cells**2, C], row by row.
    """
    wide = maps.astype(jnp.float32)
    rows, columns = (_areas(length, cells) for length in maps.shape[1:3])

    def pooled(x: jax.Array) -> jax.Array:
        found = jnp.einsum("kw,nhwc->nhkc", columns, x)
        found = jnp.einsum("gh,nhkc->ngkc", rows, found)
        return found.reshape(len(x), cells * cells, -1)

    # Around the map's mean, so that the difference of squares keeps its digits.
    centre = wide.mean((1, 2), keepdims=True)
    mean, squares = pooled(wide - centre), pooled(jnp.square(wide - centre))
    deviation = jnp.sqrt(jnp.maximum(squares - jnp.square(mean), 0.0))
    return mean + centre[:, 0], deviation
