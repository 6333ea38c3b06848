"""Compiles the real steps ahead of time for chips that are not at hand, and says what they take.

    python -m vqa_jax plan --config ov_7b --topology v5e:16x16 --mesh 16,16,1

The memory is the compiler's own account of one chip; arithmetic comes from the jaxpr (`flops`),
traffic from the compiled program (`hlo`). The roofline is a bound: a step takes at least as long as
the slowest of arithmetic, HBM and interconnect, each at its published peak; as long as all of them
together, where nothing overlaps.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import Mesh

from vqa_jax.devices import sharding as parallel
from vqa_jax.devices.execution import Execution, executing
from vqa_jax.devices.topology import Topology
from vqa_jax.models import flops as model_flops
from vqa_jax.models import int8, qwen2
from vqa_jax.models.flops import PairShape
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.models.student import StudentConfig
from vqa_jax.planning import flops, hlo, roofline
from vqa_jax.planning.shapes import PromptSize, abstract_batch, pair_shape, prompt_size, shard_bytes
from vqa_jax.scoring import placement
from vqa_jax.scoring import steps as scoring_steps
from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import optim
from vqa_jax.training import step as train_step
from vqa_jax.weights import bundle, rules

STAGE_PAIRS = 500_000  # of the first stage (method 3.3)
NUM_ANCHORS = 5


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one chip. `spare` is negative where the step does not fit; None without limit.

    params, optimizer, batch: what the step is given (sums of shards). temporaries: activations,
    gradients, gathered weights, at their peak. program: the code. total: the compiler's sum.
    """

    params: int
    optimizer: int
    batch: int
    temporaries: int | None
    program: int | None
    total: int
    spare: float | None

    @property
    def start(self) -> int:
        """Bytes at most before the first step: the shards, and a block of weights on its way."""
        return self.params + self.optimizer + min(self.params, rules.BLOCK_BYTES)


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """What one step of one job takes on one topology.

    Attributes:
      step: "train", "encode" or "suffix".
      pairs: pairs (encode: videos) in the global batch.
      tokens: length of a sequence.
      memory: of a chip.
      executed: floating-point operations of all chips.
      kernels: those of them inside custom kernels.
      int8: those of them on whole numbers, for which the chip has another peak.
      model: model FLOPs of all chips (`models.flops`).
      hbm, interconnect: bytes of a chip; None where the step was not compiled.
      collectives: {kind: {count, gigabytes}} of a chip.
      largest: the largest collectives, in words.
      seconds: lower bounds {arithmetic, hbm, interconnect, network (of several slices), step: the
        largest of them, as if all went on at once; apart: their sum, as if none did}; empty without
        facts of the chip.
      mfu: model FLOPs over what the chips could do in seconds["step"].
      mfu_apart: the same of seconds["apart"].
      asked: pairs of the run's batch, where it does not divide over the mesh and was rounded up.
      compile_seconds: wall-clock time of the compilation.
    """

    step: str
    pairs: int
    tokens: int
    memory: Memory
    executed: float
    kernels: float
    int8: float
    model: float
    hbm: float | None
    interconnect: float | None
    collectives: Mapping[str, Mapping[str, float]]
    largest: tuple[str, ...]
    seconds: Mapping[str, float]
    mfu: float | None
    compile_seconds: float
    mfu_apart: float | None = None
    asked: int | None = None


