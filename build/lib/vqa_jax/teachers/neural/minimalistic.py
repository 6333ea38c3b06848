"""MinimalisticVQA VII and IX (Sun et al., TPAMI 2024): Swin-B on key frames, IX with motion.

Every second of a video gives one key frame and, for IX, one motion feature of the SlowFast network
(`vqa_jax.motion.network`, whose weights are a file of their own). The score of a video is the mean
over its seconds.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.motion.network import FastPathwayConfig
from vqa_jax.teachers.neural.swin2d import Swin2d, Swin2dConfig

PIXEL_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
PIXEL_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class MinimalisticConfig:
    """Sizes; the defaults are those of model VII.

    Args:
        swin: of the spatial network.
        motion_dim: width of the motion features; 0: no motion.
        head_dim: hidden width of the regressor.
    """

    swin: Swin2dConfig = dataclasses.field(default_factory=Swin2dConfig)
    motion_dim: int = 0
    head_dim: int = 128


VII = MinimalisticConfig()
IX = MinimalisticConfig(motion_dim=FastPathwayConfig().motion_dim)


class MinimalisticVqa(nnx.Module):
    """Key frames, and motion features if the config has them, to raw scores."""

    def __init__(self, cfg: MinimalisticConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.backbone = Swin2d(cfg.swin, rngs)
        self.hidden = nnx.Linear(cfg.swin.feature_dim + cfg.motion_dim, cfg.head_dim, rngs=rngs)
        self.last = nnx.Linear(cfg.head_dim, 1, rngs=rngs)

    def __call__(self, frames: jax.Array, motion: jax.Array | None = None) -> jax.Array:
        """Raw scores of seconds; the mean over a video's seconds is its score.

        Args:
            frames: uint8 RGB [N, 384, 384, 3], one key frame a second.
            motion: float32 [N, motion_dim], of the same seconds; None where motion_dim is 0.

        Returns:
            float32 [N]; higher is better.

        Raises:
            ValueError: motion features are missing, superfluous or of another shape.
        """
        given = (0,) if motion is None else motion.shape
        wanted = (len(frames), self.cfg.motion_dim) if self.cfg.motion_dim else (0,)
        if given != wanted:
            raise ValueError(f"motion of shape {given} beside {len(frames)} frames, not {wanted}")
        features = self.backbone(normalize(frames))
        if motion is not None:
            features = jnp.concatenate([features, motion], -1)
        # No activation between the two layers: this is how the model was trained.
        return self.last(self.hidden(features))[:, 0]


def normalize(frames: jax.Array) -> jax.Array:
    """uint8 RGB [..., 3] -> float32 of about zero mean and unit std (ImageNet's statistics)."""
    pixels = frames.astype(jnp.float32) / 255
    return (pixels - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)


def logistic(score: float | np.ndarray, b: tuple[float, float, float, float]):
    """Raw score x of a video -> the training set's MOS, b2 + (b1 - b2) / (1 + exp(-(x - b3)/|b4|)).

    Args:
        score: raw scores.
        b: the four parameters (b1, b2, b3, b4) that are released beside the weights.
    """
    b1, b2, b3, b4 = b
    return b2 + (b1 - b2) / (1 + np.exp(-(np.asarray(score, np.float64) - b3) / abs(b4)))
