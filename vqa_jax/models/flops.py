"""Model FLOPs of a step: what the student's arithmetic needs, however it is computed.

The formula, two operations a multiply-add:
- every matrix product of the forward pass once;
- once more for the gradient of its input, where anything upstream of that input is trained;
- once more for the gradient of its weights, where they are trained;
- a product of two activations (attention's two) costs its forward twice in the backward pass;
- causal attention counts half, the vocabulary's product only the answer positions.
Recomputation, masked-out attention, pooling and everything that is no product are not counted.
MFU = model FLOPs / (step time x chips x peak FLOP/s).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from vqa_jax.models.cell_tower import CellTowerConfig
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig

FORMULA = (
    "model FLOPs = 2 x multiply-adds of the matrix products: forward + gradients of inputs where "
    "something upstream is trained + gradients of trained weights; causal attention halved; "
    "recomputation not counted. MFU = model FLOPs / (step time x chips x peak)"
)

Trained = Callable[[str], bool]  # path of a parameter, as "llm/layers/wq" -> is it trained?


@dataclasses.dataclass(frozen=True)
class PairShape:
    """Sizes of a batch of pairs.

    Attributes:
      pairs: pairs in the global batch.
      frames: frames of each video.
      clips: motion tokens of each video.
      tokens: sequence length of a pair.
      answers: positions whose logits are computed.
      group_size: pairs that share their first video.
      prefix: tokens of a pair that such a group shares.
    """

    pairs: int
    frames: int
    clips: int
    tokens: int
    answers: int
    group_size: int = 1
    prefix: int = 0

    @property
    def groups(self) -> int:
        """Rows of the batch."""
        return self.pairs // self.group_size

    @property
    def videos(self) -> int:
        """Videos that are encoded."""
        return self.groups + self.pairs


@dataclasses.dataclass
class ModelFlops:
    """Operations of one step over all devices, by pass."""

    forward: float = 0.0
    input_gradients: float = 0.0
    weight_gradients: float = 0.0

    @property
    def total(self) -> float:
        """All passes together."""
        return self.forward + self.input_gradients + self.weight_gradients


class _Chain:
    """Products in the order of the forward pass; `live`: the activation depends on trained ones."""

    def __init__(self, counts: ModelFlops, trained: Trained, live: bool = False):
        self.counts, self.trained, self.live = counts, trained, live

    def vector(self, *paths: str) -> None:
        """Parameters that cost nothing (norms, biases, positions) but may be trained."""
        self.live = self.live or any(self.trained(path) for path in paths)

    def dense(
        self, place: str, rows: int, size_in: int, sizes_out: dict[str, int], rank: int = 0
    ) -> None:
        """Products of one input with the weights `place`/name, side by side.

        rank: of a low-rank addition to each of the weights (models.lora), 0 for none.
        """
        live = self.live
        for name, size_out in sizes_out.items():
            cost = 2.0 * rows * size_in * size_out
            path = f"{place}/{name}".lstrip("/")
            self.counts.forward += cost
            self.counts.input_gradients += cost * live
            self.counts.weight_gradients += cost * self.trained(path)
            if rank:
                first, second = (f"{place}/lora_{name}_{end}" for end in ("in", "out"))
                self.counts.forward += 2.0 * rows * rank * (size_in + size_out)
                self.counts.input_gradients += 2.0 * rows * rank * size_in * live
                low = live or self.trained(first)
                self.counts.input_gradients += 2.0 * rows * rank * size_out * low
                self.counts.weight_gradients += 2.0 * rows * rank * size_in * self.trained(first)
                self.counts.weight_gradients += 2.0 * rows * rank * size_out * self.trained(second)
                self.vector(first, second)
            self.vector(path, f"{place}/{name.replace('w', 'b', 1)}")

    def mixing(self, cost: float) -> None:
        """Products of activations with one another."""
        self.counts.forward += cost
        self.counts.input_gradients += 2.0 * cost * self.live


def _vision(chain: _Chain, cfg: StudentConfig, shape: PairShape) -> None:
    rows = shape.videos * shape.frames * cfg.vision.grid**2
    if isinstance(cfg.vision, SiglipConfig):  # a pretrained tower's tokens come from elsewhere
        _siglip(chain, cfg.vision, shape.videos * shape.frames)
    chain.dense("vision_projector", rows, cfg.vision.embed_dim, {"w_in": cfg.embed_dim})
    chain.dense("vision_projector", rows, cfg.embed_dim, {"w_out": cfg.embed_dim})


def _siglip(chain: _Chain, v: SiglipConfig, frames: int) -> None:
    rows = frames * v.grid**2
    chain.dense("vision", rows, v.patch_size**2 * 3, {"patch_kernel": v.embed_dim})
    chain.vector("vision/patch_bias", "vision/position")
    layers = "vision/layers"
    for _ in range(v.num_layers):
        chain.vector(f"{layers}/norm1_scale", f"{layers}/norm1_bias")
        width = v.embed_dim
        chain.dense(layers, rows, width, {"wq": width, "wk": width, "wv": width})
        chain.mixing(2 * 2.0 * frames * v.grid**4 * width)
        chain.dense(layers, rows, width, {"wo": width})
        chain.vector(f"{layers}/norm2_scale", f"{layers}/norm2_bias")
        chain.dense(layers, rows, width, {"w_up": v.mlp_dim})
        chain.dense(layers, rows, v.mlp_dim, {"w_down": width})


def cell_tower_flops(vision: CellTowerConfig, height: int, width: int) -> float:
    """FLOPs of a pretrained tower on one frame: its convolutions, two a multiplication."""
    stem = vision.network.stages[0][0].d_in
    height, width = -(-height // 2), -(-width // 2)
    total = height * width * 27.0 * stem
    for block in (block for stage in vision.network.stages for block in stage):
        inner = block.d_in * block.expansion
        if block.expansion > 1:
            total += height * width * block.d_in * inner
        height, width = -(-height // block.stride), -(-width // block.stride)
        total += height * width * inner * (block.kernel**2 + block.d_out)
    return 2 * (total + height * width * vision.network.widths[-2] * vision.network.widths[-1])


def _motion(chain: _Chain, cfg: StudentConfig, shape: PairShape) -> None:
    rows = shape.videos * shape.clips
    chain.dense("motion_projector", rows, cfg.motion_dim, {"w_in": cfg.embed_dim})
    chain.dense("motion_projector", rows, cfg.embed_dim, {"w_out": cfg.embed_dim})


def _seen(sequences: int, length: int, prefix: int) -> float:
    """Query-key products of causal sequences after a prefix, one a pair of tokens."""
    return sequences * (length * prefix + length**2 / 2)


def _decoder(chain: _Chain, cfg: StudentConfig, rows: int, seen: float) -> None:
    llm, layers = cfg.llm, "llm/layers"
    query, keys = llm.num_heads * llm.head_dim, llm.num_kv_heads * llm.head_dim
    rank = llm.lora_rank
    for _ in range(llm.num_layers):
        chain.vector(f"{layers}/norm1_scale")
        chain.dense(layers, rows, llm.embed_dim, {"wq": query, "wk": keys, "wv": keys}, rank)
        if llm.qk_norm:
            chain.vector(f"{layers}/q_norm_scale", f"{layers}/k_norm_scale")
        chain.mixing(2 * 2.0 * seen * query)
        chain.dense(layers, rows, query, {"wo": llm.embed_dim}, rank)
        chain.vector(f"{layers}/norm2_scale")
        gate = {"w_gate": llm.mlp_dim, "w_up": llm.mlp_dim}
        chain.dense(layers, rows, llm.embed_dim, gate, rank)
        chain.dense(layers, rows, llm.mlp_dim, {"w_down": llm.embed_dim}, rank)
    chain.vector("llm/norm_scale")


def training_flops(
    cfg: StudentConfig, shape: PairShape, trained: Trained, severity: bool = False
) -> ModelFlops:
    """Model FLOPs of one training step.

    Args:
      cfg: the student.
      shape: the global batch.
      trained: which parameters are trained.
      severity: whether the auxiliary head is trained.
    """
    counts = ModelFlops()
    vision, motion = _Chain(counts, trained), _Chain(counts, trained)
    v = cfg.vision
    _vision(vision, cfg, shape)
    if severity:
        # It reads the tower alone; whether the projector is trained does not matter to it.
        towers = _Chain(counts, trained, any(map(trained, _tower_paths())))
        classes = {"severity_kernel": cfg.num_severity_classes}
        towers.dense("", shape.videos, v.embed_dim, classes)
    _motion(motion, cfg, shape)
    chain = _Chain(counts, trained, vision.live or motion.live)
    chain.vector("newline", "llm/embedding")
    suffix = shape.tokens - shape.prefix
    rows = shape.groups * shape.prefix + shape.pairs * suffix
    seen = _seen(shape.groups, shape.prefix, 0) + _seen(shape.pairs, suffix, shape.prefix)
    _decoder(chain, cfg, rows, seen)
    table = "embedding" if cfg.llm.tie_embeddings else "head"
    chain.dense("llm", shape.pairs * shape.answers, cfg.llm.embed_dim, {table: cfg.llm.vocab_size})
    return counts


def _tower_paths() -> tuple[str, ...]:
    names = ("wq", "wk", "wv", "wo", "w_up", "w_down", "norm1_scale", "norm2_scale")
    return ("vision/patch_kernel", "vision/position", *(f"vision/layers/{n}" for n in names))


def encoding_flops(cfg: StudentConfig, videos: int, frames: int, clips: int) -> ModelFlops:
    """Model FLOPs of turning videos into visual tokens."""
    counts = ModelFlops()
    shape = PairShape(1, frames, clips, 0, 0)  # a pair is two videos
    _vision(_Chain(counts, lambda _: False), cfg, shape)
    _motion(_Chain(counts, lambda _: False), cfg, shape)
    forward = counts.forward * videos / 2
    if isinstance(cfg.vision, CellTowerConfig):
        side = cfg.vision.image_size
        forward += videos * frames * cell_tower_flops(cfg.vision, side, round(side * 4 / 3))
    return ModelFlops(forward=forward)


def suffix_flops(cfg: StudentConfig, sequences: int, length: int, prefix: int) -> ModelFlops:
    """Model FLOPs of `length` tokens after a cached prefix, and the five levels' logits."""
    counts = ModelFlops()
    chain = _Chain(counts, lambda _: False)
    _decoder(chain, cfg, sequences * length, _seen(sequences, length, prefix))
    chain.dense("llm", sequences, cfg.llm.embed_dim, {"levels": 5})
    return counts
