"""A plan as text for people and as plain values for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vqa_jax.devices.topology import Topology
from vqa_jax.models.flops import FORMULA
from vqa_jax.planning.plan import STAGE_PAIRS, StepPlan


def chip_hours(plan: StepPlan, topology: Topology) -> float | None:
    """Chip hours of the first stage's pairs at the roofline's pace; None without one."""
    if plan.step != "train" or not plan.seconds:
        return None
    return STAGE_PAIRS / plan.pairs * plan.seconds["step"] * len(topology.devices) / 3600


def videos_an_hour(plans: Sequence[StepPlan], topology: Topology) -> float | None:
    """Videos that a chip scores in an hour at the roofline's pace; None without one."""
    steps = {plan.step: plan for plan in plans}
    if not {"encode", "suffix"} <= steps.keys() or not all(plan.seconds for plan in plans):
        return None
    seconds = steps["encode"].seconds["step"] + steps["suffix"].seconds["step"]
    return 3600 * steps["encode"].pairs / seconds / len(topology.devices)


def as_dict(plans: Sequence[StepPlan], topology: Topology, mesh: Sequence[int]) -> dict[str, Any]:
    """Plain values: bytes, operations and seconds, as StepPlan names them."""
    steps = {}
    for plan in plans:
        steps[plan.step] = {
            **dataclasses.asdict(plan),
            "start_memory": plan.memory.start,
            "fits": plan.memory.spare is None or plan.memory.spare >= 0,
            "stage_chip_hours": chip_hours(plan, topology),
        }
    chip = dataclasses.asdict(topology.chip) if topology.chip else None
    return {
        "topology": topology.name,
        "chips": len(topology.devices),
        "chip": chip,
        "mesh": list(mesh),
        "videos_a_chip_hour": videos_an_hour(plans, topology),
        "formula": FORMULA,
        "steps": steps,
    }


def render(plans: Sequence[StepPlan], topology: Topology, mesh: Sequence[int]) -> str:
    """The plans as text, one block a step."""
    chips = len(topology.devices)
    lines = [f"{topology.name}: {chips} chips, mesh (data, fsdp, tensor) = {tuple(mesh)}"]
    if topology.chip:
        chip = topology.chip
        lines.append(
            f"a chip: {chip.peak / 1e12:g} TFLOP/s bf16, {chip.int8_peak / 1e12:g} int8, "
            f"{chip.memory / 1e9:g} GB at "
            f"{chip.bandwidth / 1e9:g} GB/s, interconnect {chip.links / 1e9:g} GB/s ({chip.source})"
        )
    for plan in plans:
        lines += ["", *_step(plan, topology)]
    videos = videos_an_hour(plans, topology)
    if videos is not None:
        lines += [
            "",
            f"scoring: at most {videos:,.0f} videos a chip hour, each against all anchors",
        ]
    return "\n".join([*lines, "", FORMULA])


def _gb(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.2f} GB"


def _step(plan: StepPlan, topology: Topology) -> list[str]:
    memory, chips = plan.memory, len(topology.devices)
    what = "videos" if plan.step == "encode" else "pairs"
    lines = [f"{plan.step}: {plan.pairs} {what} of {plan.tokens} tokens"]
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
        parts = ", ".join(f"{k} {v * 1e3:.4g}" for k, v in plan.seconds.items() if k != "step")
        lines.append(f"  roofline        {plan.seconds['step'] * 1e3:.4g} ms a step ({parts} ms)")
        lines.append(f"  MFU at most     {plan.mfu:.3f}")
    hours = chip_hours(plan, topology)
    if hours is not None:
        lines.append(
            f"  {STAGE_PAIRS:,} pairs   at least {hours:,.0f} chip hours, "
            f"{hours / chips:.1f} hours on these {chips} chips"
        )
    lines.append(f"  compiled in     {plan.compile_seconds:.0f} s")
    return lines
