"""What scoring a video costs, counted from the jaxprs of the engine's own steps.

The unit is five full passes: for every anchor the student encodes both videos and decodes the whole
pair, as a student without cached anchors does.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.student import StudentConfig
from vqa_jax.planning import flops
from vqa_jax.scoring.steps import make_steps


@dataclasses.dataclass(frozen=True)
class ScoringCost:
    """Floating-point operations of the engine's steps, for one group of frames of a video.

    Attributes:
      encode: visual tokens of one video.
      pair: the decoder over a whole pair.
      suffix: the decoder over the second video, after a cached anchor.
    """

    encode: float
    pair: float
    suffix: float

    def share(self, comparisons: float, passes: int = 5) -> float:
        """Cost of one video, once the anchors are cached, in units of `passes` full passes.

        comparisons: how many anchors it is compared with; may be a mean.
        """
        full = passes * (2 * self.encode + self.pair)
        return (self.encode + comparisons * self.suffix) / full


def count(cfg: StudentConfig, frames: int, clips: int, text: int) -> ScoringCost:
    """Counts at any size; nothing is allocated or computed. Arguments: see `counts`."""
    return ScoringCost(*(step.total for step in counts(cfg, frames, clips, text)))


def counts(
    cfg: StudentConfig,
    frames: int,
    clips: int,
    text: int,
    rows: int = 1,
    cache_dtype: str | None = None,
) -> tuple[flops.Count, flops.Count, flops.Count]:
    """Of `rows` videos encoded, as many whole pairs, and as many suffixes.

    Args:
      cfg: the student.
      frames: key frames of each video.
      clips: motion clips of each video.
      text: tokens of the prompt that are no video.
      rows: in a batch.
      cache_dtype: of the anchors' keys and values, as for `vqa_jax.load`.
    """
    student = FunctionalStudent(cfg)
    params, shape = student.abstract(), jax.ShapeDtypeStruct
    steps = make_steps(student, range(5), cache_dtype)
    size, dtype = cfg.vision.image_size, jnp.dtype(cfg.compute_dtype)
    video = prompt.Bank(frames * cfg.tokens_per_frame, clips).stride
    prefix, suffix = video + text // 2, video + text - text // 2
    encode = flops.count(
        steps.encode,
        params,
        shape((rows, frames, size, size, 3), jnp.uint8),
        shape((rows, clips, cfg.motion_dim), jnp.float32),
    )
    visual = shape((rows, video, cfg.embed_dim), dtype)

    def ids(length: int) -> jax.ShapeDtypeStruct:
        return shape((rows, length), jnp.int32)

    pair = flops.count(steps.compare, params, visual, visual, ids(prefix + suffix), ids(1))
    lengths = shape((rows,), jnp.int32)
    cache = jax.eval_shape(steps.prefix, params, visual, ids(prefix), lengths)
    after = flops.count(steps.suffix, params, cache, visual, ids(suffix), ids(suffix), ids(1))
    return encode, pair, after
