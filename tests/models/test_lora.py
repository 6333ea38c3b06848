"""Low-rank additions: they start as nothing and merge into what was trained."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.fixtures import micro_student
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import sharding
from vqa_jax.models import int8, lora
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.models.presets import PRESETS
from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import step as train_step
from vqa_jax.training.optim import TrainableError

STUDENT = FunctionalStudent(micro_student.CONFIG)
ADDITIONS = (("llm/layers/lora_*", 1.0),)
TRAINED = FunctionalStudent(with_additions(micro_student.CONFIG, 4))
CONFIG = micro_student.step_config(trainable=ADDITIONS, frozen_dtype="float32")


def _logits(student, params):
    batch = micro_student.batch(0)
    names = ("frames", "motion", "tokens", "answer_pos")
    return jax.jit(lambda p, *a: student.bind(p)(*a))(params, *[batch[n] for n in names])


def _train(params, shape, student=TRAINED):
    """State and metrics after three steps on a mesh."""
    mesh = sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    state = train_step.state_of_params(params, CONFIG)
    state = jax.device_put(state, train_step.state_shardings(student, CONFIG, mesh))
    step = train_step.make_train_step(student, CONFIG, mesh)
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


@pytest.mark.slow
def test_a_decoder_in_int8_trains_on_a_mesh_as_on_one_device(attached):
    kept = FunctionalStudent(with_additions(micro_student.CONFIG, 4, "int8"))
    alone, eight = (_train(_in_int8(attached, True), m, kept)[1] for m in ((1, 1, 1), (1, 2, 4)))
    for name in ("train/loss", "train/grad_norm"):
        np.testing.assert_allclose(eight[name], alone[name], **TOLERANCES["sharded_loss"])


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


def _in_int8(params, keep):
    """The decoder's matrices rounded to 255 steps an output channel: whole, or codes and steps."""
    layers = dict(params["llm"]["layers"])
    for weight, inputs in lora.TARGETS.items():
        values, axes = np.asarray(layers[weight], np.float64), tuple(range(1, 1 + inputs))
        steps = np.abs(values).max(axes, keepdims=True) / 127
        steps = np.where(steps > 0, steps, 1)
        codes = np.rint(values / steps)
        layers[weight] = (codes if keep else codes * steps).astype(np.int8 if keep else np.float32)
        if keep:
            layers[int8.steps_of(weight)] = np.squeeze(steps, axes).astype(np.float32)
    return {**params, "llm": {**params["llm"], "layers": layers}}


def test_a_decoder_in_int8_trains_its_additions_as_the_rounded_one(attached):
    rng = np.random.default_rng(0)
    drawn = {
        name: rng.normal(0, 0.1, np.shape(leaf)).astype(np.float32) if "lora" in name else leaf
        for name, leaf in attached["llm"]["layers"].items()
    }
    attached = {**attached, "llm": {**attached["llm"], "layers": drawn}}
    kept = FunctionalStudent(with_additions(micro_student.CONFIG, 4, "int8"))
    whole, codes = (_in_int8(attached, keep) for keep in (False, True))
    assert jax.tree.structure(codes) == jax.tree.structure(kept.abstract())
    wanted, found = (
        jax.value_and_grad(_of_additions, argnums=1)(student, _additions(params), params)
        for student, params in ((TRAINED, whole), (kept, codes))
    )
    np.testing.assert_allclose(found[0], wanted[0], **TOLERANCES["level_logits"])
    for name, gradient in wanted[1].items():
        size = np.abs(gradient).max()
        assert size > 0
        np.testing.assert_allclose(
            found[1][name] / size, gradient / size, **TOLERANCES["long_gradient"]
        )
    merged, expected = kept.merge(codes), TRAINED.merge(whole)
    assert jax.tree.structure(merged) == jax.tree.structure(STUDENT.abstract())
    for name, leaf in expected["llm"]["layers"].items():
        np.testing.assert_allclose(
            merged["llm"]["layers"][name], leaf, **TOLERANCES["attention_kernel"]
        )


def _additions(params):
    return {k: v for k, v in params["llm"]["layers"].items() if "lora" in k}


def _of_additions(student, additions, params):
    """A number that every addition has a say in."""
    layers = {**params["llm"]["layers"], **additions}
    batch = micro_student.batch(0)
    inputs = [batch[n] for n in ("frames", "motion", "tokens", "answer_pos")]
    logits = student.bind({**params, "llm": {**params["llm"], "layers": layers}})(*inputs)
    return jnp.square(logits).mean()


def test_what_is_kept_in_int8_is_not_trained_and_stands_below_additions():
    kept = FunctionalStudent(with_additions(micro_student.CONFIG, 4, "int8"))
    with pytest.raises(TrainableError, match="llm/layers/w_down is kept in int8"):
        train_step.abstract_state(
            kept, micro_student.step_config(), sharding.make_mesh((1, 1, 1), jax.devices()[:1])
        )
    for wrong in ({"lora_base": "int8"}, {"lora_base": "nf4", "lora_rank": 4}):
        with pytest.raises(SettingsError, match="lora_base"):
            TrainConfig(**wrong)


@pytest.mark.parametrize(
    ("size", "shape", "preset"),
    [
        ("ov_0_5b", (1, 8, 1), "lora"),
        ("ov_7b", (2, 2, 2), "lora"),
        ("ov_7b", (2, 2, 2), "qlora"),
        ("qwen3_siglip2_4b", (1, 2, 4), "lora"),
        *(
            pytest.param("ov_7b", shape, "lora", marks=pytest.mark.slow)
            for shape in ((1, 8, 1), (2, 4, 1), (1, 2, 4))
        ),
    ],
)
def test_the_published_preset_is_shared_by_devices(size, shape, preset):
    """At full size, of which nothing is made: no mesh is refused, and none has a copy too many."""
    config = TrainConfig.from_dict(
        importlib.import_module(f"configs.{size}").get_config(preset).train.to_dict()
    )
    student = FunctionalStudent(with_additions(PRESETS[size], config.lora_rank, config.lora_base))
    mesh = sharding.make_mesh(shape)
    step = train_step.StepConfig.of(config, (3, 4, 5, 6, 7), 0)
    sharding.check_replication(train_step.abstract_state(student, step, mesh), mesh)
