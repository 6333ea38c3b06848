"""Trains on a packed corpus: model, batches and step of `vqa_jax train`, without its readers."""

from __future__ import annotations

import concurrent.futures
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging

from launch.gpu_train import balance
from launch.gpu_train.packed import Packed
from vqa_jax.devices import sharding
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.training import examples, sampling
from vqa_jax.training import step as step_lib
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.weights import bundle, towers

METRICS = "metrics.jsonl"
_AHEAD = 8  # batches that are assembled before they are asked for


def train(packed: Packed, out: str, seconds: float) -> dict[str, Any]:
    """Trains to the end, or to the limit, and writes OUT/student; returns the last metrics.

    Args:
      packed: the corpus, with the run's settings.
      out: folder; METRICS tells every `log_every` steps.
      seconds: after which the student is written as it is, and its facts tell so.
    """
    began, config, spec = time.monotonic(), packed.config, packed.spec
    student = FunctionalStudent(spec.student)
    geometry = PromptGeometry(
        bundle.make_tokenizer(spec), spec.student.tokens_per_frame, config.input.answer
    )
    mesh = sharding.make_mesh(config.mesh, context=config.context)
    step_config = step_lib.StepConfig.of(config, geometry.level_ids, geometry.level_index)
    step = step_lib.make_train_step(student, step_config, mesh)
    state = _start(packed, student, step_config, mesh)
    os.makedirs(out, exist_ok=True)
    row: dict[str, Any] = {}
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        open(os.path.join(out, METRICS), "w", encoding="utf-8") as log,
    ):
        for number, batch in enumerate(_ahead(batches(packed, geometry), config, pool), 1):
            state, values = step(state, sharding.put_batch(batch, mesh))
            done = number == config.optim.total_steps
            late = time.monotonic() - began > seconds
            if number % config.log_every == 0 or done or late:
                row = {k: float(v) for k, v in jax.device_get(values).items()}
                row |= {"step": number, "seconds": round(time.monotonic() - began, 1)}
                log.write(json.dumps(row) + "\n")
                logging.info("step %d: loss %.4f", number, row["train/loss"])
            stopped = bool(row.get("train/skipped"))
            if stopped:
                logging.warning("a loss or gradient was not finite: the state before it is kept")
            elif late and not done:
                logging.warning("%g s are over: step %d is the last", seconds, number)
            if done or late or stopped:
                break
    params = balance.within(state["params"], packed.rows, packed.scale, spec)
    facts = {"steps": int(state["step"]), "of": config.optim.total_steps, "packed": packed.facts}
    folder = os.path.join(out, "student")
    bundle.save_trained(folder, spec, student, params, (mesh, config.sharding), facts)
    return row


def batches(packed: Packed, geometry: PromptGeometry) -> examples.Batches:
    """Element t is the batch of step t, counted from 0, as `input_pipeline.training_batches` has
    it of the corpus that was packed."""
    config, spec = packed.config.input, packed.spec
    sampler = sampling.Sampler(
        packed.index,
        examples.sources(packed, config, packed.images),
        *(config.num_groups, config.group_size, config.swap, config.seed),
    )
    size = spec.preprocess.max_clips
    simulators = spec.severity_simulators
    return examples.Batches(packed, config, geometry, simulators, size, slice(None), sampler.draw)


def _ahead(
    found: examples.Batches, config: Any, pool: concurrent.futures.Executor
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of all steps, assembled by threads ahead of their use."""
    total = config.optim.total_steps
    waiting = [pool.submit(found.__getitem__, t) for t in range(min(_AHEAD, total))]
    for t in range(total):
        if (later := t + _AHEAD) < total:
            waiting.append(pool.submit(found.__getitem__, later))
        yield waiting[t].result()
        waiting[t] = None  # type: ignore[call-overload]


def _start(
    packed: Packed, student: FunctionalStudent, config: step_lib.StepConfig, mesh: Any
) -> step_lib.TrainState:
    """The state of a fresh run."""
    abstract = step_lib.abstract_state(student, config, mesh)
    params = student.init(packed.config.seed, config.execution(mesh))
    measured = {"mean": packed.mean, "scale": packed.scale}
    params = towers.begun(params, student, packed.spec.tower, measured, abstract["params"])
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return step_lib.state_of_params(params, config, shardings)
