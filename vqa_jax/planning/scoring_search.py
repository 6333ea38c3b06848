"""Which mesh and batch scoring takes on chips, estimated; what scoring and relabelling cost there.

    python -m vqa_jax plan --config ov_7b --topology h100:8 --search --steps score

As `search` does for training: operations and what products move over HBM from the jaxprs of the
engine's own steps, what travels from the sharding rules, everything at its published peak.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vqa_jax.devices.execution import Execution, executing
from vqa_jax.devices.topology import Topology
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig
from vqa_jax.planning import flops, roofline, scoring_cost
from vqa_jax.planning.scoring import NUM_ANCHORS
from vqa_jax.planning.search import meshes, require_peaks
from vqa_jax.planning.shapes import prompt_size
from vqa_jax.scoring import placement
from vqa_jax.settings import SettingsError
from vqa_jax.weights.bundle import StudentSpec

# A relabelling as large as a first stage's pool (method 3.3), with as many simulator pairs a video
# as `configs/paper.py:2` looks at; each is asked in both orders.
RELABELLED, PAIRS_A_VIDEO = 200_000, 1.9
_VIDEOS = (1, 2, 4, 8, 16)  # that one device, or those that split layers, encode together
_HALF = 2  # bytes of a number that travels, or that a layer computes with
_SHOWN = 12


class OnTpu(Execution):
    """On chips that are not at hand: products of int8 are such there, unlike on CPUs."""

    platform = "tpu"


class _OnGpu(Execution):
    """The same; heads are not padded to a TPU's registers."""

    platform = "gpu"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What scoring takes on one mesh.

    Attributes:
      mesh: sizes of data, fsdp, tensor.
      videos: of a global batch; it compares `NUM_ANCHORS` times as many pairs.
      memory: bytes of a device: weights, caches, a layer's activations.
      look: seconds of such a batch, each video encoded and compared with all anchors:
        {arithmetic, hbm, interconnect, step: the largest, apart: their sum}.
      pairs: the same of as many whole pairs of encoded videos as the batch compares.
      chips: that work together.
    """

    mesh: tuple[int, int, int]
    videos: int
    memory: float
    look: dict[str, float]
    pairs: dict[str, float]
    chips: int

    def videos_an_hour(self, pace: str) -> float:
        """Videos that a chip scores in an hour, at most."""
        return 3600 * self.videos / self.look[pace] / self.chips

    def relabel_hours(self, pace: str) -> float:
        """Chip hours of a relabelling of RELABELLED videos, at least."""
        asked = 2 * PAIRS_A_VIDEO * RELABELLED / (NUM_ANCHORS * self.videos)
        seconds = RELABELLED / self.videos * self.look[pace] + asked * self.pairs[pace]
        return seconds * self.chips / 3600


@dataclasses.dataclass(frozen=True)
class _Work:
    """Of a step. For each row: operations, of them in int8, bytes over HBM, bytes that a layer's
    split adds up. weights: bytes of the weights that it reads, whatever the rows."""

    total: float
    int8: float
    moved: float
    weights: float
    summed: float

    @classmethod
    def of(cls, one: flops.Count, two: flops.Count, summed: float) -> _Work:
        """From counts of one row and of two."""
        moved = two.moved - one.moved
        return cls(one.total, one.int8, moved, one.moved - moved, summed)


def estimates(
    cfg: StudentConfig, spec: StudentSpec, topology: Topology, cache_dtype: str | None = None
) -> list[Estimate]:
    """Of all meshes and batches, those that fit first, the fastest first among them.

    Args:
      cfg: the student as it scores (`scoring.scoring_config`).
      spec: how it sees videos.
      topology: the chips, whose facts are known.
      cache_dtype: of the anchors' keys and values, as for `vqa_jax.load`.

    Raises:
      SettingsError: nothing is known of the chips, or the tower is computed elsewhere.
    """
    require_peaks(topology)
    if not isinstance(cfg.vision, SiglipConfig):
        raise SettingsError(
            f"{spec.preset}: scoring is estimated with towers of SigLIP's kind only"
        )
    text, clips = prompt_size(spec).scoring, max(1, spec.preprocess.max_clips)
    stride, vision, llm = spec.bank.stride, cfg.vision, cfg.llm
    there = _OnGpu if topology.stand_ins else OnTpu
    with executing(there(attention="splash")):  # keeps no scores, as any platform's kernel
        sizes = cfg, spec.num_frames, clips, text
        one, two = (scoring_cost.counts(*sizes, rows, cache_dtype) for rows in (1, 2))
    patches, prefix = spec.num_frames * vision.grid**2, stride + text // 2
    suffix = stride + text - text // 2
    # Two sums of its outputs a layer.
    deep = 2 * llm.num_layers * llm.embed_dim * _HALF
    summed = (
        2 * vision.num_layers * vision.embed_dim * _HALF * patches,
        deep * (prefix + suffix),
        deep * suffix,
    )
    encode, pair, after = map(_Work.of, one, two, summed)
    weights = placement.weight_bytes(cfg)
    cache = placement.cache_bytes(cfg, prefix, cache_dtype)
    widest = max(
        patches * (vision.mlp_dim + 4 * vision.embed_dim),
        NUM_ANCHORS * suffix * (2 * llm.mlp_dim + 4 * llm.embed_dim),
    )
    found = []
    for mesh in meshes(topology, llm.num_heads):
        data, fsdp, tensor = mesh
        for videos in _VIDEOS:
            rows = NUM_ANCHORS * videos
            memory = (
                weights / fsdp / tensor
                + (NUM_ANCHORS + rows) * cache / tensor
                + (fsdp > 1) * 2 * weights / tensor / llm.num_layers
                + videos * widest * _HALF / tensor
            )
            look = _seconds([(encode, videos), (after, rows)], mesh, topology)
            pairs = _seconds([(pair, rows)], mesh, topology)
            whole = videos * data * fsdp
            found.append(Estimate(mesh, whole, memory, look, pairs, topology.chips))
    limit = topology.chip.memory
    return sorted(found, key=lambda e: (e.memory > limit, -e.videos_an_hour("apart"), e.memory))


def _seconds(
    work: Sequence[tuple[_Work, int]], mesh: tuple[int, int, int], topology: Topology
) -> dict[str, float]:
    """Bounds of steps with so many rows a device."""
    chip, (_, fsdp, tensor) = topology.chip, mesh
    weights = sum(one.weights for one, _ in work) / tensor
    total = sum(rows * one.total for one, rows in work)
    int8 = sum(rows * one.int8 for one, rows in work)
    moved = sum(rows * one.moved for one, rows in work)
    summed = sum(rows * one.summed for one, rows in work)
    sent = (weights * (fsdp - 1) / fsdp, fsdp), (summed * 2 * (tensor - 1) / tensor, tensor)
    return roofline.with_paces(
        {
            "arithmetic": roofline.arithmetic(total, int8, chip) / tensor,
            "hbm": (weights + moved / tensor) / chip.bandwidth,
            "interconnect": sum(
                size / (chip.links * topology.link_share(group)) for size, group in sent
            ),
        }
    )


def as_dict(found: Sequence[Estimate], topology: Topology) -> dict[str, Any]:
    """Plain values."""
    rows = []
    for one in found:
        hours = {p: one.relabel_hours(p) for p in ("step", "apart")}
        rate = {p: one.videos_an_hour(p) for p in ("step", "apart")}
        fits = one.memory <= topology.chip.memory
        told = {"fits": fits, "videos_a_chip_hour": rate, "relabel_chip_hours": hours}
        rows.append(dataclasses.asdict(one) | told)
    chip = dataclasses.asdict(topology.chip)
    real = roofline.REAL
    return {"topology": topology.name, "chip": chip, "estimates": rows, "real_over_apart": real}


def render(found: Sequence[Estimate], topology: Topology) -> str:
    """The first estimates as text."""
    fits = sum(one.memory <= topology.chip.memory for one in found)
    lines = [
        f"{topology.name}: estimates, nothing was compiled ({topology.chip.source})",
        f"{len(found)} choices, of which {fits} fit; with chip hours of a relabelling of "
        f"{RELABELLED:,} videos",
        f"and {PAIRS_A_VIDEO} pairs a video in both orders; if all overlaps, to if nothing does:",
        "  data,fsdp,tensor  videos      GB  videos a chip hour  relabelling",
    ]
    for one in found[:_SHOWN]:
        rate, hours = (
            [told(pace) for pace in ("step", "apart")]
            for told in (one.videos_an_hour, one.relabel_hours)
        )
        lines.append(
            f"  {','.join(map(str, one.mesh)):<16}  {one.videos:>6}  {one.memory / 1e9:>6.1f}  "
            f"{rate[0]:>8,.0f} to {rate[1]:,.0f}  {hours[0]:,.0f} to {hours[1]:,.0f}"
        )
    return "\n".join([*lines, roofline.REAL_IN_WORDS])
