"""The project's own training step and scoring engine, timed, and compared between devices."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from launch.gpu_check import sizes as sizes_lib
from launch.gpu_check.sizes import Sizes
from vqa_jax.devices import sharding, topology
from vqa_jax.devices.execution import Execution
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import StudentConfig
from vqa_jax.pairs.levels import preference
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.engine import Engine, VideoInput
from vqa_jax.settings import LossConfig, OptimConfig
from vqa_jax.training import step as step_lib
from vqa_jax.weights.bundle import StudentSpec

# Largest differences from the CPU's float32 numbers: relative ones of loss and gradient's norm,
# absolute ones of level logits.
LIMITS = {
    "float32": {"loss": 1e-4, "grad_norm": 1e-3, "level_logits": 1e-3},
    "bfloat16": {"loss": 2e-2, "grad_norm": 1e-1, "level_logits": 1e-1},
}


# The backward pass finds products stored and nothing else: 12 GB of 44 at full size.
_REMAT = "dots"


def _mesh(device: Any) -> Mesh:
    return sharding.make_mesh((1, 1, 1), [device])


def _device_facts(device: Any) -> dict[str, Any]:
    stats = device.memory_stats() or {}
    return {
        "device": device.device_kind,
        "peak_flops": topology.peak_of([device]),
        "peak_bytes": stats.get("peak_bytes_in_use"),
    }


def _parameters(params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _timed(call: Callable[[], Any], repeats: int) -> tuple[float, list[float]]:
    """Seconds of the first call, which compiles, and of each later one."""
    seconds = []
    for _ in range(1 + repeats):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - begun)
    return seconds[0], seconds[1:]


def _step(sizes: Sizes, params: Params, mesh: Mesh) -> Callable[[], dict[str, jax.Array]]:
    """A call that trains one step more on the same pair and returns the step's metrics."""
    student = FunctionalStudent(sizes.student)
    batch, geometry = sizes_lib.training_batch(sizes)
    config = step_lib.StepConfig(
        optim=OptimConfig(1000, 0, 1e-5, 0.05, 1.0, 0.98),
        loss=LossConfig(),
        severity_weight=0.0,
        level_ids=tuple(geometry.level_ids),
        level_index=geometry.level_index,
        remat=_REMAT,
    )
    train_step = step_lib.make_train_step(student, config, mesh)
    shardings = step_lib.state_shardings(student, config, mesh)
    state = jax.device_put(step_lib.state_of_params(params, config), shardings)
    put = sharding.put_batch(batch, mesh)

    def call() -> dict[str, jax.Array]:
        nonlocal state
        state, metrics = train_step(state, put)
        return metrics

    return call


def train(sizes: Sizes) -> dict[str, Any]:
    """Times training steps on the first device."""
    device = jax.devices()[0]
    params = FunctionalStudent(sizes.student).init(0)
    count = _parameters(params)
    call = _step(sizes, params, _mesh(device))
    del params
    first, seconds = _timed(call, sizes.repeats)
    answers = sizes_lib.training_batch(sizes)[0]["answer_pos"].shape[1]
    return {
        "parameters": count,
        "tokens": sizes.tokens,
        "remat": _REMAT,
        "first_seconds": first,
        "seconds": float(np.median(seconds)),
        "flops": sizes_lib.training_flops(sizes, answers),
        "loss": float(call()["train/loss"]),
        **_device_facts(device),
    }


def _engine(sizes: Sizes, params: Params, device: Any) -> Engine:
    student = FunctionalStudent(sizes.student)
    preprocess = Preprocess(image_size=sizes.student.vision.image_size, max_clips=sizes.clips,
                            min_clips=1)  # fmt: skip
    spec = StudentSpec("", sizes.student, preprocess, sizes.frames, "", ())
    batch = sizes.videos * sizes.anchors
    return Engine(student, params, spec, sizes_lib.tokenizer(), batch, Execution(_mesh(device)))


def _inputs(sizes: Sizes, count: int, seed: int) -> list[VideoInput]:
    made = sizes_lib.made_up_videos(sizes, count, seed)
    return [VideoInput(frames[None], motion) for frames, motion in made]


