"""Named sets of chips that need not be at hand, and public facts about them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from vqa_jax.errors import VqaError


class TopologyError(VqaError):
    """A topology that cannot be compiled for here; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip.

    Attributes:
      peak: bf16 operations a second.
      int8_peak: int8 operations a second.
      memory: bytes of HBM.
      bandwidth: bytes a second over HBM.
      links: bytes a second that a chip sends over all its interconnect links together.
      source: where the figures are published.
    """

    peak: float
    int8_peak: float
    memory: float
    bandwidth: float
    links: float
    source: str


_DOCS = "https://cloud.google.com/tpu/docs/"

# The documents state the interconnect's two directions together; `links` is one direction.
CHIPS: dict[str, Chip] = {
    "v5e": Chip(197e12, 393e12, 16e9, 819e9, 400e9 / 2, _DOCS + "v5e"),
    "v5p": Chip(459e12, 918e12, 95e9, 2765e9, 1200e9 / 2, _DOCS + "v5p"),
    "v6e": Chip(918e12, 1836e12, 32e9, 1638e9, 800e9 / 2, _DOCS + "v6e"),
}

# What devices call themselves -> bf16 operations a second, without sparsity. GPUs: NVIDIA's data
# sheets of the SXM forms.
_PEAKS: dict[str, float] = {
    "TPU v5 lite": CHIPS["v5e"].peak,
    "TPU v5e": CHIPS["v5e"].peak,
    "TPU v5": CHIPS["v5p"].peak,
    "TPU v5p": CHIPS["v5p"].peak,
    "TPU v6 lite": CHIPS["v6e"].peak,
    "TPU v6e": CHIPS["v6e"].peak,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H200": 989.4e12,
}


def peak_of(devices: Sequence[Any]) -> float | None:
    """FLOP/s of running devices together; None where their kind is not in the table."""
    peaks = [_PEAKS.get(device.device_kind) for device in devices]
    return None if None in peaks else sum(peaks)


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips to compile for.

    Attributes:
      name: as given, "v5e:8x8" or "cpu:8".
      dims: chips along each axis of the torus.
      devices: JAX devices, described or real.
      chip: facts, or None for CPUs.
    """

    name: str
    dims: tuple[int, ...]
    devices: tuple[Any, ...]
    chip: Chip | None

    def link_share(self, group: int) -> float:
        """Share of a chip's links that a collective over `group` chips can use.

        A group that fits on one axis of the torus uses that axis's links; a larger one uses all.
        """
        return 1.0 if group > max(self.dims) else 1.0 / len(self.dims)


def open_topology(name: str) -> Topology:
    """Describes the chips of a topology; call it before anything else asks JAX for devices.

    Args:
      name: "GENERATION:AxB[xC]" with a generation of CHIPS, or "cpu:N" for N pretended devices.

    Raises:
      TopologyError: unknown or impossible, or libtpu is not installed.
    """
    kind, _, size = name.partition(":")
    if kind not in (*CHIPS, "cpu") or not all(d.isdigit() for d in size.split("x")):
        raise TopologyError(
            f"topology {name!r}: write GENERATION:AxB (v5e:8x8, v5p:4x4x4) or cpu:N; "
            f"generations: {', '.join(CHIPS)}"
        )
    dims = tuple(int(d) for d in size.split("x"))
    # Without this a process that finds libtpu installed looks for a TPU of its own.
    jax.config.update("jax_platforms", "cpu")
    if kind == "cpu":
        return Topology(name, dims, _cpu_devices(math.prod(dims)), None)
    # libtpu asks the cloud who it is, at length, and allows one process unless told otherwise.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        described = topologies.get_topology_desc(name, platform="tpu")
    except (NotImplementedError, RuntimeError, ValueError) as error:
        try:
            import libtpu  # noqa: F401
        except ImportError:
            raise TopologyError(
                f'compiling for {name} needs libtpu: pip install "vqa_jax[plan]"'
            ) from error
        raise TopologyError(f"topology {name}: {error}") from error
    return Topology(name, dims, tuple(described.devices), CHIPS[kind])


def _cpu_devices(count: int) -> tuple[Any, ...]:
    with contextlib.suppress(RuntimeError):  # JAX has made its devices already: they may suffice
        jax.config.update("jax_num_cpu_devices", count)
    found = jax.devices("cpu")
    if len(found) < count:
        raise TopologyError(f"cpu:{count}: this process has {len(found)} CPU devices already")
    return tuple(found[:count])
