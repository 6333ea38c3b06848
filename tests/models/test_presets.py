"""Published sizes: their parameters, and that they run from shapes."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import Student, count_parameters
from vqa_jax.weights import towers


@pytest.mark.parametrize("size", ["0_5b", "7b"])
def test_published_sizes_have_the_published_parameters(shared, size):
    shapes = json.loads((shared / f"checkpoints/qwen2_{size}.w2s.json").read_text())
    cfg, expected = PRESETS[f"ov_{size}"], {}
    parts = {
        "vision": r"model\.vision_tower\.",
        "vision_projector": r"model\.mm_projector\.",
        "motion_projector": r"model\.slowfast_projector\.",
        "newline": r"model\.image_newline",
        "llm": r"model\.(layers|norm|embed_tokens)\.|lm_head",
    }
    for key, shape in shapes.items():
        unused = "post_layernorm" in key or (cfg.llm.tie_embeddings and key == "lm_head.weight")
        part = next(name for name, pattern in parts.items() if re.match(pattern, key))
        expected[part] = expected.get(part, 0) + (0 if unused else int(np.prod(shape)))
    assert count_parameters(cfg) == expected
    if size == "7b":
        assert 8.0e9 < sum(expected.values()) < 8.1e9


@pytest.mark.parametrize(
    ("size", "decoder", "others"),
    [
        ("0_6b", 596_049_920, 440_467_456),
        ("4b", 4_022_468_096, 3_633_511_936),
        ("8b", 8_190_735_360, 6_946_075_648),
    ],
)
def test_decoders_of_qwen3_have_the_published_parameters(size, decoder, others):
    """0.6 (0.44), 4.0 (3.6) and 8.2 (6.95) billion, in brackets without embeddings."""
    cfg = PRESETS[f"qwen3_siglip2_{size}"]
    assert count_parameters(cfg)["llm"] == decoder
    tables = 1 if cfg.llm.tie_embeddings else 2
    assert decoder - tables * cfg.llm.vocab_size * cfg.llm.embed_dim == others


def test_published_size_runs_abstractly_end_to_end():
    cfg = PRESETS["ov_7b"]
    student = nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))
    assert cfg.tokens_per_frame == 196
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in [
            ((2, 2, 8, 384, 384, 3), jnp.uint8),
            ((2, 2, 8, 256), jnp.float32),
            ((2, 4096), jnp.int32),
            ((2, 14), jnp.int32),
        ]
    ]
    logits = nnx.eval_shape(lambda s, *args: s(*args), student, *shapes)
    assert logits.shape == (2, 14, 152064) and logits.dtype == jnp.float32


def test_the_small_student_has_the_parameters_that_its_page_tells():
    """Beside those of the network that it looks through, which its file does not hold."""
    counts = count_parameters(PRESETS["small"])
    shipped = load_file(towers.shipped_path(0))
    assert counts.pop("vision") - sum(array.size for array in shipped.values()) == 8_256
    assert counts == {
        "vision_projector": 801_984,
        "motion_projector": 21_696,
        "newline": 96,
        "llm": 215_904,
    }
