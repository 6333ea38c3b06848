"""The plan tool on pretended devices: shapes, memory, FLOPs, and what the command says."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.planned_step import SPEC, context_mesh, micro_spec
from tests.fixtures.planned_step import config as config_of
from tests.fixtures.planned_step import mesh as mesh_of
from vqa_jax.devices.topology import CHIPS, GPUS, Topology
from vqa_jax.models import flops
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.planning import plan, scoring, shapes
from vqa_jax.planning import text as plan_text
from vqa_jax.settings import SettingsError


def dtype_size(spec):
    return jnp.dtype(spec.student.compute_dtype).itemsize


@pytest.mark.slow  # what is smaller: a count of FLOPs and of bytes, in the files beside this one
def test_training_and_scoring_steps_compile_and_add_up():
    spec, text = micro_spec(), shapes.prompt_size(SPEC)
    mesh, student = mesh_of(1, 4, 1), FunctionalStudent(spec.student)
    chips = Topology("v5e:2x2", (2, 2), tuple(jax.devices()[:4]), CHIPS["v5e"])
    shape = shapes.pair_shape(spec, text, 8, "level")
    train = plan.plan_training(student, config_of(text), spec, shape, chips, mesh)
    encode, suffix = scoring.plan_scoring(student, spec, text, 4, chips, mesh)
    for found in (train, encode, suffix):
        given = found.memory.params + found.memory.optimizer + found.memory.batch
        assert found.memory.total >= given + found.memory.temporaries > given
        assert found.memory.spare == 16e9 - found.memory.total
        assert 0 < found.model <= found.executed
        bounds = {k: v for k, v in found.seconds.items() if k not in ("step", "apart")}
        assert found.seconds["apart"] == sum(bounds.values()) and found.mfu_apart < found.mfu
        assert found.seconds["step"] == max(bounds.values())
        assert bounds["arithmetic"] == pytest.approx(found.executed / 4 / 197e12)
        assert bounds["hbm"] == found.hbm / 819e9
        assert found.mfu == pytest.approx(found.model / (found.seconds["step"] * 4 * 197e12))
    assert {"all-gather", "reduce-scatter"} & set(train.collectives)
    assert suffix.memory.optimizer == 0 and suffix.pairs == 4 * scoring.NUM_ANCHORS
    small = scoring.plan_scoring(student, spec, text, 4, chips, mesh, "int8")[1]
    llm, prefix = spec.student.llm, spec.bank.stride + text.scoring // 2
    numbers = scoring.NUM_ANCHORS * prefix * 2 * llm.num_layers * llm.num_kv_heads  # one video's
    saved = numbers * (llm.head_dim * (dtype_size(spec) - 1) - 4)  # a byte each, a step a head
    assert suffix.memory.batch - small.memory.batch == saved
    text_of = plan_text.render([train, encode, suffix], chips, (1, 4, 1))
    assert "to spare" in text_of and "MFU at most" in text_of and "chip hours" in text_of
    plain = json.loads(json.dumps(plan_text.as_dict([train], chips, (1, 4, 1))))
    hours = plain["steps"]["train"]["stage_chip_hours"]
    assert hours == pytest.approx(500_000 / 8 * train.seconds["step"] * 4 / 3600)
    assert plain["formula"] == flops.FORMULA


@pytest.mark.slow
def test_bytes_of_a_device_fall_as_more_of_them_share_a_sequence():
    spec, text, found = micro_spec(), shapes.prompt_size(SPEC), []
    student = FunctionalStudent(spec.student)
    for devices in (1, 2, 4):
        mesh = context_mesh((1, 1, 1), devices)
        chips = Topology(f"cpu:{devices}", (devices,), tuple(jax.devices()[:devices]), None)
        shape = shapes.pair_shape(spec, text, 1, "level", 2048)
        config = dataclasses.replace(config_of(text), remat="full")
        found.append(plan.plan_training(student, config, spec, shape, chips, mesh))
    memory = [one.memory for one in found]
    for part in ("params", "optimizer", "temporaries", "total"):
        sizes = [getattr(one, part) for one in memory]
        assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2], (part, sizes)
    assert found[0].model == found[2].model
    assert found[2].executed == pytest.approx(found[0].executed, rel=0.05)
    assert "(data, fsdp, tensor, context) = (1, 1, 1, 4)" in plan_text.render(
        found[2:], chips, tuple(mesh.shape.values())
    )


def test_scoring_on_a_mesh_that_splits_sequences_is_refused():
    settings = tiny_corpus.train_config(1, context=2)
    with pytest.raises(SettingsError, match="--steps train"):
        plan.plan_run(settings, SPEC, None, context_mesh((1, 1, 1), 2))


def test_gpus_have_no_compiler_here():
    chips = Topology("h100:8", (8,), (), GPUS["h100"], stand_ins=True)
    with pytest.raises(SettingsError, match="add --search"):
        plan.plan_run(tiny_corpus.train_config(1), SPEC, chips, mesh_of(1, 8, 1))
