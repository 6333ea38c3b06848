"""Trains a student on one corpus: the whole run in one function.

    python -m vqa_jax train --config configs/quickstart.py --data DIR --workdir DIR

Rerunning the same command resumes; a finished run returns at once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import grain
import jax
import numpy as np
from absl import logging
from tensorboardX import SummaryWriter
from tqdm import tqdm

from vqa_jax import bundle, checkpoint, files, input_pipeline, parallel, records
from vqa_jax import optim as optim_lib
from vqa_jax import train_step as step_lib
from vqa_jax.losses import LossConfig
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.optim import OptimConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a run besides the student itself; an unknown field is a TypeError.

    Attributes:
      pair_datasets: pair datasets of the corpus that are trained on (iterations are cumulative).
      init_from: student bundle to start from, or "" for random weights.
      severity_weight: weight of the auxiliary severity loss.
      mesh: sizes of data, fsdp, tensor; -1 takes what is left.
      log_every: steps between metric rows.
      checkpoint_every: steps between checkpoints.
      input, optim, loss: see InputConfig, OptimConfig, LossConfig.
      trainable, sharding, attention, remat: see `train_step.StepConfig`.
      lora_rank: rank of low-rank additions to the decoder, 0 for none; they are merged into the
        student that is written.
    """

    pair_datasets: tuple[str, ...]
    init_from: str
    severity_weight: float
    mesh: tuple[int, int, int]
    log_every: int
    checkpoint_every: int
    seed: int
    input: input_pipeline.InputConfig
    optim: OptimConfig
    loss: LossConfig
    trainable: optim_lib.Trainable = optim_lib.EVERYTHING
    sharding: tuple[tuple[str, str], ...] = ()
    attention: str = "auto"
    remat: str = "none"
    lora_rank: int = 0

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainConfig:
        """Builds the config from plain values, as configs/ holds them."""
        fields = dict(fields)
        fields["pair_datasets"] = tuple(fields["pair_datasets"])
        fields["mesh"] = tuple(fields["mesh"])
        inputs = dict(fields["input"])
        inputs["mix"] = tuple(sorted(dict(inputs["mix"]).items()))
        fields["input"] = input_pipeline.InputConfig(**inputs)
        fields["optim"] = OptimConfig(**fields["optim"])
        fields["loss"] = LossConfig(**fields["loss"])
        fields["trainable"] = optim_lib.rules_of(fields["trainable"])
        fields["sharding"] = tuple(sorted(dict(fields["sharding"]).items()))
        return cls(**fields)


class TrainingError(Exception):
    """Training cannot go on; the message says what was kept."""


class _Metrics:
    """Metric rows to JSONL and TensorBoard, averaged over the steps between two rows."""

    def __init__(self, workdir: str, first_step: int):
        self._path = os.path.join(workdir, "metrics.jsonl")
        self._drop_rows_after(first_step)
        self._board = SummaryWriter(os.path.join(workdir, "tensorboard"), purge_step=first_step)
        self._rows: list[dict[str, float]] = []

    def _drop_rows_after(self, step: int) -> None:
        # Steps after the restored one are computed again: their rows would be twice there.
        if not os.path.exists(self._path):
            return
        with open(self._path, encoding="utf-8") as f:
            rows = [line for line in f if line.endswith("\n") and json.loads(line)["step"] <= step]
        with open(self._path, "w", encoding="utf-8") as f:
            f.writelines(rows)

    def add(self, values: Mapping[str, float]) -> None:
        self._rows.append(dict(values))

    def write(self, step: int, extra: Mapping[str, float]) -> dict[str, float]:
        mean = {k: float(np.mean([r[k] for r in self._rows])) for k in self._rows[0]}
        row = {**mean, **extra}
        with open(self._path, "a", encoding="utf-8") as f:
            f.write(json.dumps({"step": step, **row}) + "\n")
        for name, value in row.items():
            self._board.add_scalar(name, value, step)
        self._rows = []
        return row

    def close(self) -> None:
        self._board.close()


def _identity(config: TrainConfig, spec: bundle.StudentSpec, data: str) -> dict[str, Any]:
    pairs = {
        name: [files.file_sha256(p) for p in records.dataset_shards(data, name, "train")]
        for name in config.pair_datasets
    }
    start = bundle.fingerprint(config.init_from) if config.init_from else ""
    settings = dataclasses.asdict(config)
    identity = {"spec": spec.to_dict(), "settings": settings, "pairs": pairs, "init": start}
    return json.loads(json.dumps(identity))  # tuples as lists, as a file gives them back


