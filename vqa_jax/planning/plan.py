"""What the steps of a run take on chips that are not at hand.

    python -m vqa_jax plan --config ov_7b --topology v5e:16x16 --mesh 16,16,1

Compiled in `compiled`; here is which steps those are, and of which sizes.
"""

from __future__ import annotations

import dataclasses

from jax.sharding import Mesh

from vqa_jax.devices import sharding as parallel
from vqa_jax.devices.topology import Topology
from vqa_jax.models import flops as model_flops
from vqa_jax.models.flops import PairShape
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.planning import scoring
from vqa_jax.planning.compiled import StepPlan, compile_step
from vqa_jax.planning.shapes import PromptSize, abstract_batch, pair_shape, prompt_size, shard_bytes
from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import optim
from vqa_jax.training import step as train_step
from vqa_jax.weights import bundle


def plan_run(
    settings: TrainConfig,
    spec: bundle.StudentSpec,
    topology: Topology,
    mesh: Mesh,
    steps: str = "all",
    pairs: int | None = None,
    tokens: int | None = None,
    dtype: str | None = None,
    cache_dtype: str | None = None,
) -> list[StepPlan]:
    """Compiles the training step of a run, and the two steps of scoring with its student.

    Args:
      settings: the run.
      spec: its student.
      topology: the chips.
      mesh: their arrangement.
      steps: "train", "score" or "all".
      pairs: global batch; None: the run's, rounded up to a multiple of the devices that share it,
        which the plan says.
      tokens: length to pad sequences to; None: no more than a pair of most frames has.
      dtype: of the weights that score; None: the student's compute dtype.
      cache_dtype: of the anchors' keys and values, as for `vqa_jax.load`.

    Raises:
      ValueError: `pairs` does not divide over the mesh, or `tokens` is too few.
      SettingsError: scoring on a mesh that splits sequences, or GPUs, for which nothing is
        compiled here.
    """
    if steps != "train" and mesh.shape.get(parallel.CONTEXT, 1) > 1:
        raise SettingsError(
            "scoring does not split sequences over devices (train.context): plan --steps train"
        )
    if topology.stand_ins:
        raise SettingsError(f"{topology.name}: GPUs are estimated, not compiled: add --search")
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    batch = settings.input.batch_size
    asked = batch if pairs is None and batch % ways else None
    pairs = pairs or -(-batch // ways) * ways
    if pairs % ways:
        raise ValueError(f"{pairs} pairs do not divide over {ways} devices")
    text, config = step_of_run(settings, spec)
    shape = pair_shape(spec, text, pairs, settings.input.answer, tokens)
    trained = FunctionalStudent(
        with_additions(spec.student, settings.lora_rank, settings.lora_base)
    )
    plain = FunctionalStudent(scoring.scoring_config(spec.student, dtype))
    plans = []
    if steps != "score":
        planned = plan_training(trained, config, spec, shape, topology, mesh)
        plans.append(dataclasses.replace(planned, asked=asked))
    if steps != "train":
        plans += scoring.plan_scoring(plain, spec, text, ways, topology, mesh, cache_dtype)
    return plans


def step_of_run(
    settings: TrainConfig, spec: bundle.StudentSpec
) -> tuple[PromptSize, train_step.StepConfig]:
    """Sizes of the student's prompt, and what a step of a run computes."""
    text = prompt_size(spec)
    level_index = text.level_index if settings.input.answer == "sentence" else 0
    return text, train_step.StepConfig.of(settings, text.level_ids, level_index)


def plan_training(
    student: FunctionalStudent,
    config: train_step.StepConfig,
    spec: bundle.StudentSpec,
    shape: PairShape,
    topology: Topology,
    mesh: Mesh,
) -> StepPlan:
    """Compiles one training step.

    Args:
      student: architecture.
      config: what the step computes.
      spec: how the student sees videos.
      shape: the global batch.
      topology: the chips.
      mesh: their arrangement.
    """
    state = train_step.abstract_state(student, config, mesh)
    batch = abstract_batch(spec, shape, mesh)
    step = train_step.make_train_step(student, config, mesh)
    trained = optim.trained_paths(student.abstract(), config.trainable)
    model = model_flops.training_flops(
        student.cfg, shape, trained.__contains__, bool(config.severity_weight)
    )
    given = (shard_bytes(state["params"]), shard_bytes(state["opt_state"]), shard_bytes(batch))
    return compile_step("train", shape, step, (state, batch), given, model.total, topology)
