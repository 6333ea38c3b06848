"""What XLA makes of the 7B student's steps, beside the table of what it made of them before."""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import logging

from configs import ov_7b
from vqa_jax.cli.train import run_of
from vqa_jax.devices import sharding, topology
from vqa_jax.planning import plan, scoring
from vqa_jax.planning.compiled import StepPlan

TABLE = pathlib.Path(__file__).resolve().parents[2] / "tests/launch/compiled_7b.json"
TOPOLOGIES = ("v5e:8x8", "v6e:8x8")
# What is compiled for each: the decoder frozen, everything trained, scoring; and on which mesh.
JOBS: dict[str, tuple[int, int, int] | None] = {
    "authors": (8, 8, 1),
    "paper": (1, 64, 1),
    "score": None,  # scoring's own rule
}
_PAIRS = 64


def names() -> list[str]:
    """Of all rows of the table."""
    return [f"{chips} {job}" for chips in TOPOLOGIES for job in JOBS]


def versions() -> dict[str, str]:
    """Of what compiles."""
    return {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}


def compiled(name: str) -> dict[str, dict[str, Any]]:
    """Compiles what a row of the table names; {step: its facts}."""
    logging.info("compiling %s", name)
    place, job = name.split()
    chips, sizes = topology.open_topology(place), JOBS[job]
    if sizes is None:
        settings, spec = run_of(ov_7b.get_config(), lambda _: "")
        steps, mesh = "score", scoring.scoring_mesh(spec, chips, None)
    else:
        settings, spec = run_of(ov_7b.get_config(job), lambda _: "")
        steps, mesh = "train", sharding.make_mesh(sizes, chips.devices)
    plans = plan.plan_run(settings, spec, chips, mesh, steps, _PAIRS)
    return {one.step: facts(one) for one in plans}


def facts(one: StepPlan) -> dict[str, Any]:
    """What the table keeps of a step: bytes of a chip, operations of all of them."""
    return {
        "pairs": one.pairs,
        "tokens": one.tokens,
        "peak_gb": round(one.memory.total / 1e9, 4),
        "hbm_gb": round((one.hbm or 0) / 1e9, 3),
        "executed_tflop": round(one.executed / 1e12, 3),
        "model_tflop": round(one.model / 1e12, 3),
        "collectives": {
            kind: {"count": row["count"], "gigabytes": round(row["gigabytes"], 6)}
            for kind, row in sorted(one.collectives.items())
        },
    }


def differences(found: Any, wanted: Any, tolerance: float, place: str = "") -> list[str]:
    """In words, every figure that is not within a share `tolerance` of the table's."""
    if isinstance(wanted, dict):
        told = []
        for key in sorted({*found, *wanted}):
            here = f"{place} {key}".strip()
            if key in found and key in wanted:
                told += differences(found[key], wanted[key], tolerance, here)
            else:
                told.append(f"{here}: {found.get(key, 'none')}, was {wanted.get(key, 'none')}")
        return told
    near = abs(found - wanted) <= tolerance * abs(wanted)
    return [] if near else [f"{place}: {found}, was {wanted}"]


def measure(only: Sequence[str]) -> dict[str, Any]:
    """The table with the rows `only` made anew; all of them where none is named."""
    made = {name: compiled(name) for name in only or names()}
    old = json.loads(TABLE.read_text()) if TABLE.is_file() else {}
    kept = old["steps"] if old.get("made_with") == versions() else {}
    steps = {name: (kept | made)[name] for name in names() if name in kept or name in made}
    return {"made_with": versions(), "steps": steps}


def table(found: dict[str, Any]) -> str:
    """As Markdown."""
    lines = [
        "| step | GB a chip | HBM GB | TFLOP executed, model | collectives: times, GB sent |",
        "|---|---:|---:|---:|---|",
    ]
    for name, steps in found["steps"].items():
        for step, row in steps.items():
            sent = ", ".join(
                f"{kind} {one['count']:g}, {one['gigabytes']:.2f}"
                for kind, one in row["collectives"].items()
            )
            lines.append(
                f"| {name} {step} | {row['peak_gb']:.2f} | {row['hbm_gb']:.1f} | "
                f"{row['executed_tflop']:.4g}, {row['model_tflop']:.4g} | {sent} |"
            )
    return "\n".join(lines)