def score(sizes: Sizes) -> dict[str, Any]:
    """Times the encoding of videos, and their comparisons with cached anchors and as whole pairs.

    The scores are Thurstone's q: random weights order no anchors, so there is no scale to map to.
    """
    device = jax.devices()[0]
    engine = _engine(sizes, FunctionalStudent(sizes.student).init(0), device)
    anchors = list(engine.encode(_inputs(sizes, sizes.anchors, seed=1)))
    engine.set_anchors(anchors)
    videos = _inputs(sizes, sizes.videos, seed=2)
    encoded = list(engine.encode(videos))
    cached = [(a, video) for video in encoded for a in range(len(anchors))]
    pairs = [(anchors[a], video) for a, video in cached]
    encode_first, encode = _timed(lambda: list(engine.encode(videos)), sizes.repeats)
    suffix_first, suffix = _timed(lambda: engine.against(cached), sizes.repeats)
    pairs_first, whole = _timed(lambda: engine.compare(pairs), sizes.repeats)
    logits = engine.against(cached)
    layout = sizes_lib.scoring_layout(sizes)
    among = engine.compare([(a, b) for a in anchors for b in anchors])
    matrix = thurstone.average_orders(preference(among).reshape(len(anchors), -1))
    probabilities = preference(logits).reshape(len(videos), -1)
    q, _ = thurstone.map_scores(thurstone.preference_matrix(probabilities, matrix))
    return {
        "videos": sizes.videos,
        "anchors": sizes.anchors,
        "first_seconds": encode_first + suffix_first + pairs_first,
        "encode": _phase(encode, sizes_lib.encoding_flops(sizes)),
        "cached": _phase(
            suffix,
            sizes_lib.decoding_flops(sizes, cached=True),
            len(cached) * (len(layout.tokens) - layout.prefix_len),
        ),
        "pairs": _phase(
            whole, sizes_lib.decoding_flops(sizes, cached=False), len(pairs) * len(layout.tokens)
        ),
        "cached_against_pairs": float(np.abs(logits - engine.compare(pairs)).max()),
        "q": q[:, -1].tolist(),
        **_device_facts(device),
    }


def _phase(seconds: list[float], flops: float, tokens: int | None = None) -> dict[str, Any]:
    return {"seconds": float(np.median(seconds)), "flops": flops, "tokens": tokens}


def _numbers(sizes: Sizes, params: Params, dtype: str, device: Any) -> dict[str, np.ndarray]:
    """Loss and gradient's norm of one step, and level logits, in one dtype on one device."""
    logging.info("numbers in %s on %s", dtype, device)
    cfg: StudentConfig = dataclasses.replace(sizes.student, compute_dtype=dtype)
    sizes = dataclasses.replace(sizes, student=cfg)
    with jax.default_device(device), _exact(dtype):
        metrics = _step(sizes, params, _mesh(device))()
        engine = _engine(sizes, params, device)
        anchors = list(engine.encode(_inputs(sizes, sizes.anchors, seed=1)))
        videos = list(engine.encode(_inputs(sizes, sizes.videos, seed=2)))
        engine.set_anchors(anchors)
        logits = engine.against([(a, v) for v in videos for a in range(len(anchors))])
    found = {name: np.asarray(metrics[f"train/{name}"]) for name in ("loss", "grad_norm")}
    return found | {"level_logits": logits}


@contextlib.contextmanager
def _exact(dtype: str) -> Iterator[None]:
    """Products of float32 in float32: GPUs otherwise round their factors."""
    if dtype != "float32":
        yield
        return
    with jax.default_matmul_precision("highest"):
        yield


def numbers(sizes: Sizes) -> dict[str, Any]:
    """Compares the first device with the CPU on the same weights and inputs."""
    device, cpu = jax.devices()[0], jax.devices("cpu")[0]
    params = jax.device_get(FunctionalStudent(sizes.student).init(0))
    wanted = _numbers(sizes, params, "float32", cpu)
    compared = {}
    for dtype, limits in LIMITS.items():
        found = _numbers(sizes, params, dtype, device)
        compared[dtype] = {
            name: _difference(found[name], wanted[name], limit, relative=name != "level_logits")
            for name, limit in limits.items()
        }
    agree = all(row["agrees"] for rows in compared.values() for row in rows.values())
    return {"compared": compared, "agree": agree, "device": device.device_kind}


def _difference(
    found: np.ndarray, wanted: np.ndarray, limit: float, relative: bool
) -> dict[str, Any]:
    scale = float(np.abs(wanted).max()) if relative else 1.0
    error = float(np.abs(found - wanted).max()) / scale
    return {
        "cpu": np.asarray(wanted).tolist(),
        "device": np.asarray(found).tolist(),
        "error": error,
        "limit": limit,
        "agrees": bool(error <= limit),
    }
