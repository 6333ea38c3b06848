"""Low-rank additions: they start as nothing and merge into what was trained."""

import dataclasses
import importlib

import jax
import numpy as np
import optax
import pytest

from tests.fixtures import micro_student
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import sharding
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.models.presets import PRESETS
from vqa_jax.settings import TrainConfig
from vqa_jax.training import step as train_step

STUDENT = FunctionalStudent(micro_student.CONFIG)
ADDITIONS = (("llm/layers/lora_*", 1.0),)
TRAINED = FunctionalStudent(with_additions(micro_student.CONFIG, 4))
CONFIG = micro_student.step_config(trainable=ADDITIONS, frozen_dtype="float32")


def _logits(student, params):
    batch = micro_student.batch(0)
    names = ("frames", "motion", "tokens", "answer_pos")
    return jax.jit(lambda p, *a: student.bind(p)(*a))(params, *[batch[n] for n in names])


def _train(params, shape):
    """State and metrics after three steps on a mesh."""
    mesh = sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    state = train_step.state_of_params(params, CONFIG)
    state = jax.device_put(state, train_step.state_shardings(TRAINED, CONFIG, mesh))
    step = train_step.make_train_step(TRAINED, CONFIG, mesh)
    for t in range(3):
        state, values = step(state, sharding.put_batch(micro_student.batch(t), mesh))
    return state, values


@pytest.fixture(scope="module")
def plain():
    return micro_student.drawn(STUDENT.abstract())


@pytest.fixture(scope="module")
def attached(plain):
    """On the host, as steps donate what they are given."""
    return jax.device_get(TRAINED.complete(plain, seed=1))


@pytest.fixture(scope="module")
def single(attached):
    return _train(attached, (1, 1, 1))


@pytest.mark.slow
def test_additions_train_on_a_mesh_as_on_one_device(attached, single):
    _, eight = _train(attached, (1, 2, 4))
    for name in ("train/loss", "train/grad_norm"):
        np.testing.assert_allclose(eight[name], single[1][name], **TOLERANCES["sharded_loss"])


def test_additions_start_as_nothing_and_merge_into_what_was_trained(plain, attached, single):
    student, state = TRAINED, single[0]
    expected = _logits(STUDENT, plain)
    np.testing.assert_array_equal(_logits(student, attached), expected)

    trained = state["params"]
    moments = optax.tree_utils.tree_get(state["opt_state"], "mu")
    weights = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")
    assert set(moments["llm"]["layers"]) == {
        f"lora_{w}_{e}" for w in weights for e in ("in", "out")
    }
    # A few steps change little; additions of the weights' own size show what merging does.
    rng = np.random.default_rng(0)
    layers = {
        name: rng.normal(0, 0.3, np.shape(leaf)).astype(np.float32) if "lora" in name else leaf
        for name, leaf in trained["llm"]["layers"].items()
    }
    trained = {**trained, "llm": {**trained["llm"], "layers": layers}}
    merged = student.merge(trained)
    assert jax.tree.structure(merged) == jax.tree.structure(plain)
    after = _logits(student, trained)
    assert np.abs(after - expected).max() > 1000 * TOLERANCES["cached_logits"]["atol"]
    np.testing.assert_allclose(_logits(STUDENT, merged), after, **TOLERANCES["attention_kernel"])
    unmerged = dataclasses.replace(student.cfg.llm, lora_rank=0)
    assert unmerged == micro_student.CONFIG.llm


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("ov_0_5b", (1, 8, 1)),
        ("ov_7b", (2, 2, 2)),
        ("qwen3_siglip2_4b", (1, 2, 4)),
        *(
            pytest.param("ov_7b", shape, marks=pytest.mark.slow)
            for shape in ((1, 8, 1), (2, 4, 1), (1, 2, 4))
        ),
    ],
)
def test_the_published_preset_is_shared_by_devices(size, shape):
    """At full size, of which nothing is made: no mesh is refused, and none has a copy too many."""
    config = TrainConfig.from_dict(
        importlib.import_module(f"configs.{size}").get_config("lora").train.to_dict()
    )
    student = FunctionalStudent(with_additions(PRESETS[size], config.lora_rank))
    mesh = sharding.make_mesh(shape)
    step = train_step.StepConfig.of(config, (3, 4, 5, 6, 7), 0)
    sharding.check_replication(train_step.abstract_state(student, step, mesh), mesh)
