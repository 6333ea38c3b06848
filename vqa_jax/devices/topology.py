"""Named sets of chips that need not be at hand, and public facts about them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from vqa_jax.errors import VqaError


class TopologyError(VqaError):
    """A topology that cannot be compiled for here; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip, or one of the devices that it is for JAX.

    Attributes:
      peak: bf16 operations a second.
      int8_peak: int8 operations a second.
      memory: bytes of HBM.
      bandwidth: bytes a second over HBM.
      links: bytes a second that it sends over all its interconnect links together.
      network: bytes a second that it sends to other slices, over the data centre's network.
      source: where the figures are published.
      devices: JAX devices of a chip.
    """

    peak: float
    int8_peak: float
    memory: float
    bandwidth: float
    links: float
    network: float
    source: str
    devices: int = 1

    def of_device(self) -> Chip:
        """A device's share of everything."""
        rates = ("peak", "int8_peak", "memory", "bandwidth", "links", "network")
        shares = {name: getattr(self, name) / self.devices for name in rates}
        return dataclasses.replace(self, **shares)


def _dims(shape: str) -> tuple[int, ...]:
    return tuple(int(size) for size in shape.split("x"))


_DOCS, _NVIDIA = "https://cloud.google.com/tpu/docs/", "https://www.nvidia.com/en-us/data-center/"
_GIGABIT = 1e9 / 8

# The documents state the interconnect's two directions together; `links` is one direction. Of v4
# they state an all-reduce of 1.1 PB/s over 4,096 chips, which for v5e and v6e is one direction;
# its network is v5e's, which they do not state. TPU7x: int8 is not stated, bf16's rate is taken.
CHIPS: dict[str, Chip] = {
    "v4": Chip(275e12, 275e12, 32 * 2**30, 1200e9, 1.1e15 / 4096, 25 * _GIGABIT, _DOCS + "v4"),
    "v5e": Chip(197e12, 393e12, 16e9, 819e9, 400e9 / 2, 25 * _GIGABIT, _DOCS + "v5e"),
    "v5p": Chip(459e12, 918e12, 95e9, 2765e9, 1200e9 / 2, 50 * _GIGABIT, _DOCS + "v5p"),
    "v6e": Chip(918e12, 1836e12, 32e9, 1638e9, 800e9 / 2, 100 * _GIGABIT, _DOCS + "v6e"),
    "tpu7x": Chip(
        *(2307e12, 2307e12, 192 * 2**30, 7380e9, 1200e9 / 2, 100 * _GIGABIT, _DOCS + "tpu7x", 2)
    ),
}
# NVIDIA's data sheets of the SXM forms, without sparsity. `links`: NVLink in one direction, between
# the eight GPUs of a node; `network`: a GPU's share of what leaves a DGX, an InfiniBand port of
# 400 Gbit/s (A100: 200, of which DGX A100's guide lists eight for computing).
GPUS: dict[str, Chip] = {
    "a100": Chip(312e12, 624e12, 80e9, 2039e9, 300e9, 200 * _GIGABIT, _NVIDIA + "a100"),
    "a100-40gb": Chip(312e12, 624e12, 40e9, 1555e9, 300e9, 200 * _GIGABIT, _NVIDIA + "a100"),
    "h100": Chip(989.4e12, 1979e12, 80e9, 3350e9, 450e9, 400 * _GIGABIT, _NVIDIA + "h100"),
    "h200": Chip(989.4e12, 1979e12, 141e9, 4800e9, 450e9, 400 * _GIGABIT, _NVIDIA + "h200"),
}
_NODE = 8  # GPUs that NVLink connects

# As people and other tools write them.
_NAMES = {
    **dict.fromkeys(("v5litepod", "v5lite"), "v5e"),
    **dict.fromkeys(("trillium", "v6"), "v6e"),
    **dict.fromkeys(("ironwood", "v7x", "v7"), "tpu7x"),
    "a100-80gb": "a100",
}
# Cloud TPU's accelerator types, as v6e-256 or v5p-512, by chips; of 3D generations their number
# counts cores, two a chip.
_SQUARES = "1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16"
_CUBES = "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16"
_SHAPES = {
    kind: {cores * math.prod(_dims(shape)): shape for shape in shapes.split()}
    for kinds, cores, shapes in (("v5e v6e", 1, _SQUARES), ("v4 v5p tpu7x", 2, _CUBES))
    for kind in kinds.split()
}

# What devices call themselves -> bf16 operations a second, without sparsity.
_PEAKS: dict[str, float] = {
    "TPU v5 lite": CHIPS["v5e"].peak,
    "TPU v5e": CHIPS["v5e"].peak,
    "TPU v5": CHIPS["v5p"].peak,
    "TPU v5p": CHIPS["v5p"].peak,
    "TPU v6 lite": CHIPS["v6e"].peak,
    "TPU v6e": CHIPS["v6e"].peak,
    "TPU v4": CHIPS["v4"].peak,
    "TPU7x": CHIPS["tpu7x"].of_device().peak,
    "NVIDIA A100-SXM4-40GB": GPUS["a100-40gb"].peak,
    "NVIDIA A100-SXM4-80GB": GPUS["a100"].peak,
    "NVIDIA H100 80GB HBM3": GPUS["h100"].peak,
    "NVIDIA H200": GPUS["h200"].peak,
}


