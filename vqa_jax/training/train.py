"""Trains a student on one corpus: the whole run, on one process or many.

    python -m vqa_jax train --config quickstart --data DIR --workdir DIR

Rerunning the same command resumes; a finished run returns at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any

import grain
import jax
from absl import logging
from jax.sharding import Mesh
from tqdm import tqdm

from vqa_jax.corpus import shards, store
from vqa_jax.devices import hosts, programs, topology
from vqa_jax.devices import sharding as parallel
from vqa_jax.errors import VqaError
from vqa_jax.models import flops as model_flops
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import batch as pair_batch
from vqa_jax.training import checkpoint, heldout, metric_log, redrawn, start
from vqa_jax.training import input_pipeline as input_pipeline_lib
from vqa_jax.training import optim as training_optim
from vqa_jax.training import step as step_lib
from vqa_jax.weights import bundle, companions


class TrainingError(VqaError):
    """Training cannot go on; the message says what was kept."""


# Where and how a run is computed and kept may change when it resumes; what it learns may not.
_MAY_CHANGE = (
    *("mesh", "sharding", "attention", "remat", "unroll", "accumulate"),
    *("log_every", "checkpoint_every", "keep_best", "keep_every", "heldout_pairs"),
)


def _identity(
    config: TrainConfig, spec: bundle.StudentSpec, corpus: store.PairCorpus
) -> dict[str, Any]:
    pairs = {
        name: [shards.intact_sha256(p) for p in shards.dataset_shards(corpus.root, name, "train")]
        for name in config.pair_datasets
    }
    begun = bundle.fingerprint(config.init_from) if config.init_from else ""
    settings = dataclasses.asdict(config)
    # What came later: runs begun before it go on.
    if not config.token_dropout:
        del settings["token_dropout"]
    if not config.input.soft_votes:
        del settings["input"]["soft_votes"]
    settings = {name: value for name, value in settings.items() if name not in _MAY_CHANGE}
    identity = {"spec": spec.to_dict(), "settings": settings, "pairs": pairs, "init": begun}
    return identity | {"corpus": corpus.videos.digests()}


@dataclasses.dataclass(frozen=True)
class _Run:
    """What the parts of a run share."""

    config: TrainConfig
    spec: bundle.StudentSpec
    data: str
    workdir: str
    student: FunctionalStudent
    mesh: Mesh
    step_config: step_lib.StepConfig
    checkpoints: checkpoint.Checkpointer
    extractor: str
    heldout: heldout.Heldout | None

    def write_student(self, name: str, state: step_lib.TrainState, facts: dict[str, Any]) -> str:
        """Writes the weights of a state as a student that can be used; every process calls it."""
        folder = os.path.join(self.workdir, name)
        if jax.process_index() == 0:
            os.makedirs(folder, exist_ok=True)
            sources = [self.config.init_from, self.data] if self.config.init_from else [self.data]
            companions.copy(sources, folder, self.extractor or None)
        placed = self.mesh, self.config.sharding
        bundle.save_trained(folder, self.spec, self.student, state["params"], placed, facts)
        return folder


def train(
    config: TrainConfig,
    spec: bundle.StudentSpec,
    data: str,
    workdir: str,
    profile: tuple[int, int] | None = None,
    extractor: str = "",
) -> str | None:
    """Trains to `total_steps` and writes a student bundle.

    With many processes (`hosts.connect`) every one calls it with the same arguments; `workdir` is a
    folder that all of them see, and process 0 writes metrics and bundle.

    Args:
      config: the run.
      spec: architecture and preprocessing of the student.
      data: corpus folder with pairs and motion features.
      workdir: checkpoints, metrics and the finished bundle go here.
      profile: first and last step of a profiler trace.
      extractor: motion weights of the corpus's features, which go beside the student; "": those
        beside `init_from`, or the shipped ones.

    Returns:
      Folder of the trained student's bundle; None if the run was told to end (SIGTERM): it is
      saved, and the same call resumes it.

    Raises:
      TrainingError: a loss or gradient is not finite; the last good weights are saved.
      checkpoint.CheckpointError: workdir belongs to another run, or a checkpoint could not be
        written.
      files.CorpusError: the corpus lacks pairs, videos or motion features.
      hosts.HostsError: another process was lost.
      KeyboardInterrupt: told to end by Ctrl-C; saved as for SIGTERM.
    """
    if config.token_dropout and not spec.tower:
        raise SettingsError("token_dropout: this student trains its tower, which has no tokens yet")
    programs.keep()
    os.makedirs(workdir, exist_ok=True)
    spec = start.as_given(spec, config.init_from)
    student = FunctionalStudent(with_additions(spec.student, config.lora_rank))
    geometry = pair_batch.PromptGeometry(
        bundle.make_tokenizer(spec, config.init_from),
        spec.student.tokens_per_frame,
        config.input.answer,
    )
    corpus = store.PairCorpus(data, config.pair_datasets, "train", spec.extractor, spec.tower)
    mesh = parallel.make_mesh(config.mesh)
    batches = input_pipeline_lib.training_batches(
        corpus,
        config.input,
        geometry,
        spec.severity_simulators,
        spec.preprocess.max_clips,
        parallel.process_rows(config.input.num_groups, mesh),
        dict(hosts.told_by_first(lambda: redrawn.instead(workdir, config.optim.total_steps))),
    )
    step_config = step_lib.StepConfig.of(config, geometry.level_ids, geometry.level_index)
    asked = None
    if config.heldout_pairs:
        asked = heldout.Heldout(config, spec, student, step_config, mesh, data, geometry)
    checkpoints = checkpoint.Checkpointer(
        workdir,
        hosts.told_by_first(lambda: _identity(config, spec, corpus)),  # who hashes gigabytes
        config.keep_best,
        config.keep_every,
    )
    run = _Run(
        config,
        spec,
        data,
        workdir,
        student,
        mesh,
        step_config,
        checkpoints,
        extractor,
        asked,
    )
    output, total = os.path.join(workdir, "student"), config.optim.total_steps
    if checkpoints.latest_step() == total and bundle.is_complete(output):
        checkpoints.close()
        logging.info("%s is finished", output)
        return output
    with hosts.reporting_loss("training"), hosts.end_request() as ending, checkpoints:
        state = start.Start(config, spec, student, run.step_config, mesh, corpus).state(checkpoints)
        state = _run_steps(run, state, batches, ending, profile)
        checkpoints.wait()
        if int(state["step"]) < total:
            logging.info("told to end: step %d is saved in %s", int(state["step"]), workdir)
            return None
        facts = {"steps": total, "corpus": os.path.basename(data)}
        run.write_student("student", state, facts)
    logging.info("student written to %s", output)
    return output


def _flops_of(run: _Run, batch: Mapping[str, Any]) -> float:
    """Model FLOPs of a step on a global batch of these shapes."""
    groups, videos, frames = batch["frames"].shape[:3]
    prefix = batch["prefix_tokens"].shape[1] if "prefix_tokens" in batch else 0
    shape = model_flops.PairShape(
        *(groups * (videos - 1), frames, batch["motion"].shape[2]),
        *(prefix + batch["tokens"].shape[-1], batch["answer_pos"].shape[-1]),
        *(videos - 1, prefix),
    )
    trained = training_optim.trained_paths(run.student.abstract(), run.config.trainable)
    cfg, severity = run.student.cfg, bool(run.config.severity_weight)
    return model_flops.training_flops(cfg, shape, trained.__contains__, severity).total


def _tokens(batch: Mapping[str, Any]) -> int:
    """Tokens that the decoder reads, padding included."""
    return sum(batch[name].size for name in ("tokens", "prefix_tokens") if name in batch)


def _run_steps(
    run: _Run,
    state: step_lib.TrainState,
    batches: grain.MapDataset,
    ending: hosts.EndRequest,
    profile: tuple[int, int] | None,
) -> step_lib.TrainState:
    """Steps to the end, or to where the run is told to end; saves and logs on the way.

    The host looks at what a step gave once the next one is handed to the devices, which so never
    wait for it; where a checkpoint is due it looks first.
    """
    config, mesh, checkpoints = run.config, run.mesh, run.checkpoints
    total, first = config.optim.total_steps, int(state["step"])
    train_step = step_lib.make_train_step(run.student, run.step_config, mesh)
    # The batch of step t is element t - 1, whatever ran before.
    iterator = input_pipeline_lib.device_batches(batches, mesh, config.input.num_groups, first)
    writes = jax.process_index() == 0
    log = metric_log.MetricLog(run.workdir, first, writes)
    compiled = metric_log.Compilations()
    speed = metric_log.Speed(topology.peak_of(mesh.devices.flat))
    trace = metric_log.Profile(run.workdir, profile if writes else None)
    flops: dict[tuple[int, ...], float] = {}  # by shape of the batch
    behind = None  # the step whose values nobody has looked at

    def finish(step: int, values: dict[str, jax.Array], size: tuple[int, float], due: bool) -> None:
        """Takes what a step gave: stops if it was not finite, else counts it and writes rows."""
        told = {k: float(v) for k, v in jax.device_get(values).items()}
        trace.after(step)
        if told["train/skipped"]:
            raise _stopped(run, state, step, told)
        log.add(told)
        speed.step(told, *size)
        bar.update()
        if not due and step % config.log_every:
            return
        row = {**speed.row(), **compiled.row()}
        if due and run.heldout is not None:
            row |= run.heldout(state["params"])
            speed.start()
        row = log.write(step, row)
        bar.set_postfix(loss=row["train/loss"], acc=row["train/level_acc"])
        if due:
            kept = step_lib.kept(state, config.trainable)
            checkpoints.save(step, kept, row.get("heldout/loss"))

    with (
        contextlib.closing(iterator),
        contextlib.closing(log),
        contextlib.closing(compiled),
        contextlib.closing(trace),
        tqdm(
            total=total,
            initial=first,
            desc="train",
            unit="step",
            mininterval=5,
            **({} if writes else {"disable": True}),  # False would outvote TQDM_DISABLE
        ) as bar,
    ):
        for step in range(first + 1, total + 1):
            trace.before(step)
            asked = time.monotonic()
            batch = next(iterator)
            speed.waited(time.monotonic() - asked)
            shape = (*batch["frames"].shape, *batch["tokens"].shape)
            if shape not in flops:
                flops[shape] = _flops_of(run, batch)
            before = compiled.count
            state, values = train_step(state, batch)
            if step > first + 1:
                compiled.warn_after(step, before, {k: v.shape for k, v in batch.items()})
            if behind:
                finish(*behind, due=False)
            behind = step, values, (_tokens(batch), flops[shape])
            checkpoints.check()
            last = ending.due(step) or step == total
            if step % config.checkpoint_every == 0 or last:
                finish(*behind, due=True)
                behind = None
            if last:
                break
    return state


def _stopped(
    run: _Run, state: step_lib.TrainState, step: int, values: Mapping[str, float]
) -> TrainingError:
    """The error of a step that is not finite; the state before it, which it kept, is saved."""
    if step > 1:
        run.checkpoints.save(step - 1, step_lib.kept(state, run.config.trainable))
    kept = run.write_student("last_good", state, {"steps": step - 1})
    run.checkpoints.wait()
    if jax.process_index() == 0:
        redrawn.add(run.workdir, step)
    hosts.barrier("step to be drawn anew")
    return TrainingError(
        f"step {step}: loss {values['train/loss']}, gradient norm {values['train/grad_norm']}; "
        f"step {step - 1} is saved, and the same command goes on from it with another batch. If "
        f"that happens again and again, lower peak_lr and start in a new workdir with init_from "
        f"set to {kept}"
    )
