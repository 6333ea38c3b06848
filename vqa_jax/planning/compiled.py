"""One step, compiled ahead of time for chips that are not at hand, and what it takes there.

The memory is the compiler's own account of one chip; arithmetic comes from the jaxpr (`flops`),
traffic from the compiled program (`hlo`). The roofline is a bound: a step takes at least as long as
the slowest of arithmetic, HBM and interconnect, each at its published peak; as long as all of them
together, where nothing overlaps.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

from vqa_jax.devices.topology import Topology
from vqa_jax.models.flops import PairShape
from vqa_jax.planning import flops, hlo, roofline
from vqa_jax.weights import rules


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


def compile_step(
    name: str,
    shape: PairShape,
    step: Any,
    inputs: tuple[Any, ...],
    given: tuple[int, int, int],
    model: float,
    topology: Topology,
) -> StepPlan:
    """Compiles a step for chips that need not be at hand.

    Args:
      name: of the step, as StepPlan has it.
      shape: its global batch.
      step: jitted.
      inputs: shapes with shardings, or values.
      given: bytes of a device's shards of parameters, optimizer and batch.
      model: model FLOPs of all chips.
      topology: the chips.
    """
    traced = step.trace(*inputs)
    count = flops.count_jaxpr(traced.jaxpr)
    if count.unknown_loops:
        logging.warning("%s: %d loops of unknown length count once", name, count.unknown_loops)
    started = time.monotonic()
    lowered = traced.lower()
    try:
        compiled, text = compiled_text(lowered, topology)
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


def compiled_text(lowered: Any, topology: Topology) -> tuple[Any, str]:
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
