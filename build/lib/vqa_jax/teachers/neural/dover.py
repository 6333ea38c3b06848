"""DOVER (Wu et al., ICCV 2023): a technical and an aesthetic branch, scored apart and fused."""

import dataclasses

import jax
import numpy as np
from flax import nnx

from vqa_jax.teachers.neural.convnext3d import ConvNext3d, ConvNext3dConfig
from vqa_jax.teachers.neural.fast_vqa import ScoreHead, normalize
from vqa_jax.teachers.neural.swin3d import Swin3d, Swin3dConfig


@dataclasses.dataclass(frozen=True)
class DoverConfig:
    """Sizes; the defaults are the published model's."""

    technical: Swin3dConfig = dataclasses.field(default_factory=Swin3dConfig)
    aesthetic: ConvNext3dConfig = dataclasses.field(default_factory=ConvNext3dConfig)
    head_dim: int = 64


class Branch(nnx.Module):
    """A network over clips and the head that scores every place of its feature map."""

    def __init__(self, backbone: Swin3d | ConvNext3d, head_dim: int, rngs: nnx.Rngs):
        self.backbone = backbone
        self.head = ScoreHead(backbone.cfg.feature_dim, head_dim, rngs)

    def features(self, clips: jax.Array) -> jax.Array:
        """uint8 RGB clips [B, 32, 224, 224, 3] -> feature maps float32 [B, 16, 7, 7, D]."""
        return self.backbone(normalize(clips))

    def score_map(self, clips: jax.Array) -> jax.Array:
        """uint8 RGB clips [B, 32, 224, 224, 3] -> score maps float32 [B, 16, 7, 7]."""
        return self.head(self.features(clips))

    def __call__(self, clips: jax.Array) -> jax.Array:
        """Raw scores float32 [B] of uint8 RGB clips [B, 32, 224, 224, 3]; higher is better."""
        return self.score_map(clips).mean((1, 2, 3))


class Dover(nnx.Module):
    """The two branches; each takes its own view of a video, so they are called one by one.

    Attributes:
        technical: scores clips of fragments; a video's score is the mean over clips (3).
        aesthetic: scores one clip of resized frames from the whole video.
    """

    def __init__(self, cfg: DoverConfig, rngs: nnx.Rngs):
        self.technical = Branch(Swin3d(cfg.technical, rngs), cfg.head_dim, rngs)
        self.aesthetic = Branch(ConvNext3d(cfg.aesthetic, rngs), cfg.head_dim, rngs)


@dataclasses.dataclass(frozen=True)
class Fusion:
    """Weighted sum of standardised branch scores; mean and std of each branch, then its weight."""

    technical: tuple[float, float, float]
    aesthetic: tuple[float, float, float]

    def __call__(
        self, technical: float | np.ndarray, aesthetic: float | np.ndarray
    ) -> float | np.ndarray:
        """Raw branch scores of videos -> fused scores in (0, 1); higher is better."""
        total = 0.0
        branches = ((technical, self.technical), (aesthetic, self.aesthetic))
        for score, (mean, std, weight) in branches:
            total = total + weight * (np.asarray(score, np.float64) - mean) / std
        return 1 / (1 + np.exp(-total))


# The same six constants circulate in two orders. By branch, they are the means and deviations of
# real scores on LIVE-VQC (technical -0.083 and 0.038, aesthetic 0.111 and 0.074), and rank slightly
# better on all published sets; the official script for single videos has them exchanged.
_HIGH, _LOW = (0.1107, 0.07355, 0.6104), (-0.08285, 0.03774, 0.3896)
FUSION_BY_BRANCH = Fusion(technical=_LOW, aesthetic=_HIGH)
FUSION_BY_SCRIPT = Fusion(technical=_HIGH, aesthetic=_LOW)
