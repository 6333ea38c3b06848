"""The least time of a step: each of its resources at its published peak."""

from __future__ import annotations

from vqa_jax.devices.topology import Chip, Topology
from vqa_jax.planning import flops, hlo

# What really ran took so many times as long as bounds say if nothing overlaps: README.md.
REAL = (1.5, 2.1)
REAL_IN_WORDS = (
    f"what really ran took {REAL[0]} to {REAL[1]} times as long as if nothing overlapped "
    "(vqa_jax/planning/README.md)"
)


def arithmetic(total: float, int8: float, chip: Chip) -> float:
    """Seconds that a chip takes for so many operations, of which `int8` are on whole numbers."""
    return (total - int8) / chip.peak + int8 / chip.int8_peak


def bounds(count: flops.Count, traffic: hlo.Traffic | None, topology: Topology) -> dict[str, float]:
    """Lower bounds in seconds, as `compiled.StepPlan.seconds` names them.

    Args:
      count: operations of all chips.
      traffic: of one device; None: the step was not compiled.
      topology: the chips; without facts of them there is no bound.
    """
    if topology.chip is None or traffic is None:
        return {}
    chip = topology.chip
    parts = {
        "arithmetic": arithmetic(count.total, count.int8, chip) / len(topology.devices),
        "hbm": traffic.hbm / chip.bandwidth,
        "interconnect": sum(
            c.sent / (chip.links * topology.link_share(c.group)) for c in traffic.collectives
        ),
    }
    if topology.slices > 1:  # a sum over them: what each has is sent, and what it became
        share = 2 * (topology.slices - 1) / topology.slices
        parts["network"] = share * traffic.network / chip.network
    return with_paces(parts)


def with_paces(seconds: dict[str, float]) -> dict[str, float]:
    """With `step`, if all went on at once, and `apart`, if nothing did."""
    return seconds | {"step": max(seconds.values()), "apart": sum(seconds.values())}