def peak_of(devices: Sequence[Any]) -> float | None:
    """FLOP/s of running devices together; None where their kind is not in the table."""
    peaks = [_PEAKS.get(device.device_kind) for device in devices]
    return None if None in peaks else sum(peaks)


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips to compile for.

    Attributes:
      name: as given, "v5e:8x8", "v6e-256*2", "h100:8*4" or "cpu:8".
      dims: chips along each axis of a slice's torus; of GPUs those of a node, all connected.
      devices: JAX devices, described or real, slice after slice.
      chip: facts of a device, or None for CPUs.
      slices: how many slices, or nodes of GPUs, there are.
      stand_ins: the devices are CPUs that stand for GPUs: steps are traced, but not compiled.
    """

    name: str
    dims: tuple[int, ...]
    devices: tuple[Any, ...]
    chip: Chip | None
    slices: int = 1
    stand_ins: bool = False

    @property
    def chips(self) -> int:
        """How many chips the devices are."""
        return len(self.devices) // (self.chip.devices if self.chip else 1)

    def link_share(self, group: int) -> float:
        """Share of a chip's links that a collective over `group` chips can use.

        A group that fits on one axis of the torus uses that axis's links; a larger one uses all.
        """
        return 1.0 if group > max(self.dims) else 1.0 / len(self.dims)


def open_topology(name: str) -> Topology:
    """Describes the chips of a topology; call it before anything else asks JAX for devices.

    Args:
      name: "GENERATION:AxB[xC][*SLICES]" with a generation of CHIPS, or Cloud TPU's own name
        ("v6e-256"); "GPU:N[*NODES]" with one of GPUS, up to eight a node; or "cpu:N" for N
        pretended devices.

    Raises:
      TopologyError: unknown or impossible, or libtpu is not installed.
    """
    kind, dims, slices = _parsed(name)
    # Without this a process that finds libtpu installed looks for a TPU of its own.
    jax.config.update("jax_platforms", "cpu")
    if kind == "cpu":
        return Topology(name, dims, _cpu_devices(math.prod(dims)), None)
    if kind in GPUS:
        found = _cpu_devices(slices * math.prod(dims))
        return Topology(name, dims, found, GPUS[kind], slices, stand_ins=True)
    # libtpu asks the cloud who it is, at length, and allows one process unless told otherwise.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # As machines of v4 show their chips: both cores as one device.
    options: dict[str, Any] = {"chip_config_name": "megacore"} if kind == "v4" else {}
    options |= {"num_slices": slices} if slices > 1 else {}
    shape = "x".join(map(str, dims))
    try:
        described = topologies.get_topology_desc(f"{kind}:{shape}", platform="tpu", **options)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        try:
            import libtpu  # noqa: F401
        except ImportError:
            raise TopologyError(
                f'compiling for {name} needs libtpu: pip install "vqa_jax[plan]"'
            ) from error
        raise TopologyError(f"topology {name}: {error}") from error
    return Topology(name, dims, tuple(described.devices), CHIPS[kind].of_device(), slices)


def _parsed(name: str) -> tuple[str, tuple[int, ...], int]:
    """Generation, chips along each axis, slices."""
    found = re.fullmatch(r"([a-z0-9-]+?)(?::([\dx]+)|-(\d+))(?:\*([1-9]\d*))?", name.lower())
    if found:
        kind, shape, count, slices = found.groups()
        kind = _NAMES.get(kind, kind)
        shape = shape or _SHAPES.get(kind, {}).get(int(count), "")
        known = kind in CHIPS or kind == "cpu" or (kind in GPUS and shape.isdigit())
        if known and re.fullmatch(r"\d+(x\d+)*", shape) and 0 not in _dims(shape):
            if kind in GPUS and int(shape) > _NODE:
                raise TopologyError(
                    f"topology {name!r}: NVLink connects {_NODE} GPUs; write {kind}:{_NODE}*NODES"
                )
            return kind, _dims(shape), int(slices or 1)
    raise TopologyError(
        f"topology {name!r}: write GENERATION:AxB (v5e:8x8, v5p:4x4x4, two slices: v5e:16x16*2), "
        f"Cloud TPU's name (v6e-256), GPU:N*NODES (h100:8*4) or cpu:N; generations: "
        f"{', '.join(CHIPS)}; GPUs: {', '.join(GPUS)}"
    )


def _cpu_devices(count: int) -> tuple[Any, ...]:
    with contextlib.suppress(RuntimeError):  # JAX has made its devices already: they may suffice
        jax.config.update("jax_num_cpu_devices", count)
    found = jax.devices("cpu")
    if len(found) < count:
        raise TopologyError(f"cpu:{count}: this process has {len(found)} CPU devices already")
    return tuple(found[:count])