def train(config: TrainConfig, spec: bundle.StudentSpec, data: str, workdir: str) -> str:
    """Trains to `total_steps` and writes a student bundle.

    Args:
      config: the run.
      spec: architecture and preprocessing of the student.
      data: corpus folder with pairs and motion features.
      workdir: checkpoints, metrics and the finished bundle go here.

    Returns:
      Folder of the trained student's bundle.

    Raises:
      TrainingError: a loss or gradient is not finite; the last good weights are saved.
      checkpoint.CheckpointError: workdir belongs to another run.
      files.CorpusError: the corpus lacks pairs, videos or motion features.
    """
    os.makedirs(workdir, exist_ok=True)
    output = os.path.join(workdir, "student")

    # --- model and data -------------------------------------------------------------------------
    student = FunctionalStudent(with_additions(spec.student, config.lora_rank))
    tokenizer = bundle.make_tokenizer(spec)
    geometry = input_pipeline.PromptGeometry(
        tokenizer, spec.student.tokens_per_frame, config.input.answer
    )
    corpus = input_pipeline.PairCorpus(data, config.pair_datasets, "train", spec.extractor)
    batches = input_pipeline.training_batches(
        corpus, config.input, geometry, spec.severity_simulators, spec.preprocess.max_clips
    )
    iterator = iter(
        batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    )

    # --- state on the mesh ----------------------------------------------------------------------
    mesh = parallel.make_mesh(config.mesh)
    step_config = step_lib.StepConfig(
        optim=config.optim,
        loss=config.loss,
        severity_weight=config.severity_weight,
        level_ids=tuple(geometry.level_ids),
        level_index=geometry.level_index,
        trainable=config.trainable,
        sharding=config.sharding,
        attention=config.attention,
        remat=config.remat,
    )
    checkpoints = checkpoint.Checkpointer(workdir, _identity(config, spec, data))
    if checkpoints.latest_step() == config.optim.total_steps and bundle.is_complete(output):
        checkpoints.close()
        logging.info("%s is finished", output)
        return output
    shardings = step_lib.state_shardings(student, step_config, mesh)
    if checkpoints.latest_step() is not None:
        abstract = jax.eval_shape(lambda: step_lib.init_state(student, step_config, 0))
        state = checkpoints.restore(checkpoint.abstract_of(abstract, shardings), iterator)
    else:
        if config.init_from:
            params = bundle.load_params(config.init_from, FunctionalStudent(spec.student))
            params = student.attach(params, config.seed)
            state = step_lib.state_of_params(params, step_config)
        else:
            state = step_lib.init_state(student, step_config, config.seed)
        state = jax.device_put(state, shardings)
    train_step = step_lib.make_train_step(student, step_config, mesh)

    # --- steps ----------------------------------------------------------------------------------
    first, total = int(state["step"]), config.optim.total_steps
    metrics = _Metrics(workdir, first)
    since, waited = time.monotonic(), 0.0
    with tqdm(total=total, initial=first, desc="train", unit="step", mininterval=5) as bar:
        for step in range(first + 1, total + 1):
            asked = time.monotonic()
            batch = parallel.put_batch(next(iterator), mesh)
            waited += time.monotonic() - asked
            state, values = train_step(state, batch)
            values = {k: float(v) for k, v in jax.device_get(values).items()}
            if values["train/skipped"] or not math.isfinite(values["train/loss"]):
                # The step left the state alone. A checkpoint would hold the iterator one batch
                # too far, so the weights are kept by themselves.
                kept = os.path.join(workdir, "last_good")
                bundle.save(kept, spec, student.merge(state["params"]), {"steps": step - 1})
                metrics.close()
                checkpoints.close()
                raise TrainingError(
                    f"step {step}: loss {values['train/loss']}, gradient norm "
                    f"{values['train/grad_norm']}; the weights of step {step - 1} are in {kept}: "
                    "lower peak_lr and continue in a new workdir with init_from set to it"
                )
            metrics.add(values)
            bar.update()
            if step % config.log_every == 0 or step == total:
                elapsed = time.monotonic() - since
                steps = min(config.log_every, step - first)
                row = metrics.write(
                    step,
                    {
                        "perf/pairs_per_sec": steps * config.input.batch_size / elapsed,
                        "perf/input_wait_frac": waited / elapsed,
                    },
                )
                bar.set_postfix(loss=row["train/loss"], acc=row["train/level_acc"])
                since, waited = time.monotonic(), 0.0
            if step % config.checkpoint_every == 0 or step == total:
                checkpoints.save(step, state, iterator)
    metrics.close()
    checkpoints.close()
    facts = {"steps": total, "corpus": os.path.basename(data)}
    bundle.save(output, spec, student.merge(state["params"]), facts)
    logging.info("student written to %s", output)
    return output
