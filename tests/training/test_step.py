"""One step on meshes of fake devices, bad batches, weight decay, gradients of every parameter."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from tests.fixtures import micro_student, tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import settings as optim
from vqa_jax.corpus.store import PairCorpus
from vqa_jax.devices import sharding
from vqa_jax.devices.execution import Execution
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.settings import LossConfig
from vqa_jax.training import optim as optim_lib
from vqa_jax.training import step as train_step
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.training.input_pipeline import training_batches
from vqa_jax.weights import bundle

SPEC = tiny_corpus.student_spec()
STEPS = 3


@pytest.fixture(scope="module")
def student():
    return FunctionalStudent(SPEC.student)


@pytest.fixture(scope="module")
def geometry():
    return PromptGeometry(bundle.make_tokenizer(SPEC), SPEC.student.tokens_per_frame, "sentence")


@pytest.fixture(scope="module")
def config(geometry):
    return train_step.StepConfig(
        # No warm-up: the first step must already change the weights.
        optim=optim.OptimConfig(10, 0, 1e-3, 0.05, 1.0, 0.98),
        loss=LossConfig(),
        severity_weight=0.3,
        level_ids=tuple(geometry.level_ids),
        level_index=geometry.level_index,
    )


@pytest.fixture(scope="module")
def batches(corpus, geometry):
    pairs = PairCorpus(corpus, ["vqa_pairs_1"], "train", tiny_corpus.EXTRACTOR)
    settings = tiny_corpus.input_config(answer="sentence")
    found = training_batches(pairs, settings, geometry, SPEC.severity_simulators, 2)
    return [found[t] for t in range(STEPS)]


def _compiled(student, config, shape):
    mesh = sharding.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    return mesh, train_step.make_train_step(student, config, mesh)


def _run(student, config, batches, shape):
    mesh, step = _compiled(student, config, shape)
    state, rows = micro_student.begun(student, config, mesh), []
    for batch in batches:
        state, values = step(state, sharding.put_batch(batch, mesh))
        rows.append({k: float(v) for k, v in values.items()})
    return state, rows


@pytest.fixture(scope="module")
def single(student, config, batches):
    """State and metrics after STEPS steps on one device."""
    return _run(student, config, batches, (1, 1, 1))


@pytest.mark.slow  # test_step_sharded.py has meshes of a smaller student
@pytest.mark.parametrize("shape", [(2, 2, 2), (8, 1, 1)])
def test_meshes_compute_what_one_device_computes(student, config, batches, single, shape):
    state, rows = _run(student, config, batches, shape)
    for row, expected in zip(rows, single[1], strict=True):
        assert row.keys() == expected.keys()
        for name in ("train/loss", "train/ce", "train/entropy", "train/severity_ce"):
            np.testing.assert_allclose(row[name], expected[name], **TOLERANCES["sharded_loss"])
    assert rows[0]["train/loss"] != rows[-1]["train/loss"]
    micro_student.assert_in_shards(state, shape)


def test_metrics_are_complete_and_finite(single):
    row = single[1][0]
    names = "loss ce entropy level_acc grad_norm update_norm lr skipped weight"
    names += " severity_ce severity_acc"
    sources = ("simulator", "teachers", "student", "human")
    names += "".join(f" pairs/{source} right/{source}" for source in sources)
    assert set(row) == {f"train/{name}" for name in names.split()}
    assert np.isfinite(list(row.values())).all() and row["train/skipped"] == 0
    assert row["train/grad_norm"] > 0


def test_loss_is_the_weighted_sum_of_its_reported_parts(single):
    for row in single[1]:
        weight = row["train/weight"]
        parts = (1 - weight) * row["train/ce"] + weight * row["train/entropy"]
        parts += 0.3 * row["train/severity_ce"]
        np.testing.assert_allclose(row["train/loss"], parts, **TOLERANCES["sharded_loss"])


@pytest.mark.parametrize("part", ["motion", "level_probs"])
def test_bad_batch_leaves_the_state_and_so_do_all_after_it(student, config, batches, single, part):
    mesh, step = _compiled(student, config, (1, 1, 1))
    state = micro_student.begun(student, config, mesh)
    before = jax.device_get(state)
    good = batches[0][part]
    poison = np.nan if part == "motion" else np.inf  # of which the loss is infinite
    bad = {**batches[0], part: np.where(good != 0, np.float32(poison), good)}
    for batch in (bad, batches[0]):
        state, values = step(state, sharding.put_batch(batch, mesh))
        assert float(values["train/skipped"]) == 1 and bool(state["stopped"])
        after = {**jax.device_get(state), "stopped": before["stopped"]}
        jax.tree.map(np.testing.assert_array_equal, after, before)
    assert float(values["train/loss"]) == single[1][0]["train/loss"]


def test_every_parameter_gets_a_gradient_in_every_layer(single):
    moments = bundle.flatten(optax.tree_utils.tree_get(single[0]["opt_state"], "mu"))
    assert "newline" in moments and "motion_projector/w_in" in moments
    dead = []
    for name, moment in moments.items():
        if name == "vision/layers/bk":
            continue  # softmax does not see a constant added to every key of a query
        for layer in moment if "/layers/" in name else [moment]:
            if np.abs(layer).max() < 1e-8:
                dead.append(name)
    assert not dead


def test_decay_takes_matrices_and_nothing_else(student):
    mask = bundle.flatten(optim_lib.decay_mask(student.abstract()))
    plain = {name for name, decayed in mask.items() if not decayed}
    assert {"newline", "vision/position", "vision/patch_bias", "severity_bias"} <= plain
    for name, leaf in bundle.flatten(micro_student.drawn(student.abstract())).items():
        rank = leaf.ndim - ("/layers/" in name)  # without the axis of stacked layers
        short = name.rsplit("/", 1)[1] if "/" in name else name
        # Biases of heads are two-dimensional, positions are a table: rank alone does not tell.
        vector = rank == 1 or short in ("bq", "bk", "bv", "position")
        assert bool(mask[name]) is not vector, name


def test_decay_shrinks_masked_weights_only():
    config = optim.OptimConfig(10, 0, 0.1, 0.5, 1.0, 0.98)
    params = {"kernel": np.ones((2, 2), np.float32), "newline": np.ones(2, np.float32)}
    optimizer = optim_lib.make_optimizer(config)
    zeros = jax.tree.map(np.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(updates["newline"], 0)


def test_learning_rate_rises_linearly_then_follows_a_cosine():
    config = optim.OptimConfig(100, 10, 2.0, 0.0, 1.0, 0.98)
    schedule = optim_lib.learning_rate(config)
    for step in (0, 3, 10, 40, 77, 100):
        falling = 1.0 + np.cos(np.pi * (step - 10) / 90)
        expected = 2.0 * step / 10 if step <= 10 else falling
        np.testing.assert_allclose(schedule(step), expected, atol=1e-6)
    with pytest.raises(ValueError, match="warmup_steps"):
        dataclasses.replace(config, warmup_steps=101)


@pytest.mark.parametrize(
    ("platform", "unroll", "layers"),
    [("cpu", 0, 2), ("gpu", 0, 26), ("gpu", 1, 1), ("tpu", 13, 13)],
)
def test_gpus_scan_over_no_layers_unless_told(monkeypatch, platform, unroll, layers):
    monkeypatch.setattr(Execution, "platform", platform)
    config = micro_student.step_config(unroll=unroll)
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    assert config.execution(mesh).layers_a_step(own=2, count=26) == layers
