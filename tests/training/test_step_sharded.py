"""Meshes compute what one device computes; gradients travel in shards; nothing is held twice."""

import math
import re

import jax
import numpy as np
import pytest

from tests.fixtures import micro_student
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import sharding as parallel
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.training import step as train_step
from vqa_jax.weights import bundle

STEPS = 6
STUDENT = FunctionalStudent(micro_student.CONFIG)


@pytest.fixture(scope="module")
def single():
    return micro_student.run(STUDENT, micro_student.step_config(), (1, 1, 1), STEPS)


@pytest.mark.parametrize(
    ("shape", "remat"),
    [
        ((2, 4, 1), "full"),
        pytest.param((2, 2, 2), "attention", marks=pytest.mark.slow),
        pytest.param((8, 1, 1), "none", marks=pytest.mark.slow),
        pytest.param((1, 2, 4), "dots", marks=pytest.mark.slow),
    ],
)
def test_every_mesh_and_policy_trains_as_one_device(single, shape, remat):
    config = micro_student.step_config(remat=remat)
    _, state, rows = micro_student.run(STUDENT, config, shape, STEPS)
    for row, expected in zip(rows, single[2], strict=True):
        for name in ("train/loss", "train/ce", "train/grad_norm", "train/update_norm"):
            np.testing.assert_allclose(row[name], expected[name], **TOLERANCES["sharded_loss"])
    assert rows[0]["train/loss"] != rows[-1]["train/loss"]
    micro_student.assert_in_shards(state, shape)
    # Adam divides by the root of tiny second moments: single weights agree less well than losses.
    after, expected = bundle.flatten(state["params"]), bundle.flatten(single[1]["params"])
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, atol=2e-4, err_msg=name)


def _lowered(config, shape):
    mesh = parallel.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    step = train_step.make_train_step(STUDENT, config, mesh)
    sharding = parallel.batch_sharding(mesh)
    batch = {
        k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=sharding)
        for k, v in micro_student.batch(0).items()
    }
    return step.lower(train_step.abstract_state(STUDENT, config, mesh), batch), mesh


def test_gradients_are_scattered_and_only_shards_are_summed_over_data():
    # The program of the run above.
    lowered, _ = _lowered(micro_student.step_config(remat="full"), (2, 4, 1))
    text = lowered.compile().as_text()
    # Every matrix and norm of the tower's and the decoder's layers has one of its own.
    assert len(re.findall(r" reduce-scatter(?:-start)?\(", text)) > 10
    sums = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
    sizes = [
        math.prod(int(n) for n in shape.split(",") if n)
        for result in sums
        for shape in re.findall(r"f32\[([\d,]*)\]", result)
    ]
    # Over `data` only quarters are summed; the patch kernel's is the largest of them.
    vision = micro_student.CONFIG.vision
    assert max(sizes) <= 3 * vision.patch_size**2 * vision.embed_dim // 4


def test_abstract_state_is_that_of_the_real_one():
    config = micro_student.step_config(trainable=(("*_projector/*", 1.0),))
    mesh = parallel.make_mesh((2, 2, 2))
    abstract = train_step.abstract_state(STUDENT, config, mesh)
    real = micro_student.begun(STUDENT, config, mesh)
    jax.tree.map(
        lambda a, b: np.testing.assert_equal(
            (a.shape, a.dtype, a.sharding), (b.shape, b.dtype, b.sharding)
        ),
        abstract,
        real,
    )


def test_state_that_is_replicated_by_accident_is_refused():
    mesh = parallel.make_mesh((1, 2, 4))
    whole = micro_student.step_config(sharding=(("embed", ""), ("mlp", "")))
    for config, refused in ((micro_student.step_config(), False), (whole, True)):
        state = train_step.abstract_state(STUDENT, config, mesh)
        parallel.check_replication(state, mesh)  # some kilobytes are nobody's accident
        if refused:
            with pytest.raises(parallel.ReplicationError, match=r"llm/layers/w_(up|gate|down)"):
                parallel.check_replication(state, mesh, tolerance=1.0, floor_bytes=0)
        else:
            parallel.check_replication(state, mesh, tolerance=1.0, floor_bytes=0)
    with pytest.raises(ValueError, match="embd"):
        parallel.changed_rules([("embd", "fsdp")])
    for changes in ([("embed", "rows")], [("embed", "tensor")], [("heads", "")]):
        with pytest.raises(ValueError, match=changes[0][0]):
            parallel.changed_rules(changes)


def test_batch_that_is_replicated_by_accident_is_refused():
    config, mesh = micro_student.step_config(), parallel.make_mesh((8, 1, 1))
    step = train_step.make_train_step(STUDENT, config, mesh)
    state = train_step.abstract_state(STUDENT, config, mesh)
    batch = {
        k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=parallel.replicated(mesh))
        for k, v in micro_student.batch(0).items()
    }
    with pytest.raises(ValueError, match="sharding"):
        step.lower(state, batch)
