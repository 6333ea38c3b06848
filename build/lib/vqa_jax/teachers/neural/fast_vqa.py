"""FAST-VQA (Wu et al., ECCV 2022): Video Swin over fragments, and a head that scores every place.

The score of a video is the mean over its clips (4 in the official code).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.teachers.neural.swin3d import Swin3d, Swin3dConfig

PIXEL_MEAN = (123.675, 116.28, 103.53)  # of RGB in [0, 255]
PIXEL_STD = (58.395, 57.12, 57.375)
# Mean and std of raw scores with which the official script maps them to (0, 1).
SCORE_MEAN = -0.110198185
SCORE_STD = 0.04178565


@dataclasses.dataclass(frozen=True)
class FastVqaConfig:
    """Sizes; the defaults are the published model's."""

    swin: Swin3dConfig = dataclasses.field(default_factory=Swin3dConfig)
    head_dim: int = 64


class ScoreHead(nnx.Module):
    """One score a place: two linear layers with a GELU between them."""

    def __init__(self, feature_dim: int, hidden_dim: int, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(feature_dim, hidden_dim, rngs=rngs)
        self.last = nnx.Linear(hidden_dim, 1, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Feature maps [B, T, H, W, D] -> score maps [B, T, H, W]."""
        return self.last(jax.nn.gelu(self.hidden(features), approximate=False))[..., 0]


class FastVqa(nnx.Module):
    """Clips of fragments to raw scores."""

    def __init__(self, cfg: FastVqaConfig, rngs: nnx.Rngs):
        self.backbone = Swin3d(cfg.swin, rngs)
        self.head = ScoreHead(cfg.swin.feature_dim, cfg.head_dim, rngs)

    def score_map(self, clips: jax.Array) -> jax.Array:
        """uint8 RGB clips [B, 32, 224, 224, 3] -> score maps float32 [B, 16, 7, 7]."""
        return self.head(self.backbone(normalize(clips)))

    def __call__(self, clips: jax.Array) -> jax.Array:
        """Raw scores of clips; higher is better, around -0.11 with a std of 0.04.

        Args:
            clips: uint8 RGB [B, 32, 224, 224, 3], spliced from fragments.

        Returns:
            float32 [B].
        """
        return self.score_map(clips).mean((1, 2, 3))


def normalize(clips: jax.Array) -> jax.Array:
    """uint8 RGB [..., 3] -> float32 of about zero mean and unit std, as both networks were fed."""
    return (clips.astype(jnp.float32) - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)


def unit_score(score: float | np.ndarray) -> float | np.ndarray:
    """Raw scores (of a video: mean over clips) -> (0, 1), as the official script prints them."""
    return 1 / (1 + np.exp(-(score - SCORE_MEAN) / SCORE_STD))
