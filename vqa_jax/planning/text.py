"""A plan as text for people and as plain values for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vqa_jax.devices.sharding import CONTEXT, MESH_AXES
from vqa_jax.devices.topology import Topology
from vqa_jax.models.flops import FORMULA
from vqa_jax.planning import roofline
from vqa_jax.planning.compiled import StepPlan

STAGE_PAIRS = 500_000  # of the first stage (method 3.3)


def chip_hours(plan: StepPlan, topology: Topology, pace: str = "step") -> float | None:
    """Chip hours of the first stage's pairs at the roofline's pace; None without one.

    Args:
      plan: of a training step.
      topology: the chips.
      pace: "step" or "apart", see `StepPlan.seconds`.
    """
    if plan.step != "train" or not plan.seconds:
        return None
    return STAGE_PAIRS / plan.pairs * plan.seconds[pace] * topology.chips / 3600


def videos_an_hour(
    plans: Sequence[StepPlan], topology: Topology, pace: str = "step"
) -> float | None:
    """Videos that a chip scores in an hour at the roofline's pace (see `chip_hours`)."""
    steps = {plan.step: plan for plan in plans}
    if not {"encode", "suffix"} <= steps.keys() or not all(plan.seconds for plan in plans):
        return None
    seconds = steps["encode"].seconds[pace] + steps["suffix"].seconds[pace]
    return 3600 * steps["encode"].pairs / seconds / topology.chips


def as_dict(plans: Sequence[StepPlan], topology: Topology, mesh: Sequence[int]) -> dict[str, Any]:
    """Plain values: bytes, operations and seconds, as StepPlan names them."""
    steps = {}
    for plan in plans:
        steps[plan.step] = {
            **dataclasses.asdict(plan),
            "start_memory": plan.memory.start,
            "fits": plan.memory.spare is None or plan.memory.spare >= 0,
            "stage_chip_hours": chip_hours(plan, topology),
            "stage_chip_hours_apart": chip_hours(plan, topology, "apart"),
        }
    chip = dataclasses.asdict(topology.chip) if topology.chip else None
    return {
        "topology": topology.name,
        "chips": topology.chips,
        "devices": len(topology.devices),
        "slices": topology.slices,
        "chip": chip,
        "mesh": list(mesh),
        "videos_a_chip_hour": videos_an_hour(plans, topology),
        "videos_a_chip_hour_apart": videos_an_hour(plans, topology, "apart"),
        "formula": FORMULA,
        "real_over_apart": roofline.REAL,
        "steps": steps,
    }


def render(plans: Sequence[StepPlan], topology: Topology, mesh: Sequence[int]) -> str:
    """The plans as text, one block a step."""
    slices = f" in {topology.slices} slices" if topology.slices > 1 else ""
    axes = ", ".join((*MESH_AXES, CONTEXT)[: len(mesh)])
    lines = [f"{topology.name}: {topology.chips} chips{slices}, mesh ({axes}) = {tuple(mesh)}"]
    if topology.chip:
        chip = topology.chip
        what = "chip" if chip.devices == 1 else f"device, of {chip.devices} on a chip"
        lines.append(
            f"a {what}: {chip.peak / 1e12:g} TFLOP/s bf16, {chip.int8_peak / 1e12:g} int8, "
            f"{chip.memory / 1e9:g} GB at "
            f"{chip.bandwidth / 1e9:g} GB/s, interconnect {chip.links / 1e9:g} GB/s ({chip.source})"
        )
    for plan in plans:
        lines += ["", *_step(plan, topology)]
    videos = videos_an_hour(plans, topology)
    if videos is not None:
        lines += [
            "",
            f"scoring: at most {videos:,.0f} videos a chip hour, each against all anchors; "
            f"{videos_an_hour(plans, topology, 'apart'):,.0f} if nothing overlaps",
        ]
    return "\n".join([*lines, "", FORMULA, roofline.REAL_IN_WORDS])


def _gb(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.2f} GB"


def _step(plan: StepPlan, topology: Topology) -> list[str]:
    memory, chips = plan.memory, topology.chips
    what = "videos" if plan.step == "encode" else "pairs"
    lines = [f"{plan.step}: {plan.pairs} {what} of {plan.tokens} tokens"]
    if plan.asked:
        lines.append(
            f"  NOT THE RUN'S   {plan.asked} {what}, which do not divide over the mesh: planned "
            f"with {plan.pairs}"
        )
    fit = "no limit known"
    if memory.spare is not None:
        fit = "fits" if memory.spare >= 0 else "DOES NOT FIT"
        fit += f", {_gb(abs(memory.spare))} {'to spare' if memory.spare >= 0 else 'too much'}"
    lines.append(f"  memory a chip   {_gb(memory.total)}: {fit}")
    lines.append(
        f"    parameters {_gb(memory.params)}, optimizer {_gb(memory.optimizer)}, batch "
        f"{_gb(memory.batch)}, temporaries {_gb(memory.temporaries)}, program {_gb(memory.program)}"
    )
    lines.append(f"    while it starts {_gb(memory.start)}")
    lines.append(
        f"  FLOPs           model {plan.model / 1e12:.4g} T, executed {plan.executed / 1e12:.4g} T "
        f"({plan.model / plan.executed:.3f}), {plan.kernels / 1e12:.4g} T in kernels, "
        f"{plan.int8 / 1e12:.4g} T in int8; all chips"
    )
    if plan.hbm is not None and plan.interconnect is not None:
        lines.append(
            f"  bytes a chip    HBM {_gb(plan.hbm)}, interconnect {_gb(plan.interconnect)}"
        )
    for kind, row in plan.collectives.items():
        lines.append(f"    {kind:<20} {row['count']:>6g} times {row['gigabytes']:>9.4f} GB sent")
    lines += [f"    {text}" for text in plan.largest]
    if plan.seconds:
        paces = {k: f"{v * 1e3:.4g}" for k, v in plan.seconds.items()}
        step, apart = paces.pop("step"), paces.pop("apart")
        parts = ", ".join(f"{k} {v}" for k, v in paces.items())
        lines.append(
            f"  roofline        {step} ms a step if all overlaps, {apart} if nothing does "
            f"({parts} ms)"
        )
        lines.append(f"  MFU at most     {plan.mfu:.3f}; {plan.mfu_apart:.3f} if nothing overlaps")
    hours = chip_hours(plan, topology)
    if hours is not None:
        lines.append(
            f"  {STAGE_PAIRS:,} pairs   at least {hours:,.0f} chip hours, "
            f"{hours / chips:.1f} hours on these {chips} chips; "
            f"{chip_hours(plan, topology, 'apart'):,.0f} if nothing overlaps"
        )
    lines.append(f"  compiled in     {plan.compile_seconds:.0f} s")
    return lines
