"""Plans of the two steps of scoring: a video is encoded, and compared with anchors' caches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vqa_jax.devices import sharding as parallel
from vqa_jax.devices.execution import Execution, executing
from vqa_jax.devices.topology import Topology
from vqa_jax.models import flops as model_flops
from vqa_jax.models import int8, qwen2
from vqa_jax.models.flops import PairShape
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.student import StudentConfig
from vqa_jax.planning.compiled import StepPlan, compile_step
from vqa_jax.planning.shapes import PromptSize, prompt_size, shard_bytes
from vqa_jax.scoring import placement
from vqa_jax.scoring import steps as scoring_steps
from vqa_jax.weights import bundle

NUM_ANCHORS = 5


def scoring_config(cfg: StudentConfig, dtype: str | None) -> StudentConfig:
    """The student as scoring loads it: in its compute dtype, or with layers in int8."""
    compute = cfg.compute_dtype if dtype in (None, int8.DTYPE) else dtype
    return dataclasses.replace(cfg, param_dtype=dtype or compute, compute_dtype=compute)


def scoring_mesh(
    spec: bundle.StudentSpec,
    topology: Topology,
    dtype: str | None,
    cache_dtype: str | None = None,
) -> Mesh:
    """The mesh that scoring takes by its own rule (`placement.sizes_by_rule`)."""
    cfg, text = scoring_config(spec.student, dtype), prompt_size(spec)
    prefixes = NUM_ANCHORS * (spec.bank.stride + text.scoring)
    cached = placement.cache_bytes(cfg, prefixes, cache_dtype)
    wanted = placement.Need(placement.weight_bytes(cfg), cached)
    memory = topology.chip.memory if topology.chip else math.inf
    sizes = placement.sizes_by_rule(wanted, len(topology.devices), memory)
    return parallel.make_mesh(sizes, topology.devices)


def plan_scoring(
    student: FunctionalStudent,
    spec: bundle.StudentSpec,
    text: PromptSize,
    videos: int,
    topology: Topology,
    mesh: Mesh,
    cache_dtype: str | None = None,
) -> tuple[StepPlan, StepPlan]:
    """Compiles the two steps that score `videos` videos: encode them, and compare each with the
    anchors, whose keys and values are cached.

    Args:
      student: architecture; weights are stored in its compute dtype, or in int8.
      spec: how it sees videos.
      text: sizes of its prompt.
      videos: in one global batch.
      topology: the chips.
      mesh: their arrangement.
      cache_dtype: of the anchors' keys and values, as for `vqa_jax.load`.
    """
    cfg, sharding = student.cfg, parallel.batch_sharding(mesh)
    dtype = jnp.dtype(cfg.compute_dtype)
    stored_in = None if cfg.is_int8 else dtype
    params = parallel.placed(student.abstract(), student.shardings(mesh), stored_in)

    def make(kind: Any, *dims: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dims, kind, sharding=sharding)

    clips = max(1, spec.preprocess.max_clips)
    bank = spec.bank
    size = cfg.vision.image_size
    frames = make(jnp.uint8, videos, spec.num_frames, size, size, 3)
    motion = make(jnp.float32, videos, clips, cfg.motion_dim)
    steps = scoring_steps.make_steps(student, text.level_ids, cache_dtype)

    def on_mesh(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with executing(Execution(mesh)):
                return function(*arguments)

        # All weights stay on the chip, also those that one of the two steps does not use.
        return jax.jit(run, keep_unused=True)

    weights = shard_bytes(params)
    encode = compile_step(
        "encode",
        PairShape(videos, spec.num_frames, clips, bank.stride, 0),
        on_mesh(steps.encode),
        (params, frames, motion),
        (weights, 0, shard_bytes((frames, motion))),
        model_flops.encoding_flops(cfg, videos, spec.num_frames, clips).total,
        topology,
    )
    rows = videos * NUM_ANCHORS
    # A scoring prompt: all text but the question and the answer comes before the second video.
    prefix, suffix = bank.stride + text.scoring // 2, bank.stride + text.scoring
    by_layer = jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec(None, *parallel.batch_sharding(mesh).spec)
    )
    visual = make(dtype, rows, bank.stride, cfg.embed_dim)
    given = visual, make(jnp.int32, rows, prefix), make(jnp.int32, rows)
    cache = jax.eval_shape(steps.prefix, params, *given)
    inputs = (
        qwen2.KVCache(*map(parallel.placed, cache, (by_layer, by_layer, sharding))),
        visual,
        make(jnp.int32, rows, suffix),
        make(jnp.int32, rows, suffix),
        make(jnp.int32, rows, 1),
    )
    compare = compile_step(
        "suffix",
        PairShape(rows, spec.num_frames, clips, suffix, 1),
        on_mesh(steps.suffix),
        (params, *inputs),
        (weights, 0, shard_bytes(inputs)),
        model_flops.suffix_flops(cfg, rows, suffix, prefix).total,
        topology,
    )
    return encode, compare
