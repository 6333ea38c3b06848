"""Steps whose sequences lie over several devices are those of one device."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from tests.fixtures import long_step, micro_student
from tests.fixtures.planned_step import context_mesh
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import context, sharding
from vqa_jax.devices.execution import Execution, executing
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.training import step as train_step
from vqa_jax.weights import bundle

STUDENT = FunctionalStudent(micro_student.CONFIG)
TOLD = ("train/loss", "train/ce", "train/grad_norm", "train/update_norm", "train/level_acc")


def _assert_same(found, expected):
    """Losses, and the first moments, which after a step are gradients but for a factor."""
    for row, wanted in zip(found[2], expected[2], strict=True):
        for name in TOLD:
            np.testing.assert_allclose(row[name], wanted[name], **TOLERANCES["sharded_loss"])
    ours, theirs = (
        bundle.flatten(optax.tree_utils.tree_get(run[1]["opt_state"], "mu"))
        for run in (found, expected)
    )
    for name, moment in theirs.items():
        np.testing.assert_allclose(
            ours[name], moment, **TOLERANCES["student_gradient"], err_msg=name
        )


@pytest.fixture(scope="module")
def single():
    return micro_student.run(STUDENT, micro_student.step_config(), (1, 1, 1), 1)


@pytest.mark.parametrize(
    ("shape", "devices", "changes"),
    [
        ((2, 2, 1), 2, {}),
        pytest.param((1, 2, 1), 4, {"remat": "full"}, marks=pytest.mark.slow),
        pytest.param((1, 2, 2), 2, {"remat": "attention"}, marks=pytest.mark.slow),
        # 24 tokens over 16 chunks: padded.
        pytest.param((1, 1, 1), 8, {"remat": "dots"}, marks=pytest.mark.slow),
        pytest.param((2, 1, 1), 4, {"accumulate": 2}, marks=pytest.mark.slow),
    ],
)
def test_sequences_over_devices_train_as_on_one(single, shape, devices, changes):
    config = micro_student.step_config(**changes)
    found = micro_student.run(STUDENT, config, shape, 1, devices)
    _assert_same(found, single)
    # Weights lie over these devices, too: none is held twice.
    query = found[1]["params"]["llm"]["layers"]["wq"]
    held = query.addressable_shards[0].data.size
    assert held * shape[1] * shape[2] * devices == query.size


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["severity", "lora", "qk_norm"])
def test_other_parts_of_students_train_as_on_one_device(kind):
    classes = {"severity": np.arange(16, dtype=np.int32).reshape(8, 2) % 3}

    def batch(step):
        return micro_student.batch(step) | classes

    cfg = micro_student.CONFIG
    changes = {
        "severity": {"num_severity_classes": 3},
        "lora": {"llm": dataclasses.replace(cfg.llm, lora_rank=4)},
        "qk_norm": {"llm": dataclasses.replace(cfg.llm, qk_norm=True, tie_embeddings=True)},
    }[kind]
    student = FunctionalStudent(dataclasses.replace(cfg, **changes))
    config = micro_student.step_config(severity_weight=0.3 * (kind == "severity"))
    expected = micro_student.run(student, config, (1, 1, 1), 1, given=batch)
    _assert_same(micro_student.run(student, config, (1, 2, 1), 1, 4, batch), expected)


def test_no_device_holds_a_whole_sequence_but_keys_and_values():
    mesh = context_mesh((1, 2, 1), 4)
    config = micro_student.step_config(remat="full")
    step = train_step.make_train_step(STUDENT, config, mesh)
    place = sharding.batch_sharding(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=place)
        for name, value in micro_student.batch(0, 2).items()
    }
    state = train_step.abstract_state(STUDENT, config, mesh)
    text = step.lower(state, batch).compile().as_text()
    llm, length = STUDENT.cfg.llm, micro_student.LENGTH
    assert f"f32[1,{length},{llm.num_kv_heads},{llm.head_dim}]" in text
    assert f"f32[1,{length // 4},{llm.embed_dim}]" in text
    for whole in (f"f32[1,{length},{llm.embed_dim}]", f"f32[{length},{llm.mlp_dim}]"):
        assert whole not in text


def test_caches_are_not_made_of_parts():
    run = Execution(context_mesh((1, 1, 1), 2))
    embeds = jax.ShapeDtypeStruct((1, 8, micro_student.CONFIG.embed_dim), np.float32)
    positions = jax.ShapeDtypeStruct((1, 8), np.int32)

    def cached(params, *inputs):
        with executing(run):
            return STUDENT.bind(params).llm.hidden(*inputs)

    with pytest.raises(context.ContextError, match="leave context at 1"):
        jax.eval_shape(cached, STUDENT.abstract(), embeds, positions)


@pytest.mark.slow
def test_32768_tokens_on_four_devices_have_the_gradients_of_one():
    # A program of its own: the flags of tests compile cheaply, and what they compile is too slow.
    done = subprocess.run(
        [sys.executable, "-m", "tests.fixtures.long_step"],
        cwd=pathlib.Path(__file__).resolve().parents[2],
        env={**os.environ, "XLA_FLAGS": long_step.FLAGS},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    np.testing.assert_allclose(*found["losses"], **TOLERANCES["sharded_loss"])
    assert len(found["gradients"]) == len(bundle.flatten(long_step.STUDENT.abstract()))
    for name, difference in found["gradients"].items():
        if name == "vision/layers/bk":
            continue  # 0 but for rounding: softmax does not see a constant added to every key
        assert difference <= TOLERANCES["long_gradient"]["atol"], name
