"""The plan tool on pretended devices: shapes, memory, FLOPs, and what the command says."""

import json

import jax
import pytest

from tests.fixtures.planned_step import SPEC, big_spec, micro_spec
from tests.fixtures.planned_step import config as config_of
from tests.fixtures.planned_step import mesh as mesh_of
from vqa_jax.devices.topology import CHIPS, Topology
from vqa_jax.models import flops
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.planning import plan, shapes
from vqa_jax.planning import text as plan_text


@pytest.mark.slow  # what is smaller: a count of FLOPs and of bytes, in the files beside this one
def test_training_and_scoring_steps_compile_and_add_up():
    spec, text = micro_spec(), shapes.prompt_size(SPEC)
    mesh, student = mesh_of(1, 4, 1), FunctionalStudent(spec.student)
    chips = Topology("v5e:2x2", (2, 2), tuple(jax.devices()[:4]), CHIPS["v5e"])
    shape = shapes.pair_shape(spec, text, 8, "level")
    train = plan.plan_training(student, config_of(text), spec, shape, chips, mesh)
    encode, suffix = plan.plan_scoring(student, spec, text, 4, chips, mesh)
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
    assert suffix.memory.optimizer == 0 and suffix.pairs == 4 * plan.NUM_ANCHORS
    text_of = plan_text.render([train, encode, suffix], chips, (1, 4, 1))
    assert "to spare" in text_of and "MFU at most" in text_of and "chip hours" in text_of
    plain = json.loads(json.dumps(plan_text.as_dict([train], chips, (1, 4, 1))))
    hours = plain["steps"]["train"]["stage_chip_hours"]
    assert hours == pytest.approx(500_000 / 8 * train.seconds["step"] * 4 / 3600)
    assert plain["formula"] == flops.FORMULA


@pytest.mark.parametrize(
    ("chip", "dtype", "sizes"),
    [
        ("v5e", None, (4, 2, 1)),
        ("v6e", None, (8, 1, 1)),
        ("v5e", "int8", (4, 2, 1)),  # 9.7 GB with the anchors, of 9.6
        ("v6e", "int8", (8, 1, 1)),
    ],
)
def test_scoring_is_planned_on_the_mesh_that_it_takes_itself(chip, dtype, sizes):
    chips = Topology(f"{chip}:2x4", (2, 4), tuple(jax.devices()[:8]), CHIPS[chip])
    mesh = plan.scoring_mesh(big_spec(), chips, dtype)
    assert tuple(mesh.shape.values()) == sizes


def test_what_does_not_fit_is_read_from_the_compilers_message():
    message = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space "
        "hbm. Used 21.90G of 15.75G hbm. Exceeded hbm capacity by 6.15G."
    )
    assert plan._needed_bytes(message) == int(21.9 * 2**30)
    newer = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (22.37G) exceeds available HBM (15.75G)."
    )
    assert plan._needed_bytes(newer) == int(22.37 * 2**30)
    assert plan._needed_bytes("INTERNAL: something else") is None
