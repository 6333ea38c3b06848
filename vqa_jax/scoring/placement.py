"""Where a student computes: on which devices, and whether each holds it whole.

The rule, which compiles nothing: all local devices work side by side. Each holds the whole student
(`data`) while weights and the anchors' keys and values take less than `SHARE` of its memory; else
as few as bring them below it hold the weights together (`fsdp`), and all of them where none does.
What is left is for activations. Devices of a CPU are one processor, of which one is taken.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence

import jax
from absl import logging
from jax.sharding import Mesh

from vqa_jax.devices import sharding
from vqa_jax.devices.execution import Execution
from vqa_jax.models import int8, prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.student import StudentConfig
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.scoring.anchors import AnchorSet
from vqa_jax.settings import SettingsError
from vqa_jax.weights.bundle import StudentSpec

SHARE = 0.6  # of a device's memory that weights and cached anchors may take


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes that scoring holds all the time.

    Attributes:
      weights: of the student.
      cache: of the anchors' keys and values.
    """

    weights: int
    cache: int = 0


def need(
    cfg: StudentConfig,
    spec: StudentSpec | None,
    tokenizer: Tokenizer | None,
    anchors: AnchorSet | None,
    cache_dtype: str | None = None,
) -> Need:
    """What a student and its anchors take; without prompt or anchors only the weights count.

    `cache_dtype`: as for `vqa_jax.load`.
    """
    weights = weight_bytes(cfg)
    if spec is None or tokenizer is None or anchors is None:
        return Need(weights)
    tokens = len(prompt.scoring_ids(tokenizer)) + spec.bank.stride  # of a prefix, at most
    rows = sum(len(video.frames) for video in anchors.inputs)
    return Need(weights, cache_bytes(cfg, rows * tokens, cache_dtype))


def weight_bytes(cfg: StudentConfig) -> int:
    """Bytes of a student's parameters."""
    leaves = jax.tree.leaves(FunctionalStudent(cfg).abstract())
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def cache_bytes(cfg: StudentConfig, tokens: int, cache_dtype: str | None = None) -> int:
    """Bytes of the keys and values of so many tokens; in int8 a head has a step besides."""
    llm, width = cfg.llm, jax.numpy.dtype(cfg.compute_dtype).itemsize
    head = llm.head_dim + 4 if cache_dtype == int8.DTYPE else llm.head_dim * width
    return tokens * 2 * llm.num_layers * llm.num_kv_heads * head


def sizes_by_rule(wanted: Need, devices: int, memory: float) -> tuple[int, int, int]:
    """Sizes of data, fsdp and tensor by the rule above.

    Args:
      wanted: of the student.
      devices: how many there are.
      memory: bytes of each.
    """
    for ways in range(1, devices + 1):
        if devices % ways == 0 and wanted.weights / ways + wanted.cache < SHARE * memory:
            return devices // ways, ways, 1
    return 1, devices, 1


def execution(
    mesh: Mesh | Sequence[int] | None, attention: str, wanted: Need, batch_size: int = 0
) -> Execution:
    """How a student runs on this process's devices.

    Args:
      mesh: the devices themselves, or how many share data, fsdp and tensor (-1: what is left; the
        first ones are taken), or None for the rule.
      attention: one of `settings.ATTENTION_KINDS`.
      wanted: of the student.
      batch_size: that a mesh must share evenly; 0 for any.

    Raises:
      SettingsError: there are no such devices, or they cannot share the batch.
    """
    try:
        run = Execution(_mesh(mesh, wanted), attention=attention)
    except ValueError as error:
        raise SettingsError(f"{error}: {jax.local_device_count()} devices are at hand") from error
    if batch_size % run.ways:
        raise SettingsError(f"batch_size {batch_size} does not divide over {run.ways} devices")
    if run.mesh is not None:
        logging.info("student on a mesh of %s", dict(run.mesh.shape))
    return run


def _mesh(mesh: Mesh | Sequence[int] | None, wanted: Need) -> Mesh | None:
    """None where one device is enough."""
    if isinstance(mesh, Mesh):
        return mesh
    devices = jax.local_devices()
    if mesh is None:
        if devices[0].platform == "cpu":
            return None
        sizes = sizes_by_rule(wanted, len(devices), _memory_of(devices[0]))
    else:
        sizes = tuple(mesh)
        if len(sizes) != len(sharding.MESH_AXES) or min(sizes) < -1 or 0 in sizes:
            raise ValueError(f"mesh {sizes}: give the sizes of data, fsdp and tensor, as 4,2,1")
        if -1 not in sizes:
            devices = devices[: math.prod(sizes)]
    return None if math.prod(sizes) == 1 else sharding.make_mesh(sizes, devices)


def _memory_of(device: jax.Device) -> float:
    """Bytes that a device lets programs have; the machine's where it does not tell."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
