"""The steps of one start of a run: computed, told and kept."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh
from tqdm import tqdm

from vqa_jax.devices import hosts, topology
from vqa_jax.errors import VqaError
from vqa_jax.models import flops as model_flops
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.settings import TrainConfig
from vqa_jax.training import checkpoint, goodput, heldout, local_copies, metric_log, redrawn
from vqa_jax.training import optim as training_optim
from vqa_jax.training import step as step_lib
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.weights import bundle, companions

Batch = Mapping[str, Any]


class TrainingError(VqaError):
    """Training cannot go on; the message says what was kept."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What the parts of a run share."""

    config: TrainConfig
    spec: bundle.StudentSpec
    data: str
    workdir: str
    student: FunctionalStudent
    geometry: PromptGeometry
    mesh: Mesh
    step_config: step_lib.StepConfig
    checkpoints: checkpoint.Checkpointer
    extractor: str
    heldout: heldout.Heldout | None
    copies: local_copies.LocalCopies | None = None

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


class Steps:
    """Computes steps, and tells and keeps what they gave.

    The host looks at what a step gave once the next one is handed to the devices, which so never
    wait for it; where a checkpoint is due it looks first.
    """

    def __init__(
        self,
        run: Run,
        state: step_lib.TrainState,
        ledger: goodput.Ledger,
        profile: tuple[int, int] | None,
    ):
        """Goes on from `state`; opens the logs.

        Args:
          run: the run.
          state: to start from.
          ledger: where its time goes.
          profile: first and last step of a profiler trace.
        """
        self._run, self.state, self._ledger = run, state, ledger
        self._writes = jax.process_index() == 0
        self.first = int(state["step"])
        self._log = metric_log.MetricLog(run.workdir, self.first, self._writes)
        self._compiled = metric_log.Compilations()
        self._speed = metric_log.Speed(topology.peak_of(run.mesh.devices.flat))
        self._trace = metric_log.Profile(run.workdir, profile if self._writes else None)
        self._flops: dict[tuple[int, ...], float] = {}  # by shape of the batch
        self._bar = tqdm(
            total=run.config.optim.total_steps,
            initial=self.first,
            desc="train",
            unit="step",
            mininterval=5,
            **({} if self._writes else {"disable": True}),  # False would outvote TQDM_DISABLE
        )

    def close(self) -> None:
        """Closes the logs."""
        for one in (self._bar, self._trace, self._compiled, self._log):
            one.close()

    def compute(
        self, batches: Iterator[Batch], ending: hosts.EndRequest, ahead: Sequence[Batch] = ()
    ) -> step_lib.TrainState:
        """Steps to the end, or to where the run is told to end.

        Args:
          batches: of the steps after the first state's.
          ending: whether it was told to end.
          ahead: a batch of every size, whose programs are compiled before the first step.

        Returns:
          The last state, whose save is under way.

        Raises:
          TrainingError: a step was not finite.
        """
        config = self._run.config
        total = config.optim.total_steps
        train_step = step_lib.make_train_step(
            self._run.student, self._run.step_config, self._run.mesh
        )
        if ahead:
            train_step = self._compiled_ahead(train_step, ahead)
        behind = None  # the step whose values nobody has looked at
        for step in range(self.first + 1, total + 1):
            self._trace.before(step)
            batch = self._next(batches)
            size = self._size(batch)
            before = self._compiled.count
            with self._first_as_start(step):
                self.state, values = train_step(self.state, batch)
            if step == self.first + 1:
                logging.info(
                    "the first step is under way after %.0f s, %.0f of them compiling",
                    self._ledger.spent("start"),
                    self._compiled.seconds,
                )
            else:
                self._compiled.warn_after(step, before, {k: v.shape for k, v in batch.items()})
            if behind:
                self._finish(*behind, due=False)
            behind = step, values, size
            self._run.checkpoints.check()
            last = ending.due(step) or step == total
            if step % config.checkpoint_every == 0 or last:
                self._finish(*behind, due=True)
                behind = None
            elif self._run.copies and step % config.local_copies_every == 0:
                self._finish(*behind, due=False)
                behind = None
                with self._ledger.spending("save"):
                    kept = step_lib.kept(self.state, config.trainable)
                    self._run.copies.save(step, kept)
            if last:
                break
        return self.state

    def _compiled_ahead(self, train_step: Any, ahead: Sequence[Batch]) -> Callable[..., Any]:
        """The step, with the programs of these sizes of batches; told one by one."""
        programs = {}
        with self._ledger.spending("start"):
            for batch in tqdm(
                ahead, "compile", unit="size", **({} if self._writes else {"disable": True})
            ):
                programs[_shape(batch)] = train_step.lower(self.state, batch).compile()
        return lambda state, batch: programs.get(_shape(batch), train_step)(state, batch)

    def _next(self, batches: Iterator[Batch]) -> Batch:
        asked = time.monotonic()
        batch = next(batches)
        waited = time.monotonic() - asked
        self._speed.waited(waited)
        self._ledger.add("input", waited)
        return batch

    @contextlib.contextmanager
    def _first_as_start(self, step: int) -> Iterator[None]:
        """The first step's handing over holds its compilation, a later one's another shape's."""
        seconds = self._compiled.seconds
        if step == self.first + 1:
            with self._ledger.spending("start"):
                yield
            return
        yield
        self._ledger.add("compile", self._compiled.seconds - seconds)

    def _size(self, batch: Batch) -> tuple[int, float]:
        """Tokens that the decoder reads, padding included, and model FLOPs."""
        shape = _shape(batch)
        if shape not in self._flops:
            self._flops[shape] = _flops_of(self._run, batch)
        return _tokens(batch), self._flops[shape]

    def _finish(
        self, step: int, values: dict[str, jax.Array], size: tuple[int, float], due: bool
    ) -> None:
        """Takes what a step gave: stops if it was not finite, else counts it and writes rows."""
        run, config = self._run, self._run.config
        told = {k: float(v) for k, v in jax.device_get(values).items()}
        self._trace.after(step)
        if told["train/skipped"]:
            raise _stopped(run, self.state, step, told)
        self._log.add(told)
        self._speed.step(told, *size)
        self._bar.update()
        if not due and step % config.log_every:
            return
        row = {**self._speed.row(), **self._compiled.row()}
        if due and run.heldout is not None:
            with self._ledger.spending("heldout"):
                row |= run.heldout(self.state["params"])
            self._speed.start()
        row = self._log.write(step, row | self._ledger.row(step))
        self._bar.set_postfix(loss=row["train/loss"], acc=row["train/level_acc"])
        if due:
            with self._ledger.spending("save"):
                kept = step_lib.kept(self.state, config.trainable)
                run.checkpoints.save(step, kept, row.get("heldout/loss"))


def _shape(batch: Batch) -> tuple[int, ...]:
    """What tells sizes of batches apart."""
    return (*batch["frames"].shape, *batch["motion"].shape, *batch["tokens"].shape)


def _flops_of(run: Run, batch: Mapping[str, Any]) -> float:
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


def _stopped(
    run: Run, state: step_lib.TrainState, step: int, values: Mapping[str, float]
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
