"""The planner on a text model whose speed on TPUs is published, beside what was published."""

from __future__ import annotations

import dataclasses
from typing import Any

from vqa_jax.devices import topology
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models import flops as model_flops
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.planning import search, shapes
from vqa_jax.settings import LossConfig, OptimConfig
from vqa_jax.training import step
from vqa_jax.weights import bundle

# github.com/AI-Hypercomputer/tpu-recipes, training/trillium/Llama3.1-8B-MaxText/v6e-256/README.md
# (MaxText tpu-recipes-v0.1.4, jax 0.6.1): fsdp over all chips, four sequences a chip, activations
# offloaded to the host. MFU as MaxText's tiering.md gives it, with attention counted in full.
CHIPS, TOKENS, SEQUENCES = "v6e-256", 8192, 4
SECONDS, MFU = 4.546, 0.4546
LLAMA_3_1_8B = Qwen2Config(
    num_layers=32,
    embed_dim=4096,
    mlp_dim=14336,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    vocab_size=128256,
    rope_theta=5e5,
)
# A toy's, of widths that the chips divide.
_TOWER = SiglipConfig(
    image_size=64, patch_size=8, embed_dim=256, mlp_dim=1024, num_heads=4, num_layers=1
)
# All but attention's outputs is computed again; theirs go to the host.
_CHOICE = search.Choice((1, 256, 1), "attention", 1, 256 * SEQUENCES, "auto")


def planner() -> search.Search:
    """Of the text model: a student with hardly a tower, and an answer at every token."""
    spec = bundle.make_spec("tiny", Preprocess(max_key_frames=1, image_size=64), 1, "")
    changes = {"vision": _TOWER, "llm": LLAMA_3_1_8B, "motion_dim": 256}
    student = dataclasses.replace(PRESETS["tiny"], compute_dtype="bfloat16", **changes)
    spec = dataclasses.replace(spec, student=student)
    prompt = dataclasses.replace(shapes.QWEN2_PROMPT, sentence=TOKENS)
    optimizer = OptimConfig(100, 0, 1e-5, 0.05, 1.0, 0.98)
    config = step.StepConfig(optimizer, LossConfig(), 0.0, prompt.level_ids, prompt.level_index)
    chips = topology.open_topology(CHIPS)
    pairs = SEQUENCES * len(chips.devices)
    student = FunctionalStudent(student)
    return search.Search(student, config, spec, prompt, pairs, "sentence", TOKENS, chips)


def measure() -> dict[str, Any]:
    """Estimates it, and says what was published by the same formula.

    Returns:
      {"published": {seconds, mfu, mfu_by_ours: with causal attention halved},
      "estimated": {seconds: {...}, gigabytes, mfu: if all overlaps, mfu_apart: if nothing does}}.
    """
    wanted = planner()
    shape = shapes.pair_shape(wanted.spec, wanted.prompt, wanted.pairs, "sentence", TOKENS)
    model = model_flops.training_flops(wanted.student.cfg, shape, lambda _: True).total
    least = model / wanted.topology.chip.peak / len(wanted.topology.devices)
    (found,) = (one for one in wanted.estimates() if one.choice == _CHOICE)
    return {
        "published": {"seconds": SECONDS, "mfu": MFU, "mfu_by_ours": least / SECONDS},
        "estimated": {
            "seconds": found.seconds,
            "gigabytes": found.memory / 1e9,
            "mfu": least / found.seconds["step"],
            "mfu_apart": least / found.seconds["apart"],
        },
    }


def table(found: dict[str, Any]) -> str:
    """As text."""
    old, new = found["published"], found["estimated"]
    parts = ", ".join(f"{k} {v:.2f}" for k, v in new["seconds"].items())
    return (
        f"Llama 3.1 8B on {CHIPS}, {SEQUENCES} sequences of {TOKENS} tokens a chip\n"
        f"published: {old['seconds']} s, MFU {old['mfu']:.3f}; with causal attention halved "
        f"{old['mfu_by_ours']:.3f}\n"
        f"estimated: MFU {new['mfu']:.3f} if all overlaps, {new['mfu_apart']:.3f} if nothing does "
        f"({parts} s; {new['gigabytes']:.1f} GB)"
    )
