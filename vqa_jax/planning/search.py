"""Which mesh, recomputation and parts of a batch a run takes: estimated, then compiled.

    python -m vqa_jax plan --config ov_7b --topology v5e:8x8 --search

An estimate needs no compiler: state by its shardings; what the backward pass reads, executed
operations and what products move over HBM from the jaxprs of one pair and of two; what travels from
the rules of `devices.sharding`. It leaves out what XLA makes of it, so the best few are compiled,
except for GPUs, whose compiler is not at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from absl import logging

from vqa_jax.devices import sharding as parallel
from vqa_jax.devices.execution import REMAT_POLICIES
from vqa_jax.devices.topology import Topology
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.planning import flops, plan, roofline, text
from vqa_jax.planning.compiled import StepPlan
from vqa_jax.planning.shapes import PromptSize, abstract_batch, pair_shape, shard_bytes
from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import optim
from vqa_jax.training import step as step_lib
from vqa_jax.weights.bundle import StudentSpec

_MOST_TENSOR = 8  # devices that split a layer: more than a TPU's board gains nothing
_MOST_PARTS = 16
_COMPILED, _SHOWN = 3, 12  # of the choices
_HALF = 2  # bytes of a number that travels, or that a layer computes with


@dataclasses.dataclass(frozen=True)
class Choice:
    """mesh: sizes of data, fsdp, tensor; remat, accumulate: see `training.step.StepConfig`."""

    mesh: tuple[int, int, int]
    remat: str
    accumulate: int


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a choice takes.

    Attributes:
      choice: it.
      memory: bytes of a device: state, gradients, what the backward pass reads, two layers.
      seconds: {arithmetic, hbm, interconnect, network (of several slices), step: the largest,
        apart: their sum}.
    """

    choice: Choice
    memory: float
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Found:
    """All estimates, the best first, and the plans of the first of them; none for GPUs."""

    estimates: Sequence[Estimate]
    plans: Sequence[StepPlan]

    def fits(self, topology: Topology) -> bool:
        """Whether a compiled one fits; where nothing was compiled, an estimated one."""
        if self.plans:
            return any(one.memory.spare >= 0 for one in self.plans)
        return any(one.memory <= topology.chip.memory for one in self.estimates)


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Of one pair on one device.

    executed: operations; int8: those on whole numbers. saved: bytes that the backward pass reads.
    moved: bytes over HBM of each pair; weights: those of the weights, however many pairs.
    """

    executed: float
    int8: float
    saved: float
    moved: float
    weights: float


@dataclasses.dataclass(frozen=True)
class Search:
    """What choices are made for.

    Attributes:
      student: architecture.
      config: of the step; its remat and accumulate are replaced.
      spec: how the student sees videos.
      prompt: sizes of its prompt.
      pairs: global batch.
      answer: "level" or "sentence".
      tokens: length to pad sequences to; None: as long as a pair of most frames is.
      topology: the chips, whose facts are known.
      context: devices that share each sequence.
    """

    student: FunctionalStudent
    config: step_lib.StepConfig
    spec: StudentSpec
    prompt: PromptSize
    pairs: int
    answer: str
    tokens: int | None
    topology: Topology
    context: int = 1

    @classmethod
    def of(
        cls,
        settings: TrainConfig,
        spec: StudentSpec,
        topology: Topology,
        pairs: int | None = None,
        tokens: int | None = None,
    ) -> Search:
        """A run's search; `pairs` instead of its batch."""
        prompt, config = plan.step_of_run(settings, spec)
        return cls(
            FunctionalStudent(with_additions(spec.student, settings.lora_rank, settings.lora_base)),
            config,
            spec,
            prompt,
            pairs or settings.input.batch_size,
            settings.input.answer,
            tokens,
            topology,
            settings.context,
        )

    def best(self) -> Found:
        """Estimates all choices, and compiles the best few where there is a compiler."""
        found = self.estimates()
        if self.topology.stand_ins:
            return Found(found, [])
        return Found(found, [self.compiled(one.choice) for one in found[:_COMPILED]])

    def estimates(self) -> list[Estimate]:
        """Estimates of all choices, those that fit first, the fastest first among them.

        Raises:
          SettingsError: nothing is known of the chips, or the batch divides over no mesh.
          ReplicationError: training would refuse every mesh.
        """
        require_peaks(self.topology)
        possible = list(self._meshes())
        if not possible:
            raise SettingsError(
                f"{self.pairs} pairs divide over {len(self.topology.devices)} devices in no way: "
                "give --pairs"
            )
        by_remat = {remat: self._pair(remat) for remat in REMAT_POLICIES}
        found, refused = [], None
        for sizes in possible:
            mesh = parallel.make_mesh(sizes, self.topology.devices, self.context)
            state = step_lib.abstract_state(self.student, self.config, mesh)
            try:
                parallel.check_replication(state, mesh)
            except parallel.ReplicationError as error:  # as training would be
                refused = error
                continue
            found += [self._estimate(c, by_remat[c.remat], state) for c in self._choices(sizes)]
        if refused and not found:
            raise refused
        return ranked(found, self.topology.chip.memory)

    def compiled(self, choice: Choice) -> StepPlan:
        """The plan of a choice."""
        mesh = parallel.make_mesh(choice.mesh, self.topology.devices, self.context)
        config = dataclasses.replace(self.config, remat=choice.remat, accumulate=choice.accumulate)
        shape = pair_shape(self.spec, self.prompt, self.pairs, self.answer, self.tokens)
        return plan.plan_training(self.student, config, self.spec, shape, self.topology, mesh)

    def _meshes(self) -> Iterator[tuple[int, int, int]]:
        """Sizes over which the batch, the slices and the heads divide."""
        heads = self.student.cfg.llm.num_heads
        for sizes in meshes(self.topology, heads, self.context):
            if self.pairs % (sizes[0] * sizes[1]) == 0:
                yield sizes

    def _choices(self, sizes: tuple[int, int, int]) -> Iterator[Choice]:
        rows = self.pairs // (sizes[0] * sizes[1])
        for remat in REMAT_POLICIES:
            for parts in range(1, min(rows, _MOST_PARTS) + 1):
                if rows % parts == 0:
                    yield Choice(sizes, remat, parts)

    def _pair(self, remat: str) -> _Pair:
        logging.info("reading the steps of one pair and of two, remat %s", remat)
        one, two = (self._jaxpr(remat, pairs) for pairs in (1, 2))
        count = flops.count_jaxpr(one)
        moved = flops.count_jaxpr(two).moved - count.moved
        return _Pair(count.total, count.int8, saved_bytes(one.jaxpr), moved, count.moved - moved)

    def _jaxpr(self, remat: str, pairs: int) -> Any:
        """Of the step of so many pairs on one of the devices."""
        mesh = parallel.make_mesh((1, 1, 1), self.topology.devices[:1])
        config = dataclasses.replace(self.config, remat=remat, accumulate=1)
        if self.topology.stand_ins and config.attention != "xla":
            # cuDNN's kernel is traced with CUDA alone; this one too keeps no scores.
            config = dataclasses.replace(config, attention="splash")
        state = step_lib.abstract_state(self.student, config, mesh)
        shape = pair_shape(self.spec, self.prompt, pairs, self.answer, self.tokens)
        step = step_lib.make_train_step(self.student, config, mesh)
        return step.trace(state, abstract_batch(self.spec, shape, mesh)).jaxpr

    def _estimate(self, choice: Choice, pair: _Pair, state: step_lib.TrainState) -> Estimate:
        chip, (data, fsdp, tensor) = self.topology.chip, choice.mesh
        sharers = fsdp * self.context  # devices over which a weight's width lies
        trained, _ = optim.split(state["params"], self.config.trainable)
        rows, share = self.pairs // (data * fsdp), self.pairs / len(self.topology.devices)
        cfg, layers = self.student.cfg.llm, self.student.cfg.llm.num_layers
        shape = pair_shape(self.spec, self.prompt, 1, self.answer, self.tokens)
        weights = sum(x.size for x in jax.tree.leaves(state["params"]))
        learnt = sum(x.size for x in jax.tree.leaves(trained))
        memory = (
            shard_bytes(state)
            + shard_bytes(trained)  # gradients
            + pair.saved * rows / choice.accumulate / self.context
            + 2 * _HALF * weights / tensor / layers
            # Logits and their gradient, in float32.
            + 8 * rows / choice.accumulate * shape.answers * cfg.vocab_size / tensor
        )
        moved = (pair.moved * rows / self.context + pair.weights * choice.accumulate) / tensor
        # The optimizer reads and writes its state and what is trained.
        moved += 2 * (shard_bytes(state["opt_state"]) + shard_bytes(trained))
        # A layer's weights are gathered for both passes of every part; gradients are scattered in
        # halves, and summed over `data` in full.
        gathered = 2 * choice.accumulate * _HALF * weights / tensor * (sharers - 1) / sharers
        scattered = choice.accumulate * _HALF * learnt / tensor * (sharers - 1) / sharers
        summed = 2 * shard_bytes(trained) * (data - 1) / data
        passes = 4 + 2 * (choice.remat == "full")  # sums of a layer's outputs, two a pass
        passed = passes / 2 * layers * rows * shape.tokens * _HALF
        sums = 2 * passed * cfg.embed_dim / self.context * 2 * (tensor - 1) / tensor
        # Keys and values, or their gradients, once a pass.
        shared = passed * 2 * cfg.num_kv_heads * cfg.head_dim * (self.context - 1) / self.context
        weights_sent = gathered + scattered, sharers
        sent = weights_sent, (summed, data), (sums, tensor), (shared, self.context)
        seconds = {
            "arithmetic": roofline.arithmetic(pair.executed, pair.int8, chip) * share,
            "hbm": moved / chip.bandwidth,
            "interconnect": sum(
                size / (chip.links * self.topology.link_share(group)) for size, group in sent
            ),
        }
        if self.topology.slices > 1:
            # Each device's share of what a slice has summed, once there and once back.
            crossing = 2 * (self.topology.slices - 1) / data * shard_bytes(trained)
            seconds["network"] = crossing / chip.network
        return Estimate(choice, memory, roofline.with_paces(seconds))


