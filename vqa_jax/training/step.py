"""One step of training, as a pure function that jit shards over the mesh."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vqa_jax.devices import sharding as parallel
from vqa_jax.devices.execution import Execution, executing
from vqa_jax.models import int8
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import Student, StudentOutput
from vqa_jax.settings import EVERYTHING, LossConfig, OptimConfig, Trainable, TrainConfig
from vqa_jax.training import accumulate
from vqa_jax.training import optim as training_optim
from vqa_jax.training.batch import GROUPS
from vqa_jax.training.losses import pair_loss
from vqa_jax.training.optim import learning_rate, make_optimizer
from vqa_jax.training.token_dropout import dropped

# {"step": int32, "params": Params, "opt_state": optax state, "stopped": bool}; once a step was not
# finite, `stopped` is true and no step changes the state any more.
TrainState = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step computes besides the student itself.

    Attributes:
      optim: schedule and regularisation.
      loss: schedule of the confidence loss.
      severity_weight: weight of the auxiliary severity loss; 0 leaves it out (large presets).
      level_ids: token ids of the five levels.
      level_index: position of the level word among the answer tokens.
      trainable: (path pattern, factor on the learning rate); the rest is frozen: no gradient is
        computed for it, and nothing is differentiated that only it depends on.
      frozen_dtype: storage of what is frozen. Trained weights and moments are in the student's
        `param_dtype`, matmuls in its `compute_dtype`.
      sharding: changes to `sharding.LOGICAL_RULES`.
      attention: kernel, see `execution.Execution`.
      remat: what the backward pass recomputes, see `execution.Execution`.
      unroll: layers that are compiled as they are, and not as steps of a scan; 0: all on GPUs,
        where a scan's copies of what it stacks for the backward pass took a fifth of a step (0.5B,
        H100; compiling takes a minute more), elsewhere as the student's config says.
      accumulate: parts of a batch that are computed one after the other, see `accumulate`.
      token_dropout: share of a frozen tower's numbers left out, see `token_dropout`.
    """

    optim: OptimConfig
    loss: LossConfig
    severity_weight: float
    level_ids: tuple[int, ...]
    level_index: int
    trainable: Trainable = EVERYTHING
    frozen_dtype: str = "bfloat16"
    sharding: tuple[tuple[str, str], ...] = ()
    attention: str = "auto"
    remat: str = "none"
    unroll: int = 0
    accumulate: int = 1
    token_dropout: float = 0.0

    @classmethod
    def of(cls, config: TrainConfig, level_ids: Sequence[int], level_index: int) -> StepConfig:
        """A run's step, for a tokenizer's level words."""
        return cls(
            optim=config.optim,
            loss=config.loss,
            severity_weight=config.severity_weight,
            level_ids=tuple(level_ids),
            level_index=level_index,
            trainable=config.trainable,
            sharding=config.sharding,
            attention=config.attention,
            remat=config.remat,
            unroll=config.unroll,
            accumulate=config.accumulate,
            token_dropout=config.token_dropout,
        )

    def execution(self, mesh: Mesh) -> Execution:
        """How the model runs on `mesh`."""
        rules = parallel.changed_rules(self.sharding)
        run = Execution(mesh, rules, self.attention, self.remat, self.unroll)
        if run.platform in ("gpu", "cuda") and not self.unroll:
            return dataclasses.replace(run, unroll=sys.maxsize)
        return run


def init_state(
    student: FunctionalStudent, config: StepConfig, seed: int, mesh: Mesh | None = None
) -> TrainState:
    """Fresh training state from random weights; on a mesh all of it is made in its shards."""
    if mesh is None:
        return state_of_params(student.init(seed), config)
    shardings = state_shardings(student, config, mesh)
    return state_of_params(student.init(seed, config.execution(mesh)), config, shardings)


def state_of_params(
    params: Params, config: StepConfig, shardings: TrainState | None = None
) -> TrainState:
    """Training state at step 0 from given weights: frozen ones in `frozen_dtype`, no moments.

    Args:
      params: the weights, where they are to stay.
      config: of the step.
      shardings: of the state (`state_shardings`): where step and moments are made; None: on one
        device.
    """
    trained, frozen = training_optim.split(params, config.trainable)
    frozen = _narrowed(frozen, config.frozen_dtype)
    optimizer = make_optimizer(config.optim)

    def rest(trained: Params) -> TrainState:
        begun = {"step": jnp.zeros((), jnp.int32), "stopped": jnp.zeros((), jnp.bool_)}
        return {**begun, "opt_state": optimizer.init(trained)}

    if shardings is not None:
        places = {name: place for name, place in shardings.items() if name != "params"}
        rest = jax.jit(rest, out_shardings=places)
    return {**rest(trained), "params": training_optim.join(trained, frozen)}


