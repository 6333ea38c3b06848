"""What is frozen stays as it was, costs no moments and no gradients; LoRA starts as nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.fixtures import micro_student
from vqa_jax import settings
from vqa_jax.devices import sharding
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.training import optim
from vqa_jax.training import step as train_step
from vqa_jax.weights import bundle

STUDENT = FunctionalStudent(micro_student.CONFIG)
PROJECTORS = (("motion_projector/*", 1.0), ("vision_projector/*", 1.0))
AUTHORS = (("vision/*", 0.2), *PROJECTORS)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_frozen_leaves_stay_bit_for_bit_and_have_no_moments(shape):
    config = micro_student.step_config(trainable=AUTHORS)
    before, state, rows = micro_student.run(STUDENT, config, shape, 2)
    old, new = bundle.flatten(before["params"]), bundle.flatten(state["params"])
    for name, value in new.items():
        if name.split("/")[0] in ("llm", "newline"):
            assert value.dtype == jnp.bfloat16, name
            np.testing.assert_array_equal(value, old[name], err_msg=name)
        else:
            assert value.dtype == np.float32, name
            assert name.endswith("layers/bk") or not np.array_equal(value, old[name]), name
    for kind in ("mu", "nu"):
        moments = bundle.flatten(optax.tree_utils.tree_get(state["opt_state"], kind))
        assert {name.split("/")[0] for name in moments} == {
            "vision",
            "vision_projector",
            "motion_projector",
        }
    assert rows[0]["train/update_norm"] > 0


def test_a_schedule_without_a_ramp_is_its_decay_alone_and_says_nothing(caplog):
    """Cosine from the peak; optax warns, at every use, of a ramp of no steps."""
    caplog.set_level("INFO", "absl")
    schedule = optim.learning_rate(settings.OptimConfig(total_steps=4, warmup_steps=0, peak_lr=2.0))
    np.testing.assert_allclose(
        [schedule(t) for t in range(5)], 1 + np.cos(np.pi * np.arange(5) / 4), atol=1e-6
    )
    assert not caplog.messages


def test_a_group_moves_at_its_own_rate():
    """Adam's first step is as long as the rate, whatever the gradient."""
    config = micro_student.step_config(trainable=(("vision/*", 0.2), *PROJECTORS))
    before, state, _ = micro_student.run(STUDENT, config, (1, 1, 1), 1)
    old, new = bundle.flatten(before["params"]), bundle.flatten(state["params"])
    for name, rate in (("vision/position", 0.2), ("vision_projector/w_in", 1.0)):
        moved = np.median(np.abs(new[name] - old[name]))
        assert moved == pytest.approx(rate * config.optim.peak_lr, rel=0.02), name


def _is_jaxpr(value):
    return hasattr(value, "eqns")


def _scans(jaxpr, length):
    """Scans of a length anywhere in a jaxpr."""
    count = 0
    for eqn in jaxpr.eqns:
        count += eqn.primitive.name == "scan" and eqn.params["length"] == length
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            count += _scans(getattr(value, "jaxpr", value), length) if _is_jaxpr(value) else 0
    return count


@pytest.mark.parametrize(
    ("rules", "tower", "decoder"),
    [(settings.EVERYTHING, 2, 2), (AUTHORS, 2, 2), (PROJECTORS, 1, 2)],
)
def test_nothing_is_differentiated_that_only_frozen_leaves_lead_to(rules, tower, decoder):
    config = micro_student.step_config(trainable=rules)
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    step = train_step.make_train_step(STUDENT, config, mesh)
    state = jax.eval_shape(lambda: train_step.init_state(STUDENT, config, 0))
    jaxpr = jax.make_jaxpr(step)(state, micro_student.batch(0)).jaxpr
    vision, llm = micro_student.CONFIG.vision, micro_student.CONFIG.llm
    assert _scans(jaxpr, vision.num_layers) == tower
    assert _scans(jaxpr, llm.num_layers) == decoder


def test_rules_that_do_not_fit_are_all_named():
    params = STUDENT.abstract()
    bad = (("vison/*", 1.0), ("llm/*", 1.0), ("llm/layers/*", 0.5), ("newline", 0.0))
    with pytest.raises(optim.TrainableError) as caught:
        optim.rates(params, bad)
    for text in ("vison/* matches no parameter", "llm/layers/wq has rates", "newline: 0.0"):
        assert text in str(caught.value)
    with pytest.raises(optim.TrainableError, match="no rules"):
        optim.rates(params, ())
    trained, frozen = optim.split(params, AUTHORS)
    assert set(trained) == {"vision", "vision_projector", "motion_projector"}
    assert optim.join(trained, frozen) == params