def require_peaks(topology: Topology) -> None:
    """Raises SettingsError where nothing is known of the chips."""
    if topology.chip is None:
        raise SettingsError(f"{topology.name}: --search needs chips whose peaks are known")


def meshes(topology: Topology, heads: int, context: int = 1) -> Iterator[tuple[int, int, int]]:
    """Sizes of data, fsdp and tensor over which the slices and so many heads divide."""
    devices, rest = divmod(len(topology.devices), context)
    for tensor in () if rest else range(1, _MOST_TENSOR + 1):
        if devices % tensor or heads % tensor:
            continue
        ways = devices // tensor
        for data in range(1, ways + 1):
            if ways % data == 0 and data % topology.slices == 0:
                yield data, ways // data, tensor


def ranked(found: Sequence[Estimate], memory: float) -> list[Estimate]:
    """Those that fit into `memory` bytes first, the fastest first among them."""
    return sorted(found, key=lambda e: (e.memory > memory, e.seconds["apart"], e.memory))


def saved_bytes(jaxpr: Any) -> float:
    """Bytes that forward scans stack for the backward pass, which runs them in reverse."""
    total = 0.0
    for equation in jaxpr.eqns:
        params = equation.params
        if equation.primitive.name == "scan":
            if not params["reverse"]:
                # What is stacked has a step more of rank than what the body gives; what is carried
                # has not. How many there are of each, JAX keeps under other names in every version.
                pairs = zip(equation.outvars, params["jaxpr"].jaxpr.outvars, strict=True)
                stacked = [v.aval for v, one in pairs if v.aval.ndim > one.aval.ndim]
                total += sum(aval.size * aval.dtype.itemsize for aval in stacked)
            continue
        for inner in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                total += saved_bytes(getattr(inner, "jaxpr", inner))
    return total


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def as_dict(found: Found, topology: Topology) -> dict[str, Any]:
    """Plain values."""
    compiled = [
        {**text.as_dict([one], topology, estimate.choice.mesh), **dataclasses.asdict(estimate)}
        for estimate, one in zip(found.estimates, found.plans, strict=False)
    ]
    return {
        "topology": topology.name,
        "chip": dataclasses.asdict(topology.chip),
        "estimates": list(map(dataclasses.asdict, found.estimates)),
        "compiled": compiled,
        "real_over_apart": roofline.REAL,
    }