def _narrowed(frozen: Params, dtype: str) -> Params:
    """Frozen weights in `dtype`, but for codes and steps."""

    def one(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf if int8.is_part(str(path[-1].key), leaf) else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(one, frozen)


def kept(state: TrainState, trainable: Trainable) -> TrainState:
    """What a checkpoint holds of a state: all but frozen weights, which follow from the start."""
    lasting = {name: value for name, value in state.items() if name != "stopped"}
    return {**lasting, "params": training_optim.split(state["params"], trainable)[0]}


def state_shardings(student: FunctionalStudent, config: StepConfig, mesh: Mesh) -> TrainState:
    """Shardings of a training state; moments live where their parameters do."""
    shardings = student.shardings(mesh, parallel.changed_rules(config.sharding))
    everywhere = parallel.replicated(mesh)
    opt = make_optimizer(config.optim)
    trained, _ = training_optim.split(student.abstract(), config.trainable)
    trained_shardings, _ = training_optim.split(shardings, config.trainable)
    opt_shardings = optax.tree.map_params(
        opt,
        lambda _, s: s,
        jax.eval_shape(opt.init, trained),
        trained_shardings,
        transform_non_params=lambda _: everywhere,
    )
    scalars = {"step": everywhere, "stopped": everywhere}
    return {**scalars, "params": shardings, "opt_state": opt_shardings}


def abstract_state(student: FunctionalStudent, config: StepConfig, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of a training state, nothing of which is allocated."""
    state = jax.eval_shape(lambda p: state_of_params(p, config), student.abstract())
    return parallel.placed(state, state_shardings(student, config, mesh))


def _severity_loss(logits: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy and accuracy over videos with a class; classes int [B, 2], -1 = none."""
    known = (classes >= 0).astype(jnp.float32)
    ce = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(classes, 0))
    count = jnp.maximum(known.sum(), 1.0)
    right = (jnp.argmax(logits, -1) == classes).astype(jnp.float32)
    return (ce * known).sum() / count, (right * known).sum() / count


def _right_by_group(
    logits: jax.Array, level_ids: jax.Array, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Pairs, and pairs with the right most probable level, by source of the label.

    Args:
      logits: [B, V] at the level word.
      level_ids: int [5].
      batch: `level_probs` [B, 5], `group` int [B], `example_mask` [B].
    """
    right = jnp.argmax(logits[:, level_ids], -1) == jnp.argmax(batch["level_probs"], -1)
    counts = {}
    for number, name in enumerate(GROUPS):
        here = (batch["group"] == number) * batch["example_mask"]
        counts |= {f"pairs/{name}": here.sum(), f"right/{name}": (here * right).sum()}
    return counts


def _by_pair(
    student: Student, batch: dict[str, jax.Array]
) -> tuple[StudentOutput, dict[str, jax.Array]]:
    """The student's output and the labels, both by pair, of a batch of pairs or of groups."""
    if "prefix_tokens" not in batch:
        inputs = ("frames", "motion", "tokens", "answer_pos", "frame_mask")
        return student.forward(*(batch[name] for name in inputs)), batch
    inputs = ("frames", "motion", "prefix_tokens", "prefix_len", "tokens", "answer_pos")
    out = student.forward_groups(*(batch[name] for name in (*inputs, "frame_mask")))
    labels = ("answer_ids", "loss_mask", "level_probs", "example_mask", "severity", "group")
    return out, {name: batch[name].reshape(-1, *batch[name].shape[2:]) for name in labels}


def _loss_of(
    out: StudentOutput,
    batch: dict[str, jax.Array],
    config: StepConfig,
    progress: jax.Array | float,
    weight: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`pair_loss` of a student's output."""
    return pair_loss(
        out.logits,
        batch["answer_ids"],
        batch["loss_mask"],
        batch["level_probs"],
        jnp.asarray(config.level_ids),
        config.level_index,
        batch["example_mask"],
        progress,
        config.loss,
        weight,
    )


def make_eval_step(
    student: FunctionalStudent, config: StepConfig, mesh: Mesh
) -> Callable[[Params, dict[str, jax.Array]], dict[str, jax.Array]]:
    """Jitted: (parameters as a training state holds them, batch) -> what the student says of it.

    Returns:
      A function that gives loss (the cross-entropy, as before the entropy term is phased in),
      level_acc, pairs (that are not padding), and by pair level_logits and level_probs [B, 5], on
      every process.
    """
    run, level_ids = config.execution(mesh), jnp.asarray(config.level_ids)

    def step(params: Params, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        with executing(run):
            out, batch = _by_pair(student.bind(params), batch)
            loss, metrics = _loss_of(out, batch, config, 0.0)
        return {
            "loss": loss,
            "level_acc": metrics["level_acc"],
            "pairs": batch["example_mask"].sum(),
            "level_logits": out.logits[:, config.level_index][:, level_ids],
            "level_probs": batch["level_probs"],
        }

    places = state_shardings(student, config, mesh)["params"], parallel.batch_sharding(mesh)
    return jax.jit(step, in_shardings=places, out_shardings=parallel.replicated(mesh))


def make_train_step(
    student: FunctionalStudent, config: StepConfig, mesh: Mesh
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """Jitted step: (state, batch) -> (state, metrics); the state's buffers are donated.

    A batch is of pairs (`batch.pad_batch`) or of groups of pairs that share their first
    video (`grouped_batch.pad_groups`); the loss is the mean over pairs either way.

    Only what is trained is differentiated and updated. A step whose loss or gradient is not finite
    leaves the state as it was and says so in `train/skipped`, and so do all steps after it: the
    last good state can still be saved, however late a host looks.

    Raises:
      parallel.ReplicationError: devices would hold much more than their share of the state.
    """
    abstract = abstract_state(student, config, mesh)
    parallel.check_replication(abstract, mesh)
    run = config.execution(mesh)
    factors = training_optim.rates(abstract["params"], config.trainable)
    optimizer = make_optimizer(config.optim)
    schedule = learning_rate(config.optim)
    level_ids = jnp.asarray(config.level_ids)

    def loss_fn(
        trained: Params,
        frozen: Params,
        batch: dict[str, jax.Array],
        progress: jax.Array,
        weight: jax.Array | None = None,
    ):
        out, batch = _by_pair(student.bind(training_optim.join(trained, frozen)), batch)
        loss, metrics = _loss_of(out, batch, config, progress, weight)
        metrics |= _right_by_group(out.logits[:, config.level_index], level_ids, batch)
        if config.severity_weight:
            severity, accuracy = _severity_loss(out.severity, batch["severity"])
            loss = loss + config.severity_weight * severity
            metrics = {**metrics, "severity_ce": severity, "severity_acc": accuracy}
        return loss, metrics

    shardings = state_shardings(student, config, mesh)
    grad_shardings, _ = training_optim.split(shardings["params"], config.trainable)
    gradients = jax.value_and_grad(loss_fn, has_aux=True)
    if config.accumulate > 1:
        of = mesh, grad_shardings, config.loss
        gradients = accumulate.in_parts(loss_fn, config.accumulate, *of)

    def step(state: TrainState, batch: dict[str, jax.Array]):
        progress = state["step"] / config.optim.total_steps
        trained, frozen = training_optim.split(state["params"], config.trainable)
        if config.token_dropout:
            mean = state["params"]["vision"]["mean"]
            frames = dropped(batch["frames"], mean, config.token_dropout, state["step"])
            batch = {**batch, "frames": frames}
        with executing(run):
            (loss, metrics), grads = gradients(trained, frozen, batch, progress)
        # Where gradients live is where they are reduced to: in shards, never whole.
        grads = jax.lax.with_sharding_constraint(grads, grad_shardings)
        updates, opt_state = optimizer.update(grads, state["opt_state"], trained)
        updates = training_optim.scaled(updates, factors)
        norm = optax.global_norm(grads)
        stopped = state["stopped"] | ~(jnp.isfinite(loss) & jnp.isfinite(norm))
        old = {"step": state["step"], "params": trained, "opt_state": state["opt_state"]}
        new = {
            "step": state["step"] + 1,
            "params": optax.apply_updates(trained, updates),
            "opt_state": opt_state,
        }
        new = jax.tree.map(lambda a, b: jnp.where(stopped, b, a), new, old)
        new = {**new, "stopped": stopped, "params": training_optim.join(new["params"], frozen)}
        metrics = {
            **metrics,
            "loss": loss,
            "grad_norm": norm,
            "update_norm": optax.global_norm(updates),
            "lr": schedule(state["step"]),
            "skipped": stopped.astype(jnp.float32),
        }
        return new, {f"train/{k}": v for k, v in metrics.items()}

    return jax.jit(
        step,
        in_shardings=(shardings, parallel.batch_sharding(mesh)),
        out_shardings=(shardings, parallel.replicated(mesh)),
        donate_argnums=0,
    )
