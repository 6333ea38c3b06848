"""One step of training, as a pure function that jit shards over the mesh."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vqa_jax import parallel
from vqa_jax.losses import LossConfig, pair_loss
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.optim import OptimConfig, learning_rate, make_optimizer

TrainState = dict[str, Any]  # {"step": int32, "params": Params, "opt_state": optax state}


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step computes besides the student itself.

    Attributes:
      optim: schedule and regularisation.
      loss: schedule of the confidence loss.
      severity_weight: weight of the auxiliary severity loss; 0 leaves it out (large presets).
      level_ids: token ids of the five levels.
      level_index: position of the level word among the answer tokens.
    """

    optim: OptimConfig
    loss: LossConfig
    severity_weight: float
    level_ids: tuple[int, ...]
    level_index: int


def init_state(student: FunctionalStudent, config: StepConfig, seed: int) -> TrainState:
    """Fresh training state from random weights."""
    return state_of_params(student.init(seed), config)


def state_of_params(params: Params, config: StepConfig) -> TrainState:
    """Training state at step 0 from given weights."""
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "opt_state": make_optimizer(config.optim).init(params),
    }


def state_shardings(student: FunctionalStudent, config: StepConfig, mesh: Mesh) -> TrainState:
    """Shardings of a training state; moments live where their parameters do."""
    shardings = student.shardings(mesh)
    everywhere = parallel.replicated(mesh)
    opt = make_optimizer(config.optim)
    abstract = jax.eval_shape(opt.init, student.abstract())
    opt_shardings = optax.tree.map_params(
        opt, lambda _, s: s, abstract, shardings, transform_non_params=lambda _: everywhere
    )
    return {"step": everywhere, "params": shardings, "opt_state": opt_shardings}


def _severity_loss(logits: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy and accuracy over videos with a class; classes int [B, 2], -1 = none."""
    known = (classes >= 0).astype(jnp.float32)
    ce = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(classes, 0))
    count = jnp.maximum(known.sum(), 1.0)
    right = (jnp.argmax(logits, -1) == classes).astype(jnp.float32)
    return (ce * known).sum() / count, (right * known).sum() / count


def make_train_step(
    student: FunctionalStudent, config: StepConfig, mesh: Mesh
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """Jitted step: (state, batch) -> (state, metrics); the state's buffers are donated.

    A step whose loss or gradient is not finite leaves the state as it was and says so in
    `train/skipped`, so that the last good state can still be saved.
    """
    optimizer = make_optimizer(config.optim)
    schedule = learning_rate(config.optim)
    level_ids = jnp.asarray(config.level_ids)

    def loss_fn(params: Params, batch: dict[str, jax.Array], progress: jax.Array):
        out = student.bind(params).forward(
            batch["frames"],
            batch["motion"],
            batch["tokens"],
            batch["answer_pos"],
            batch["frame_mask"],
        )
        loss, metrics = pair_loss(
            out.logits,
            batch["answer_ids"],
            batch["loss_mask"],
            batch["level_probs"],
            level_ids,
            config.level_index,
            batch["example_mask"],
            progress,
            config.loss,
        )
        if config.severity_weight:
            severity, accuracy = _severity_loss(out.severity, batch["severity"])
            loss = loss + config.severity_weight * severity
            metrics = {**metrics, "severity_ce": severity, "severity_acc": accuracy}
        return loss, metrics

    def step(state: TrainState, batch: dict[str, jax.Array]):
        progress = state["step"] / config.optim.total_steps
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state["params"], batch, progress
        )
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        new = {
            "step": state["step"] + 1,
            "params": optax.apply_updates(state["params"], updates),
            "opt_state": opt_state,
        }
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        metrics = {
            **metrics,
            "loss": loss,
            "grad_norm": norm,
            "lr": schedule(state["step"]),
            "skipped": 1.0 - finite.astype(jnp.float32),
        }
        return new, {f"train/{k}": v for k, v in metrics.items()}

    shardings = state_shardings(student, config, mesh)
    return jax.jit(
        step,
        in_shardings=(shardings, parallel.batch_sharding(mesh)),
        out_shardings=(shardings, parallel.replicated(mesh)),
        donate_argnums=0,
    )
