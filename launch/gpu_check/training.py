"""The project's own training step, timed: all trained, and in other ways and sizes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from launch.gpu_check import sizes as sizes_lib
from launch.gpu_check.sizes import Sizes
from vqa_jax.devices import sharding, topology
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import count_parameters
from vqa_jax.settings import EVERYTHING, LossConfig, OptimConfig, Trainable
from vqa_jax.training import step as step_lib

# As configs/ov_7b.py:authors trains: the decoder is frozen.
_NO_DECODER: Trainable = (
    ("motion_projector/*", 1.0),
    ("vision/*", 0.2),
    ("vision_projector/*", 1.0),
)


@dataclasses.dataclass(frozen=True)
class Way:
    """How a step is computed; see `training.step.StepConfig`. One pair a part."""

    attention: str = "auto"
    remat: str = "none"
    unroll: int = 0
    trainable: Trainable = EVERYTHING
    accumulate: int = 1


# Of scans, which compile in a quarter of the time. XLA's own attention would store its scores.
WAYS = {
    "xla_attention": Way("xla", "dots", 1),
    "decoder_frozen": Way(remat="dots", unroll=1, trainable=_NO_DECODER),
    "two_parts": Way(remat="dots", unroll=1, accumulate=2),
}


def mesh_of(device: Any) -> Mesh:
    """One device as a mesh."""
    return sharding.make_mesh((1, 1, 1), [device])


def device_facts(device: Any) -> dict[str, Any]:
    """Kind, peak FLOP/s, and most bytes in use until now."""
    stats = device.memory_stats() or {}
    return {
        "device": device.device_kind,
        "peak_flops": topology.peak_of([device]),
        "peak_bytes": stats.get("peak_bytes_in_use"),
    }


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, list[float]]:
    """Seconds of the first call, which compiles, and of each later one."""
    seconds = []
    for _ in range(1 + repeats):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - begun)
    return seconds[0], seconds[1:]


def step(
    sizes: Sizes, params: Params, mesh: Mesh, way: Way = Way()
) -> Callable[[], dict[str, jax.Array]]:
    """A call that trains one step more on the same pairs and returns the step's metrics.

    `params` are the call's own from here on: the step overwrites them.
    """
    student = FunctionalStudent(sizes.student)
    batch, geometry = sizes_lib.training_batch(sizes, way.accumulate)
    config = step_lib.StepConfig(
        optim=OptimConfig(1000, 0, 1e-5, 0.05, 1.0, 0.98),
        loss=LossConfig(),
        severity_weight=0.0,
        level_ids=tuple(geometry.level_ids),
        level_index=geometry.level_index,
        **dataclasses.asdict(way) | {"trainable": way.trainable},
    )
    train_step = step_lib.make_train_step(student, config, mesh)
    shardings = step_lib.state_shardings(student, config, mesh)
    placed = jax.device_put(params, shardings["params"])
    state = step_lib.state_of_params(placed, config, shardings)
    put = sharding.put_batch(batch, mesh)

    def call() -> dict[str, jax.Array]:
        nonlocal state
        state, metrics = train_step(state, put)
        return metrics

    return call


def _measured(sizes: Sizes, params: Params, mesh: Mesh, way: Way) -> dict[str, Any]:
    """Figures of a step that starts from `params`."""
    call = step(sizes, params, mesh, way)
    del params
    first, seconds = timed(call, sizes.repeats)
    answers = sizes_lib.training_batch(sizes)[0]["answer_pos"].shape[1]
    return {
        "remat": way.remat,
        "tokens": way.accumulate * sizes.tokens,
        "first_seconds": first,
        "seconds": float(np.median(seconds)),
        "flops": way.accumulate * sizes_lib.training_flops(sizes, answers, way.trainable),
        "loss": float(call()["train/loss"]),
    }


def train(sizes: Sizes) -> dict[str, Any]:
    """Times steps on the first device, as a GPU is meant to compute them, and in WAYS."""
    device = jax.devices()[0]
    student = FunctionalStudent(sizes.student)
    found = _measured(sizes, student.init(0), mesh_of(device), Way())
    facts = device_facts(device)  # before the others add to the peak
    for name, way in WAYS.items():
        logging.info("%s", name)
        found[name] = _measured(sizes, student.init(0), mesh_of(device), way)
    return {"parameters": _count(sizes), **found, **facts}


def _count(sizes: Sizes) -> int:
    return sum(count_parameters(sizes.student).values())


def train_larger(sizes: Sequence[Sizes]) -> dict[str, Any]:
    """Times steps of larger decoders, the last one frozen, with all but attention recomputed."""
    device, found = jax.devices()[0], {}
    for number, size in enumerate(sizes, 1):
        trainable = _NO_DECODER if number == len(sizes) else EVERYTHING
        way = Way(remat="attention", unroll=1, trainable=trainable)
        name = f"{_count(size) / 1e9:.1f}B"
        logging.info("%s", name)
        # Nobody else holds the weights, so that frozen ones are freed once they are halves.
        found[name] = _measured(size, FunctionalStudent(size.student).init(0), mesh_of(device), way)
        found[name]["peak_bytes"] = device_facts(device)["peak_bytes"]
    return {**found, **device_facts(device)}
