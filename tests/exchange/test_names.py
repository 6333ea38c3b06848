"""Dialects of names: told apart, and every key of a circulating checkpoint in one."""

import json

import pytest
from flax import nnx, traverse_util

from tests.fixtures.foreign_student import tensors_of
from vqa_jax.exchange.names import DIALECTS, guess_dialect, ignored, student_rules
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import Student


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_told_apart(dialect):
    assert guess_dialect(set(tensors_of(dialect))) == dialect


@pytest.mark.parametrize("dialect", ["qwen2", "qwen3_vl"])
def test_a_layer_of_qwen3_by_hand(dialect):
    cfg = PRESETS["qwen3_siglip2_0_6b"]
    leaves = traverse_util.flatten_dict(FunctionalStudent(cfg).abstract())
    found = {
        rule.keys(leaves[rule.path].shape)[-1]: rule.foreign_shape(leaves[rule.path].shape)
        for rule in student_rules(cfg, dialect)
    }
    model = DIALECTS[dialect].decoder
    attention, mlp = f"{model}layers.27.self_attn.", f"{model}layers.27.mlp."
    assert found == {
        f"{model}embed_tokens.weight": (151936, 1024),
        f"{model}norm.weight": (1024,),
        f"{model}layers.27.input_layernorm.weight": (1024,),
        f"{model}layers.27.post_attention_layernorm.weight": (1024,),
        f"{attention}q_proj.weight": (2048, 1024),
        f"{attention}k_proj.weight": (1024, 1024),
        f"{attention}v_proj.weight": (1024, 1024),
        f"{attention}o_proj.weight": (1024, 2048),
        f"{attention}q_norm.weight": (128,),
        f"{attention}k_norm.weight": (128,),
        f"{mlp}gate_proj.weight": (3072, 1024),
        f"{mlp}up_proj.weight": (3072, 1024),
        f"{mlp}down_proj.weight": (1024, 3072),
    }
    whole = set(found) | {"model.visual.patch_embed.proj.weight", "model.visual.norm.bias"}
    assert guess_dialect(whole) == dialect
    unused = {key for key in whole - found.keys() if ignored(cfg, dialect).fullmatch(key)}
    assert len(unused) == (2 if dialect == "qwen3_vl" else 0)


@pytest.mark.parametrize("size", ["0_5b", "7b"])
@pytest.mark.parametrize("names", ["w2s", "original", "hf", "hf_before_4_52"])
def test_rules_match_every_circulating_checkpoint_key_for_key(shared, size, names):
    shapes = json.loads((shared / f"checkpoints/qwen2_{size}.{names}.json").read_text())
    cfg = PRESETS[f"ov_{size}"]
    dialect = guess_dialect(set(shapes))
    assert dialect == ("original" if names == "w2s" else names)
    abstract = nnx.state(nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))).flat_state()
    own = {tuple(path): leaf.shape for path, leaf in abstract}
    rules = student_rules(cfg, dialect)
    assert sorted(rule.path for rule in rules) == sorted(own)  # each of ours exactly once
    wanted = {
        key: list(rule.foreign_shape(own[rule.path]))
        for rule in rules
        for key in rule.keys(own[rule.path])
        if names == "w2s" or rule.path[0] != "motion_projector"
    }
    skip = ignored(cfg, dialect)
    theirs = {key: shape for key, shape in shapes.items() if not skip.fullmatch(key)}
    if cfg.llm.tie_embeddings:
        theirs.pop(f"{DIALECTS[dialect].head}.weight")
    assert wanted == theirs