def plan_run(
    settings: TrainConfig,
    spec: bundle.StudentSpec,
    topology: Topology,
    mesh: Mesh,
    steps: str = "all",
    pairs: int | None = None,
    tokens: int | None = None,
    dtype: str | None = None,
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

    Raises:
      ValueError: `pairs` does not divide over the mesh, or `tokens` is too few.
      SettingsError: scoring on a mesh that splits sequences.
    """
    if steps != "train" and mesh.shape.get(parallel.CONTEXT, 1) > 1:
        raise SettingsError(
            "scoring does not split sequences over devices (train.context): plan --steps train"
        )
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
    plain = FunctionalStudent(scoring_config(spec.student, dtype))
    plans = []
    if steps != "score":
        planned = plan_training(trained, config, spec, shape, topology, mesh)
        plans.append(dataclasses.replace(planned, asked=asked))
    if steps != "train":
        plans += plan_scoring(plain, spec, text, ways, topology, mesh)
    return plans


def step_of_run(
    settings: TrainConfig, spec: bundle.StudentSpec
) -> tuple[PromptSize, train_step.StepConfig]:
    """Sizes of the student's prompt, and what a step of a run computes."""
    text = prompt_size(spec)
    level_index = text.level_index if settings.input.answer == "sentence" else 0
    return text, train_step.StepConfig.of(settings, text.level_ids, level_index)


def scoring_config(cfg: StudentConfig, dtype: str | None) -> StudentConfig:
    """The student as scoring loads it: in its compute dtype, or with layers in int8."""
    compute = cfg.compute_dtype if dtype in (None, int8.DTYPE) else dtype
    return dataclasses.replace(cfg, param_dtype=dtype or compute, compute_dtype=compute)


def scoring_mesh(spec: bundle.StudentSpec, topology: Topology, dtype: str | None) -> Mesh:
    """The mesh that scoring takes by its own rule (`placement.sizes_by_rule`)."""
    cfg, text = scoring_config(spec.student, dtype), prompt_size(spec)
    prefixes = NUM_ANCHORS * (spec.bank.stride + text.scoring)
    wanted = placement.Need(placement.weight_bytes(cfg), placement.cache_bytes(cfg, prefixes))
    memory = topology.chip.memory if topology.chip else math.inf
    sizes = placement.sizes_by_rule(wanted, len(topology.devices), memory)
    return parallel.make_mesh(sizes, topology.devices)


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
    return _plan("train", shape, step, (state, batch), given, model.total, topology)


def plan_scoring(
    student: FunctionalStudent,
    spec: bundle.StudentSpec,
    text: PromptSize,
    videos: int,
    topology: Topology,
    mesh: Mesh,
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
    steps = scoring_steps.make_steps(student, text.level_ids)

    def on_mesh(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with executing(Execution(mesh)):
                return function(*arguments)

        # All weights stay on the chip, also those that one of the two steps does not use.
        return jax.jit(run, keep_unused=True)

    weights = shard_bytes(params)
    encode = _plan(
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
    stored = jax.ShapeDtypeStruct(
        (cfg.llm.num_layers, rows, prefix, cfg.llm.num_kv_heads, cfg.llm.head_dim),
        dtype,
        sharding=by_layer,
    )
    cache = qwen2.KVCache(stored, stored, make(jnp.int32, rows, prefix))
    inputs = (
        cache,
        make(dtype, rows, bank.stride, cfg.embed_dim),
        make(jnp.int32, rows, suffix),
        make(jnp.int32, rows, suffix),
        make(jnp.int32, rows, 1),
    )
    compare = _plan(
        "suffix",
        PairShape(rows, spec.num_frames, clips, suffix, 1),
        on_mesh(steps.suffix),
        (params, *inputs),
        (weights, 0, shard_bytes(inputs)),
        model_flops.suffix_flops(cfg, rows, suffix, prefix).total,
        topology,
    )
    return encode, compare


def _plan(
    name: str,
    shape: PairShape,
    step: Any,
    inputs: tuple[Any, ...],
    given: tuple[int, int, int],
    model: float,
    topology: Topology,
) -> StepPlan:
    traced = step.trace(*inputs)
    count = flops.count_jaxpr(traced.jaxpr)
    if count.unknown_loops:
        logging.warning("%s: %d loops of unknown length count once", name, count.unknown_loops)
    started = time.monotonic()
    lowered = traced.lower()
    try:
        compiled, text = _compiled(lowered, topology)
    except jax.errors.JaxRuntimeError as error:
        needed = _needed_bytes(str(error))
        if needed is None:
            raise
        compiled = None
    seconds = time.monotonic() - started
    limit = topology.chip.memory if topology.chip else None
    if compiled is None:
        spare = None if limit is None else limit - needed
        memory = Memory(*given, None, None, needed, spare)
        traffic = None
    else:
        facts = compiled.memory_analysis()
        total = (
            facts.argument_size_in_bytes
            + facts.output_size_in_bytes
            - facts.alias_size_in_bytes
            + facts.temp_size_in_bytes
            + facts.generated_code_size_in_bytes
        )
        memory = Memory(
            *given,
            facts.temp_size_in_bytes,
            facts.generated_code_size_in_bytes,
            total,
            None if limit is None else limit - total,
        )
        traffic = hlo.traffic(text)
    bounds = roofline.bounds(count, traffic, topology)
    chips = len(topology.devices)
    mfu, apart = (
        model / (bounds[pace] * chips * topology.chip.peak) if bounds else None
        for pace in ("step", "apart")
    )
    return StepPlan(
        step=name,
        pairs=shape.pairs,
        tokens=shape.tokens,
        memory=memory,
        executed=count.total,
        kernels=count.kernels,
        int8=count.int8,
        model=model,
        hbm=traffic.hbm if traffic else None,
        interconnect=traffic.interconnect if traffic else None,
        collectives=traffic.by_kind() if traffic else {},
        largest=tuple(map(_in_words, traffic.collectives[:5])) if traffic else (),
        seconds=bounds,
        mfu=mfu,
        mfu_apart=apart,
        compile_seconds=seconds,
    )


def _compiled(lowered: Any, topology: Topology) -> tuple[Any, str]:
    """The compiled program and XLA's text of it.

    The TPU compiler writes the text itself: what it hands over as a binary, XLA cannot always read
    (asynchronous collectives of several operands, as on v5p).
    """
    if topology.devices[0].platform != "tpu":
        compiled = lowered.compile()
        return compiled, compiled.as_text()
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        compiled = lowered.compile(compiler_options=options)
        (path,) = pathlib.Path(folder).glob("*.after_codegen.txt")
        return compiled, path.read_text()


def _needed_bytes(message: str) -> int | None:
    """Bytes that the compiler says a step needs, where it is too much for the chip."""
    found = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message) or re.search(
        r"temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM", message
    )
    if not found:
        return None
    scale = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}[found.group(2)]
    return int(float(found.group(1)) * scale)


def _in_words(collective: hlo.Collective) -> str:
    return (
        f"{collective.kind} of {collective.size / 1e6:.1f} MB over {collective.group} chips, "
        f"{collective.times:g} times: {collective.source[:120]}"
    )
