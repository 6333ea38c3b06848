"""Which mesh, batch, recomputation, attention and parts a run takes: estimated, then compiled.

    python -m vqa_jax plan --config ov_7b --topology v5e:8x8 --search

An estimate needs no compiler: state by its shardings; what the backward pass reads (`residuals`),
executed operations and what products move over HBM from the jaxprs of one pair and of two; what
travels from the rules of `devices.sharding`. It leaves out what XLA makes of it, so the best few
are compiled, except for GPUs, whose compiler is not at hand.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from vqa_jax.devices import sharding as parallel
from vqa_jax.devices.execution import REMAT_POLICIES
from vqa_jax.devices.topology import Topology
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.planning import flops, plan, residuals, roofline, text
from vqa_jax.planning.compiled import StepPlan
from vqa_jax.planning.shapes import PromptSize, abstract_batch, pair_shape, shard_bytes
from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import optim
from vqa_jax.training import step as step_lib
from vqa_jax.weights.bundle import StudentSpec

_MOST_TENSOR = 8  # devices that split a layer: more than a TPU's board gains nothing
_MOST_PARTS = 16
_ROWS = (1, 2, 4, 8)  # pairs of a device that holds whole layers, where no batch is asked for
_COMPILED, _SHOWN = 3, 12  # of the choices
_HALF = 2  # bytes of a number that travels, or that a layer computes with


@dataclasses.dataclass(frozen=True)
class Choice:
    """mesh: sizes of data, fsdp, tensor; remat, accumulate, attention: see
    `training.step.StepConfig`; pairs: global batch."""

    mesh: tuple[int, int, int]
    remat: str
    accumulate: int
    pairs: int
    attention: str


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a choice takes.

    Attributes:
      choice: it.
      memory: bytes of a device: state, gradients, what the backward pass reads, two layers.
      seconds: {arithmetic, hbm, interconnect, network (of several slices), step: the largest,
        apart: their sum} of a step.
    """

    choice: Choice
    memory: float
    seconds: dict[str, float]

    @property
    def pace(self) -> float:
        """Seconds a pair, if nothing overlaps."""
        return self.seconds["apart"] / self.choice.pairs


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
class _State:
    """Of a mesh. Bytes of a device: all of the state, its moments, what is trained; numbers of
    all devices: weights, and those that are learnt."""

    held: int
    moments: int
    trained: int
    weights: int
    learnt: int

    @classmethod
    def of(cls, state: step_lib.TrainState, trainable: Any) -> _State:
        """Of abstract arrays with their shardings."""
        trained, _ = optim.split(state["params"], trainable)
        sizes = (sum(x.size for x in jax.tree.leaves(t)) for t in (state["params"], trained))
        return cls(
            *(shard_bytes(state), shard_bytes(state["opt_state"]), shard_bytes(trained)), *sizes
        )


