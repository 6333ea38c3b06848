"""Runs the parts of the check as processes of their own, and writes what they found.

Each part has the card to itself, so that its peak memory is its own and a part that fails leaves
the others' figures. See gpu_check.sh.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Part -> (module, function, sizes, seconds it may take, small sizes).
_PARTS = {
    "train": ("training", "train", "FULL", 150, "SMALL"),
    "peer_train": ("peers", "train", "FULL", 70, "SMALL"),
    "score": ("scoring", "score", "FULL", 130, "SMALL"),
    "peer_score": ("peers", "score", "FULL", 70, "SMALL"),
    "numbers": ("numbers", "numbers", "SHALLOW", 110, "SMALL_SHALLOW"),
    "train_larger": ("training", "train_larger", "LARGER", 110, "SMALL_LARGER"),
}
# A checkout must do without them on a machine that has a card and no video tools.
_NOT_NEEDED = (
    "apache_beam", "array_record", "av", "grain", "ml_collections", "tensorflow_datasets", "PIL",
)  # fmt: skip
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")


def _run_part(name: str, small: bool, out: str) -> None:
    """The child: computes one part and writes it."""
    module, function, full_sizes, _, small_sizes = _PARTS[name]
    sizes = importlib.import_module("launch.gpu_check.sizes")
    part = getattr(importlib.import_module(f"launch.gpu_check.{module}"), function)
    found = part(getattr(sizes, small_sizes if small else full_sizes))
    imported = sorted(set(_NOT_NEEDED) & set(sys.modules))
    # transformers may look for packages by itself; the project's own code must not.
    if module != "peers" and imported:
        raise RuntimeError(f"imported, but not needed here: {', '.join(imported)}")
    pathlib.Path(out).write_text(json.dumps(found))


def _environment(name: str, small: bool) -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("JAX_PLATFORMS", None)
    if small or _PARTS[name][0] == "peers":
        environment["JAX_PLATFORMS"] = "cpu"  # the card is torch's, or there is none
    if small:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if name == "numbers":  # of which no time is told: searching for fast kernels takes minutes
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0".strip()
    # Memory is taken as it is needed, so that its peak tells what was.
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return environment


def _child(name: str, small: bool, seconds: float) -> dict[str, Any]:
    """Runs a part in a process; its figures, or {"error"}."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "part.json")
        command = [sys.executable, "-m", "launch.gpu_check", "--part", name, "--out", out]
        begun = time.monotonic()
        try:
            done = subprocess.run(
                command + ["--small"] * small,
                env=_environment(name, small),
                cwd=ROOT,
                timeout=seconds,
                text=True,
                capture_output=True,
            )
        except subprocess.TimeoutExpired as stopped:
            said = (stopped.stderr or b"").decode(errors="replace")[-2000:]
            return {"error": f"{said}\nstopped after {seconds:.0f} s"}
        took = time.monotonic() - begun
        if done.returncode:
            return {"error": done.stderr[-2000:], "wall_seconds": took}
        return json.loads(pathlib.Path(out).read_text()) | {"wall_seconds": took}


def with_rates(part: dict[str, Any], peak: float | None) -> dict[str, Any]:
    """Adds tokens a second and MFU where seconds and model FLOPs stand."""
    part = {k: with_rates(v, peak) if isinstance(v, dict) else v for k, v in part.items()}
    if "flops" in part:
        rate = part["flops"] / part["seconds"]
        part["mfu"] = rate / peak if peak else None
        tokens = part.get("tokens")
        part["tokens_per_second"] = tokens / part["seconds"] if tokens else None
    return part


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check(small: bool, limit: float, names: Sequence[str] = tuple(_PARTS)) -> dict[str, Any]:
    """Runs the named parts in turn.

    Returns:
      {"machine", "versions", "small", "seconds", "parts" (by name), "passed": no part failed and
      the device's numbers are the CPU's}.
    """
    begun, parts = time.monotonic(), {}
    for name in names:
        seconds = _PARTS[name][3]
        left = limit - (time.monotonic() - begun)
        sys.stderr.write(f"{name} ...\n")
        allowed = left if small else min(seconds, left)
        parts[name] = _child(name, small, allowed) if left > 5 else {"error": "no time is left"}
        if not small and parts[name].get("device") == "cpu":
            parts[name] = {"error": "no card: this ran on the CPU; --small rehearses there"}
            break
    peak = next((part["peak_flops"] for part in parts.values() if "peak_flops" in part), None)
    parts = {name: with_rates(part, peak) for name, part in parts.items()}
    failed = any("error" in part for part in parts.values())
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "versions": {name: _version(name) for name in _PACKAGES},
        "small": small,
        "seconds": time.monotonic() - begun,
        "parts": parts,
        "passed": not failed and all(part.get("agree", True) for part in parts.values()),
    }


def _timings(name: str, part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, figures) of everything in a part that was timed."""
    if "mfu" in part:
        mfu = f"MFU {part['mfu']:.1%}" if part["mfu"] else "MFU unknown"
        rate = part["tokens_per_second"]
        yield name, f"{part['seconds']:.4f} s  {mfu}  {f'{rate:,.0f} tokens/s' if rate else ''}"
    for key, inner in part.items():
        if isinstance(inner, dict):
            yield from _timings(f"{name} {key}", inner)


def table(found: dict[str, Any]) -> str:
    """The figures of `check` as text."""
    lines = [f"{found['machine']}; {found['seconds']:.0f} s in all"]
    for name, part in found["parts"].items():
        if "error" in part:
            lines.append(f"{name:12} failed: {part['error'].strip().splitlines()[-1]}")
            continue
        lines += [f"{label:28} {text}" for label, text in _timings(name, part)]
        if part.get("peak_bytes"):
            lines.append(f"{name:12} peak {part['peak_bytes'] / 1e9:.1f} GB")
        for dtype, rows in part.get("compared", {}).items():
            errors = ", ".join(f"{k} {v['error']:.1e}" for k, v in rows.items())
            lines.append(f"{name:12} {dtype} against the CPU: {errors}")
    return "\n".join([*lines, "passed" if found["passed"] else "FAILED"])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the check, or one part of it, and writes JSON; 1 if anything failed or disagrees."""
    parser = argparse.ArgumentParser(prog="launch/gpu_check.sh", description=__doc__)
    default = os.path.join(os.environ.get("OUT", "."), "gpu_check.json")
    parser.add_argument("--out", default=default, help="JSON file of all figures")
    parser.add_argument("--small", action="store_true", help="small sizes, on the CPU")
    parser.add_argument("--parts", default=",".join(_PARTS), help="which, in which order")
    parser.add_argument("--limit", type=float, default=470, help="seconds in all, at most")
    parser.add_argument("--part", choices=_PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.part:
        logging.set_verbosity(logging.INFO)
        _run_part(args.part, args.small, args.out)
        return 0
    names = args.parts.split(",")
    if unknown := set(names) - set(_PARTS):
        parser.error(f"no parts {', '.join(sorted(unknown))}: there are {', '.join(_PARTS)}")
    found = check(args.small, args.limit, names)
    pathlib.Path(args.out).write_text(json.dumps(found, indent=2) + "\n")
    sys.stdout.write(table(found) + "\n")
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
