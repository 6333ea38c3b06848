"""Pretraining of the motion extractor: loss, schedule of batches, interrupted runs."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.motion import network, pretrain, synthesis

CONFIG = pretrain.PretrainConfig(steps=3, whole_steps=2, num_pairs=4)


def test_loss_counts_errors_and_differences_inside_pairs():
    rng = np.random.default_rng(0)
    true, predicted = rng.uniform(size=(2, 6, len(synthesis.SEVERITIES))).astype(np.float32)
    want = 0.0
    for column, weight in enumerate((1, 2, 0.2, 0.2, 0.2, 0.2, 0.2)):
        error = predicted[:, column] - true[:, column]
        pairs = [(error[i] - error[i + 1]) ** 2 for i in (0, 2, 4)]
        want += weight * (np.mean(error**2) + 0.5 * np.mean(pairs))
    got = pretrain.severity_loss(jnp.asarray(predicted), jnp.asarray(true))
    np.testing.assert_allclose(got, want, **TOLERANCES["scores_and_losses"])


def test_whole_clips_come_last():
    pyramid = [np.random.default_rng(0).integers(0, 256, (140, 260, 3), dtype=np.uint8)]
    pretrain._pyramids[:] = [pyramid]
    shapes = [pretrain._make_batch(pretrain._job(CONFIG, step))[0].shape for step in (2, 3)]
    assert shapes == [(8, 16, 40, 40, 3), (4, 32, 56, 56, 3)]
    clips, _ = pretrain._make_batch(pretrain._job(CONFIG, 0))
    again, _ = pretrain._make_batch(pretrain._job(CONFIG, 0))
    other, _ = pretrain._make_batch(pretrain._job(CONFIG, 1))
    np.testing.assert_array_equal(clips, again)
    assert np.any(clips != other)


def test_state_is_restored_for_the_same_run_only(tmp_path):
    path = str(tmp_path / "w.state")
    state = ({"a": jnp.arange(3.0)}, (jnp.zeros((2, 2)), jnp.int32(7)))
    pretrain._save(path, state, 5, CONFIG)
    blank = ({"a": jnp.zeros(3)}, (jnp.ones((2, 2)), jnp.int32(0)))
    restored, step = pretrain._restore(path, blank, dataclasses.replace(CONFIG, workers=3))
    assert step == 5 and restored[1][1] == 7
    np.testing.assert_array_equal(restored[0]["a"], state[0]["a"])
    with pytest.raises(ValueError, match=r"w\.state is of another config"):
        pretrain._restore(path, blank, dataclasses.replace(CONFIG, seed=1))


def test_the_stem_starts_blind_to_still_pictures_in_its_differencing_channels():
    cfg = network.FastPathwayConfig(4, num_blocks=(1,))
    model = nnx.jit(lambda: pretrain.SeverityModel(cfg, nnx.Rngs(0)))()
    kernel = np.asarray(model.pathway.stem.kernel[...])
    over_time = kernel.sum(axis=0)  # what a clip of equal frames meets
    np.testing.assert_allclose(over_time[..., :2], 0.0, atol=1e-7)
    np.testing.assert_allclose(kernel[..., 0], -kernel[..., 1])
    assert np.abs(over_time[..., 2:]).max() > 0.01
