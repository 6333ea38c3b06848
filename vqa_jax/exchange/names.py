"""Student parameters <-> names in the checkpoints that circulate, as one table of rules.

Whole students: `original` (LLaVA-OneVision's own names; the paper's authors add the
motion projector), `hf`, `hf_before_4_52` and `hf_5` (the Hugging Face port as its releases wrote
it). Parts: `siglip` and `siglip_5` (the tower, also SigLIP2's of fixed resolution, with or without
its text model), `qwen2` (also Qwen2.5 and Qwen3), `qwen3_vl` (the language part of Qwen3-VL).
`decoder_apart` is ours: a decoder under its own names, and the rest of the student beside it.
"""

import dataclasses
import re

from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.student import StudentConfig
from vqa_jax.weights.rules import Path, Rule


@dataclasses.dataclass(frozen=True)
class Dialect:
    """Prefixes of one naming scheme, None for what it does not hold.

    projector: its (first, second) linear layer.
    """

    vision: str | None = None
    projector: tuple[str, str] | None = None
    newline: str | None = None
    decoder: str | None = None
    head: str | None = None

    @property
    def whole(self) -> bool:
        """Whether it names a whole student, not a part of one."""
        return self.vision is not None and self.decoder is not None


_MOTION = ("model.slowfast_projector.0", "model.slowfast_projector.2")
DIALECTS = {
    "original": Dialect(
        "model.vision_tower.vision_tower.vision_model.",
        ("model.mm_projector.0", "model.mm_projector.2"),
        "model.image_newline",
        "model.",
        "lm_head",
    ),
    "hf": Dialect(
        "model.vision_tower.vision_model.",
        ("model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"),
        "model.image_newline",
        "model.language_model.",
        "lm_head",
    ),
    "hf_before_4_52": Dialect(
        "vision_tower.vision_model.",
        ("multi_modal_projector.linear_1", "multi_modal_projector.linear_2"),
        "image_newline",
        "language_model.model.",
        "language_model.lm_head",
    ),
    "hf_5": Dialect(
        "vision_tower.",
        ("multi_modal_projector.linear_1", "multi_modal_projector.linear_2"),
        "image_newline",
        "language_model.model.",
        "language_model.lm_head",
    ),
    "decoder_apart": Dialect(
        "vision_tower.",
        ("multi_modal_projector.linear_1", "multi_modal_projector.linear_2"),
        "image_newline",
        "model.",
        "lm_head",
    ),
    "siglip": Dialect("vision_model."),
    "siglip_5": Dialect(""),
    "qwen2": Dialect(decoder="model.", head="lm_head"),
    "qwen3_vl": Dialect(decoder="model.language_model.", head="lm_head"),
}


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


def _decoder(d: Dialect, cfg: Qwen2Config) -> list[Rule]:
    here, layers, layer = ("llm",), ("llm", "layers"), d.decoder + "layers.{layer}."
    rules = [
        Rule((*here, "embedding"), d.decoder + "embed_tokens.weight"),
        Rule((*here, "norm_scale"), d.decoder + "norm.weight"),
        Rule((*layers, "norm1_scale"), layer + "input_layernorm.weight"),
        Rule((*layers, "norm2_scale"), layer + "post_attention_layernorm.weight"),
    ]
    for name in ("q", "k", "v"):
        bias = None if cfg.qk_norm else f"b{name}"
        rules += _linear(layers, f"{layer}self_attn.{name}_proj", f"w{name}", bias)
    for name in ("q_norm", "k_norm") if cfg.qk_norm else ():
        rules.append(Rule((*layers, f"{name}_scale"), f"{layer}self_attn.{name}.weight"))
    rules += _linear(layers, f"{layer}self_attn.o_proj", "wo", None, in_axes=2)
    for name in ("gate", "up", "down"):
        rules += _linear(layers, f"{layer}mlp.{name}_proj", f"w_{name}", None)
    return rules if cfg.tie_embeddings else rules + _linear(here, d.head, "head", None)


def student_rules(cfg: StudentConfig, dialect: str) -> list[Rule]:
    """The table of a dialect: a rule a parameter that it holds, for whole students so one each.

    Low-rank additions are in no circulating file and have no rule.
    """
    d, rules = DIALECTS[dialect], []
    if d.vision is not None:
        rules += _vision(d)
    if d.decoder is not None:
        rules += _decoder(d, cfg.llm)
    if not d.whole:
        return rules
    rules.append(Rule(("newline",), d.newline))
    for part, (first, second) in (("vision_projector", d.projector), ("motion_projector", _MOTION)):
        rules += _linear((part,), first, "w_in", "b_in")
        rules += _linear((part,), second, "w_out", "b_out")
    if cfg.num_severity_classes:  # ours alone, so under a name of ours
        rules += _linear((), "severity_head", "severity_kernel", "severity_bias")
    return rules


# What real files hold and the student does not use, by reason; {vision} is the tower's prefix.
IGNORED = {
    "motion network, which is loaded on its own": r"model\.slowfast\..+",
    "norm and pooling head behind the tower": r"{vision}(post_layernorm|head)\..+",
    "the tower's layer after the last that is used": r"{vision}encoder\.layers\.{last}\..+",
    "numbers that are recomputed": r"{vision}embeddings\.position_ids|.+\.rotary_emb\.inv_freq",
}
_BESIDE = {
    "siglip": {"SigLIP's text side": r"text_model\..+|logit_(scale|bias)"},
    "qwen3_vl": {"Qwen3-VL's own tower": r"model\.visual\..+"},
}


def ignored(cfg: StudentConfig, dialect: str) -> re.Pattern[str]:
    """Keys of a dialect that may be there and are not used: `IGNORED`, `_BESIDE`, nothing else."""
    reasons = IGNORED | _BESIDE.get(dialect, {})
    # A dialect without a tower ignores no key of one.
    prefix = DIALECTS[dialect].vision
    vision = re.escape(prefix) if prefix is not None else "(?!)"
    patterns = (p.format(vision=vision, last=cfg.vision.num_layers) for p in reasons.values())
    return re.compile("|".join(patterns))


def guess_dialect(keys: set[str]) -> str | None:
    """The dialect whose own prefixes most keys start with; None: no key fits any."""

    def fit(name: str) -> tuple[int, int]:
        d = DIALECTS[name]
        # Not the decoder's prefix alone: "model." starts nearly every key of two dialects.
        own = [d.newline, f"{d.decoder}layers." if d.decoder is not None else None]
        own += d.projector or ()
        if d.vision is not None:
            own += [f"{d.vision}embeddings.", f"{d.vision}encoder.layers."]
        own = tuple(filter(None, own))
        return sum(key.startswith(own) for key in keys), -len(own)  # of equals the narrowest

    best = max(DIALECTS, key=fit)
    return best if fit(best)[0] else None
