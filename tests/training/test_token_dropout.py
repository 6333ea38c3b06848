"""Numbers of a frozen tower's tokens that are left out in training."""

import jax.numpy as jnp
import numpy as np

from vqa_jax.training.token_dropout import dropped


def test_a_number_goes_in_a_whole_video_and_the_rest_makes_up_for_it():
    rng = np.random.default_rng(0)
    frames = rng.normal(5, 2, (30, 2, 3, 4, 50)).astype(np.float32)
    mean = rng.normal(5, 1, 50).astype(np.float32)
    found = np.asarray(dropped(jnp.asarray(frames), mean, 0.25, jnp.int32(7)))
    assert found.dtype == np.float32
    gone = np.isclose(found, mean, atol=1e-6)
    assert (gone == gone[..., :1, :1, :]).mean() > 0.999  # the same in frames and cells of a video
    assert abs(gone.mean() - 0.25) < 0.02
    whole = mean + (frames - mean) / 0.75
    np.testing.assert_allclose(found[~gone], whole[~gone], rtol=1e-5, atol=1e-4)
    again = np.asarray(dropped(jnp.asarray(frames), mean, 0.25, jnp.int32(7)))
    other = np.asarray(dropped(jnp.asarray(frames), mean, 0.25, jnp.int32(8)))
    np.testing.assert_array_equal(found, again)
    assert (found != other).mean() > 0.1
