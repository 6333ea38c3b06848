"""AdamW with warm-up and cosine decay, over the parameters that are trained (METHOD 6)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Schedule and regularisation; `warmup_steps` <= `total_steps`."""

    total_steps: int
    warmup_steps: int
    peak_lr: float
    weight_decay: float
    grad_clip: float
    b2: float

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps <= self.total_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} not in 0..{self.total_steps}")


def learning_rate(config: OptimConfig) -> optax.Schedule:
    """Linear warm-up to `peak_lr`, then cosine decay to zero at `total_steps`."""
    return optax.warmup_cosine_decay_schedule(
        0.0, config.peak_lr, config.warmup_steps, config.total_steps
    )


def decay_mask(params: Any) -> Any:
    """True for matrices; norms, biases, positions and the newline token are not decayed.

    Names tell them apart: stacked layers add an axis, so rank alone does not.
    """

    def is_matrix(path: tuple[Any, ...], _: Any) -> bool:
        name = str(path[-1].key)
        return name.startswith("w") or name.endswith("kernel") or name in ("embedding", "head")

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def make_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """Global-norm clipping, then AdamW."""
    return optax.chain(
        optax.clip_by_global_norm(config.grad_clip),
        optax.adamw(
            learning_rate(config), b2=config.b2, weight_decay=config.weight_decay, mask=decay_mask
        ),
    )