def render(found: Found, topology: Topology) -> str:
    """The first estimates as text, and the plans."""
    fits = sum(one.memory <= topology.chip.memory for one in found.estimates)
    compiled = "" if found.plans else ", nothing was compiled"
    lines = [
        f"{topology.name}: estimates{compiled} ({topology.chip.source})",
        f"{len(found.estimates)} choices, of which {fits} fit by estimate; the first:",
        "  data,fsdp,tensor  remat      parts      GB  arithmetic     HBM  sent  ms a step",
    ]
    for one in found.estimates[:_SHOWN]:
        sizes, paces = ",".join(map(str, one.choice.mesh)), one.seconds
        sent = paces["interconnect"] + paces.get("network", 0.0)
        lines.append(
            f"  {sizes:<16}  {one.choice.remat:<9}  {one.choice.accumulate:>5}  "
            f"{one.memory / 1e9:>6.1f}  {paces['arithmetic'] * 1e3:>10.1f}  "
            f"{paces['hbm'] * 1e3:>6.1f}  {sent * 1e3:>4.0f}  "
            f"{paces['step'] * 1e3:.1f} to {paces['apart'] * 1e3:.1f}"
        )
    lines += ["", roofline.REAL_IN_WORDS] if not found.plans else []
    for estimate, one in zip(found.estimates, found.plans, strict=False):
        choice = estimate.choice
        head = f"remat {choice.remat}, accumulate {choice.accumulate}"
        lines += ["", head, text.render([one], topology, choice.mesh)]
    return "\n".join(lines)