@dataclasses.dataclass(frozen=True)
class Search:
    """What choices are made for.

    Attributes:
      student: architecture.
      config: of the step; its remat and accumulate are replaced, and its attention if "auto".
      spec: how the student sees videos.
      prompt: sizes of its prompt.
      pairs: global batch; None: one to eight pairs for each of the devices that share it.
      answer: "level" or "sentence".
      tokens: length to pad sequences to; None: as long as a pair of most frames is.
      topology: the chips, whose facts are known.
      context: devices that share each sequence.
    """

    student: FunctionalStudent
    config: step_lib.StepConfig
    spec: StudentSpec
    prompt: PromptSize
    pairs: int | None
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
        """A run's search, for a global batch of `pairs`."""
        prompt, config = plan.step_of_run(settings, spec)
        return cls(
            FunctionalStudent(with_additions(spec.student, settings.lora_rank, settings.lora_base)),
            config,
            spec,
            prompt,
            pairs,
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
        """Estimates of all choices, those that fit first, the fastest a pair first among them.

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
        # The platform's own kernel, and XLA's.
        kinds = ("auto", "xla") if self.config.attention == "auto" else (self.config.attention,)
        of_pair = {(r, a): self._pair(r, a) for r in REMAT_POLICIES for a in kinds}
        found, refused = [], None
        for sizes in possible:
            mesh = parallel.make_mesh(sizes, self.topology.devices, self.context)
            state = step_lib.abstract_state(self.student, self.config, mesh)
            try:
                parallel.check_replication(state, mesh)
            except parallel.ReplicationError as error:  # as training would be
                refused = error
                continue
            held = _State.of(state, self.config.trainable)
            for choice in self._choices(sizes, kinds):
                pair = of_pair[choice.remat, choice.attention]
                found.append(self._estimate(choice, pair, held))
        if refused and not found:
            raise refused
        return ranked(found, self.topology.chip.memory)

    def compiled(self, choice: Choice) -> StepPlan:
        """The plan of a choice."""
        mesh = parallel.make_mesh(choice.mesh, self.topology.devices, self.context)
        names = ("remat", "accumulate", "attention")
        chosen = {name: getattr(choice, name) for name in names}
        config = dataclasses.replace(self.config, **chosen)
        shape = pair_shape(self.spec, self.prompt, choice.pairs, self.answer, self.tokens)
        return plan.plan_training(self.student, config, self.spec, shape, self.topology, mesh)

    def _meshes(self) -> Iterator[tuple[int, int, int]]:
        """Sizes over which the batch, the slices and the heads divide."""
        heads = self.student.cfg.llm.num_heads
        for sizes in meshes(self.topology, heads, self.context):
            if not self.pairs or self.pairs % (sizes[0] * sizes[1]) == 0:
                yield sizes

    def _choices(self, sizes: tuple[int, int, int], kinds: Sequence[str]) -> Iterator[Choice]:
        ways = sizes[0] * sizes[1]
        each = [self.pairs // ways] if self.pairs else _ROWS
        for remat, kind, rows in itertools.product(REMAT_POLICIES, kinds, each):
            for parts in range(1, min(rows, _MOST_PARTS) + 1):
                if rows % parts == 0:
                    yield Choice(sizes, remat, parts, ways * rows, kind)

    def _pair(self, remat: str, attention: str) -> _Pair:
        logging.info("reading steps of one pair and two: remat %s, attention %s", remat, attention)
        one, two = (self._jaxpr(remat, attention, pairs) for pairs in (1, 2))
        count = flops.count_jaxpr(one)
        moved = flops.count_jaxpr(two).moved - count.moved
        # GPUs compile layer by layer, unless told otherwise (`training.step.StepConfig.unroll`).
        fused = self.topology.stand_ins and not self.config.unroll
        kept = residuals.fused_bytes if fused else residuals.stacked_bytes
        return _Pair(count.total, count.int8, kept(one.jaxpr), moved, count.moved - moved)

    def _jaxpr(self, remat: str, attention: str, pairs: int) -> Any:
        """Of the step of so many pairs on one of the devices."""
        mesh = parallel.make_mesh((1, 1, 1), self.topology.devices[:1])
        if self.topology.stand_ins and attention != "xla":
            attention = "splash"  # cuDNN's is traced with CUDA alone; this one too keeps no scores
        chosen = {"remat": remat, "attention": attention, "accumulate": 1}
        config = dataclasses.replace(self.config, **chosen)
        state = step_lib.abstract_state(self.student, config, mesh)
        shape = pair_shape(self.spec, self.prompt, pairs, self.answer, self.tokens)
        step = step_lib.make_train_step(self.student, config, mesh)
        return step.trace(state, abstract_batch(self.spec, shape, mesh)).jaxpr

    def _estimate(self, choice: Choice, pair: _Pair, state: _State) -> Estimate:
        chip, (data, fsdp, tensor) = self.topology.chip, choice.mesh
        sharers = fsdp * self.context  # devices over which a weight's width lies
        rows, share = choice.pairs // (data * fsdp), choice.pairs / len(self.topology.devices)
        cfg, layers = self.student.cfg.llm, self.student.cfg.llm.num_layers
        shape = pair_shape(self.spec, self.prompt, 1, self.answer, self.tokens)
        width = jnp.dtype(self.student.cfg.compute_dtype).itemsize
        memory = (
            state.held
            + state.trained  # gradients
            # What computes in fewer bits than it is kept in: of a device, and of two layers whole.
            + (width < 4) * state.trained * width / 4
            + 2 * _HALF * state.weights / tensor / layers
            + pair.saved * rows / choice.accumulate / self.context
            # Logits and their gradient, in float32.
            + 8 * rows / choice.accumulate * shape.answers * cfg.vocab_size / tensor
        )
        moved = (pair.moved * rows / self.context + pair.weights * choice.accumulate) / tensor
        # The optimizer reads and writes its state and what is trained.
        moved += 2 * (state.moments + state.trained)
        # A layer's weights are gathered for both passes of every part; gradients are scattered in
        # halves, and summed over `data` in full.
        gathered = 2 * choice.accumulate * _HALF * state.weights / tensor * (sharers - 1) / sharers
        scattered = choice.accumulate * _HALF * state.learnt / tensor * (sharers - 1) / sharers
        summed = 2 * state.trained * (data - 1) / data
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
            crossing = 2 * (self.topology.slices - 1) / data * state.trained
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
    return sorted(found, key=lambda e: (e.memory > memory, e.pace, e.memory))


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
        "  data,fsdp,tensor  pairs  remat        attention  parts      GB  arithmetic     HBM  sent"
        "  ms a step, a pair",
    ]
    for one in found.estimates[:_SHOWN]:
        sizes, paces = ",".join(map(str, one.choice.mesh)), one.seconds
        sent = paces["interconnect"] + paces.get("network", 0.0)
        lines.append(
            f"  {sizes:<16}  {one.choice.pairs:>5}  {one.choice.remat:<11}  "
            f"{one.choice.attention:<9}  {one.choice.accumulate:>5}  "
            f"{one.memory / 1e9:>6.1f}  {paces['arithmetic'] * 1e3:>10.1f}  "
            f"{paces['hbm'] * 1e3:>6.1f}  {sent * 1e3:>4.0f}  "
            f"{paces['step'] * 1e3:.1f} to {paces['apart'] * 1e3:.1f}, {one.pace * 1e3:.1f}"
        )
    lines += ["", roofline.REAL_IN_WORDS] if not found.plans else []
    for estimate, one in zip(found.estimates, found.plans, strict=False):
        choice = estimate.choice
        head = f"remat {choice.remat}, accumulate {choice.accumulate}, attention {choice.attention}"
        lines += ["", head, text.render([one], topology, choice.mesh)]
    return "\n".join(lines)
