"""Student parameters <-> names in the checkpoints that circulate, as one table of rules.

Dialects: `original` (LLaVA-OneVision's own names; the authors of METHOD's source add the motion
projector), `hf` and `hf_before_4_52` (the two Hugging Face ports).
"""

import dataclasses
import math
import re

import numpy as np

from vqa_jax.models.student import StudentConfig

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Dialect:
    """Prefixes of one naming scheme; projectors are (first, second linear layer)."""

    vision: str
    projector: tuple[str, str]
    newline: str
    decoder: str
    head: str


_MOTION = ("model.slowfast_projector.0", "model.slowfast_projector.2")
DIALECTS = {
    "original": Dialect(
        "model.vision_tower.vision_tower.vision_model.",
        ("model.mm_projector.0", "model.mm_projector.2"),
        "model.image_newline", "model.", "lm_head",
    ),
    "hf": Dialect(
        "model.vision_tower.vision_model.",
        ("model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"),
        "model.image_newline", "model.language_model.", "lm_head",
    ),
    "hf_before_4_52": Dialect(
        "vision_tower.vision_model.",
        ("multi_modal_projector.linear_1", "multi_modal_projector.linear_2"),
        "image_newline", "language_model.model.", "language_model.lm_head",
    ),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """One parameter of ours and where it is elsewhere.

    path: in our tree. key: foreign key, with {layer} where ours is stacked. kind: "copy" (reshape
    only), "linear" (foreign [out, in]) or "conv" (foreign [out, channels, h, w]). in_axes: how many
    of our leading axes (after `layers`) are inputs of a linear layer.
    """

    path: Path
    key: str
    kind: str = "copy"
    in_axes: int = 1

    @property
    def stacked(self) -> bool:
        """Whether our array has a leading `layers` axis."""
        return "{layer}" in self.key

    def keys(self, shape: tuple[int, ...]) -> list[str]:
        """Foreign keys that fill our array of this shape, in the order of its layers."""
        if not self.stacked:
            return [self.key]
        return [self.key.format(layer=layer) for layer in range(shape[0])]

    def foreign_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one foreign tensor, from the shape of our whole array."""
        own = shape[1:] if self.stacked else shape
        if self.kind == "linear":
            return math.prod(own[self.in_axes :]), math.prod(own[: self.in_axes])
        if self.kind == "conv":
            return own[3], own[2], own[0], own[1]
        return own if len(own) == 2 and not self.stacked else (math.prod(own),)

    def from_foreign(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A foreign tensor as one layer of our array of this shape."""
        own = shape[1:] if self.stacked else shape
        if self.kind == "linear":
            return tensor.T.reshape(own)
        return tensor.transpose(2, 3, 1, 0) if self.kind == "conv" else tensor.reshape(own)

    def to_foreign(self, array: np.ndarray) -> np.ndarray:
        """One layer of ours as the foreign tensor; inverse of `from_foreign`."""
        if self.kind == "linear":
            return array.reshape(math.prod(array.shape[: self.in_axes]), -1).T
        if self.kind == "conv":
            return array.transpose(3, 2, 0, 1)
        return array if array.ndim == 2 and not self.stacked else array.reshape(-1)


def _linear(path: Path, key: str, weight: str, bias: str | None, in_axes: int = 1) -> list[Rule]:
    rules = [Rule((*path, weight), f"{key}.weight", "linear", in_axes)]
    return rules + ([Rule((*path, bias), f"{key}.bias")] if bias else [])


def _vision(d: Dialect) -> list[Rule]:
    here, layers = ("vision",), ("vision", "layers")
    embeddings, layer = d.vision + "embeddings.", d.vision + "encoder.layers.{layer}."
    rules = [
        Rule((*here, "patch_kernel"), embeddings + "patch_embedding.weight", "conv"),
        Rule((*here, "patch_bias"), embeddings + "patch_embedding.bias"),
        Rule((*here, "position"), embeddings + "position_embedding.weight"),
    ]
    for ours in ("norm1", "norm2"):
        theirs = f"{layer}layer_{ours}"
        rules.append(Rule((*layers, f"{ours}_scale"), f"{theirs}.weight"))
        rules.append(Rule((*layers, f"{ours}_bias"), f"{theirs}.bias"))
    for name in ("q", "k", "v"):
        rules += _linear(layers, f"{layer}self_attn.{name}_proj", f"w{name}", f"b{name}")
    rules += _linear(layers, f"{layer}self_attn.out_proj", "wo", "bo", in_axes=2)
    rules += _linear(layers, f"{layer}mlp.fc1", "w_up", "b_up")
    return rules + _linear(layers, f"{layer}mlp.fc2", "w_down", "b_down")


def _decoder(d: Dialect, tied: bool) -> list[Rule]:
    here, layers, layer = ("llm",), ("llm", "layers"), d.decoder + "layers.{layer}."
    rules = [
        Rule((*here, "embedding"), d.decoder + "embed_tokens.weight"),
        Rule((*here, "norm_scale"), d.decoder + "norm.weight"),
        Rule((*layers, "norm1_scale"), layer + "input_layernorm.weight"),
        Rule((*layers, "norm2_scale"), layer + "post_attention_layernorm.weight"),
    ]
    for name in ("q", "k", "v"):
        rules += _linear(layers, f"{layer}self_attn.{name}_proj", f"w{name}", f"b{name}")
    rules += _linear(layers, f"{layer}self_attn.o_proj", "wo", None, in_axes=2)
    for name in ("gate", "up", "down"):
        rules += _linear(layers, f"{layer}mlp.{name}_proj", f"w_{name}", None)
    return rules if tied else rules + _linear(here, d.head, "head", None)


def student_rules(cfg: StudentConfig, dialect: str) -> list[Rule]:
    """The whole table: exactly one rule for every parameter of `Student(cfg)`."""
    d = DIALECTS[dialect]
    rules = [*_vision(d), Rule(("newline",), d.newline), *_decoder(d, cfg.llm.tie_embeddings)]
    for part, (first, second) in (("vision_projector", d.projector), ("motion_projector", _MOTION)):
        rules += _linear((part,), first, "w_in", "b_in")
        rules += _linear((part,), second, "w_out", "b_out")
    if cfg.num_severity_classes:  # ours alone, so under a name of ours
        rules += _linear((), "severity_head", "severity_kernel", "severity_bias")
    return rules


def ignored(cfg: StudentConfig, dialect: str) -> re.Pattern[str]:
    """Keys that real files hold and the student does not use.

    The motion network itself (loaded on its own), the tower's post-norm and pooling head, its last
    layer where a file still has it, and buffers that are recomputed.
    """
    vision = re.escape(DIALECTS[dialect].vision)
    return re.compile(
        rf"model\.slowfast\..+|{vision}(post_layernorm|head)\..+"
        rf"|{vision}encoder\.layers\.{cfg.vision.num_layers}\..+"
        rf"|{vision}embeddings\.position_ids|.+\.rotary_emb\.inv_freq"
    )


def guess_dialect(keys: set[str]) -> str:
    """The dialect whose own prefixes most keys start with."""

    def hits(dialect: Dialect) -> int:
        # Not the decoder's prefix: "model." starts nearly every key of two dialects.
        own = (dialect.vision, *dialect.projector, dialect.newline, f"{dialect.decoder}layers.")
        return sum(key.startswith(own) for key in keys)

    return max(DIALECTS, key=lambda name: hits(DIALECTS[name]))
