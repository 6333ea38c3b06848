"""A batch in parts is the batch: the same losses, metrics and weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fixtures import micro_student
from tests.fixtures.tiny_run import CONFIG
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import settings
from vqa_jax.devices import sharding
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.training import accumulate, losses
from vqa_jax.training import step as train_step
from vqa_jax.weights import bundle

CONFIDENCE = settings.LossConfig()
STUDENT = FunctionalStudent(dataclasses.replace(micro_student.CONFIG, num_severity_classes=4))


def _batch(step: int, group: int) -> dict[str, np.ndarray]:
    """Rows that have more or less of everything that a mean is over."""
    rng = np.random.default_rng([step, group])
    batch = micro_student.batch(step)
    batch["severity"] = rng.integers(-1, 4, batch["severity"].shape).astype(np.int32)
    batch["example_mask"] = (rng.random(8) < 0.7).astype(np.float32)
    batch["example_mask"][[0, 7]] = 0.0, 1.0
    batch["loss_mask"] = (rng.random(batch["loss_mask"].shape) < 0.8).astype(np.float32)
    if group == 1:
        return batch
    shared = {k: batch[k] for k in ("frames", "frame_mask", "motion")}
    wide = {k: np.concatenate([v, v[:, ::-1]], 1)[:, : group + 1] for k, v in shared.items()}
    each = {k: np.stack([v] * group, 1) for k, v in batch.items() if k not in shared}
    prefix = each["tokens"][:, 0, :8]
    return {
        **wide,
        **each,
        "tokens": each["tokens"][:, :, 8:],
        "answer_pos": each["answer_pos"] - 8,
        "prefix_tokens": np.where(prefix < 0, -1, prefix),
        "prefix_len": np.full(8, 8, np.int32),
    }


def _run(student, shape, group=1, **changes):
    """Metrics and weights of three steps; from the second on the entropy term counts."""
    config = micro_student.step_config(severity_weight=0.3, **changes)
    mesh = sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    state = micro_student.begun(student, config, mesh)
    step, rows = train_step.make_train_step(student, config, mesh), []
    for number in range(3):
        state, values = step(state, sharding.put_batch(_batch(number, group), mesh))
        rows.append({k: float(v) for k, v in values.items()})
    return rows, bundle.flatten(state["params"])


def _same(one, other):
    for row, expected in zip(other[0], one[0], strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(row[name], value, **TOLERANCES["sharded_loss"], err_msg=name)
    assert one[0][-1]["train/weight"] > 0.01
    for name, value in one[1].items():
        np.testing.assert_allclose(
            np.float32(other[1][name]), np.float32(value), atol=2e-4, err_msg=name
        )


def _linear_loss(trained, frozen, batch, progress, weight=None):
    """The step's losses, of logits that are linear in the batch."""
    logits = jnp.einsum("bnpc,cd->bnpd", batch["frames"], trained["w"])[:, 0] + frozen
    found = losses.pair_loss(
        *(logits, batch["answer_ids"], batch["loss_mask"], batch["level_probs"]),
        *(jnp.arange(5), 1, batch["example_mask"], progress, CONFIDENCE, weight),
    )
    severity = (batch["severity"] >= 0).astype(jnp.float32)
    squares = jnp.einsum("bnpc,cd->bn", batch["frames"], trained["v"]) ** 2
    ce = (severity * squares).sum() / jnp.maximum(severity.sum(), 1.0)
    return found[0] + 0.3 * ce, found[1] | {"severity_ce": ce}


@pytest.mark.parametrize(("shape", "parts"), [((1, 1, 1), 4), ((1, 2, 1), 2), ((2, 1, 1), 4)])
def test_parts_are_the_whole(shape, parts):
    rng = np.random.default_rng(parts)
    batch = {
        "frames": rng.normal(size=(8, 2, 3, 6)).astype(np.float32),
        "answer_ids": rng.integers(0, 7, (8, 3)),
        "loss_mask": (rng.random((8, 3)) < 0.8).astype(np.float32),
        "level_probs": rng.dirichlet(np.ones(5), 8).astype(np.float32),
        "example_mask": np.array([0, 1, 1, 0, 1, 1, 0, 1], np.float32),
        "severity": rng.integers(-1, 2, (8, 2)),
    }
    trained = {"w": rng.normal(size=(6, 7)), "v": rng.normal(size=(6, 2))}
    trained = jax.tree.map(lambda x: np.float32(0.1 * x), trained)
    whole = jax.jit(jax.value_and_grad(_linear_loss, has_aux=True))(trained, 0.1, batch, 0.7)
    mesh = sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    places = jax.tree.map(lambda _: sharding.replicated(mesh), trained)
    in_parts = accumulate.in_parts(_linear_loss, parts, mesh, places, CONFIDENCE)
    ours = jax.jit(in_parts)(trained, 0.1, sharding.put_batch(batch, mesh), 0.7)
    assert whole[0][1]["weight"] > 0.01
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCES["sharded_loss"]), ours, whole
    )


@pytest.mark.slow
def test_a_step_in_parts_on_two_devices_is_the_whole_step_on_one():
    _same(_run(STUDENT, (1, 1, 1)), _run(STUDENT, (1, 2, 1), accumulate=2))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_also_groups_and_low_rank_additions(shape):
    student = FunctionalStudent(with_additions(STUDENT.cfg, 4))
    trainable = (("llm/layers/lora_*", 1.0), ("*_projector/*", 1.0), ("severity_*", 1.0))
    changes = {"group": 2, "trainable": trainable}
    _same(_run(student, (1, 1, 1), **changes), _run(student, shape, accumulate=2, **changes))


def test_what_does_not_divide_is_refused():
    with pytest.raises(settings.SettingsError, match="accumulate 3 does not divide the 8 rows"):
        dataclasses.replace(CONFIG, accumulate=3)
    config, mesh = micro_student.step_config(accumulate=2), sharding.make_mesh((1, 8, 1))
    student = FunctionalStudent(micro_student.CONFIG)
    step = train_step.make_train_step(student, config, mesh)
    batch = sharding.put_batch(micro_student.batch(0), mesh)
    with pytest.raises(ValueError, match="8 rows of a batch do not divide into 2 parts on 8"):
        step.lower(train_step.abstract_state(student, config, mesh), batch)
