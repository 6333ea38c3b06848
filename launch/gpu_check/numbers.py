"""Loss, gradient and level logits on the card and on the CPU, from the same weights and inputs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from launch.gpu_check import scoring, training
from launch.gpu_check.sizes import Sizes
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import StudentConfig

# Largest differences from the CPU's float32 numbers: relative ones of loss and gradient's norm,
# absolute ones of level logits.
LIMITS = {
    "float32": {"loss": 1e-4, "grad_norm": 1e-3, "level_logits": 1e-3},
    "bfloat16": {"loss": 2e-2, "grad_norm": 1e-1, "level_logits": 1e-1},
}


def _numbers(sizes: Sizes, params: Params, dtype: str, device: Any) -> dict[str, np.ndarray]:
    """Loss and gradient's norm of one step, and level logits, in one dtype on one device."""
    logging.info("numbers in %s on %s", dtype, device)
    cfg: StudentConfig = dataclasses.replace(sizes.student, compute_dtype=dtype)
    sizes = dataclasses.replace(sizes, student=cfg)
    with jax.default_device(device), _exact(dtype):
        own = jax.tree.map(jnp.copy, params)
        metrics = training.step(sizes, own, training.mesh_of(device))()
        judge = scoring.engine(sizes, params, device)
        anchors = list(judge.encode(scoring.inputs(sizes, sizes.anchors, seed=1)))
        videos = list(judge.encode(scoring.inputs(sizes, sizes.videos, seed=2)))
        judge.set_anchors(anchors)
        logits = judge.against([(a, v) for v in videos for a in range(len(anchors))])
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
