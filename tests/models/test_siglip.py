"""The tower: what it refuses, and what cuDNN is given; parity is in tests/parity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import execution
from vqa_jax.models import attention
from vqa_jax.models.siglip import Siglip, SiglipConfig


def test_frames_of_another_size_are_refused(student):
    with pytest.raises(ValueError, match="20"):
        student.tower_tokens(np.zeros((1, 24, 24, 3), np.uint8))


def test_odd_grids_are_filled_once_for_cudnn_and_mean_the_same(monkeypatch):
    plain, lengths = jax.nn.dot_product_attention, []

    def as_cudnn(query, key, value, implementation, **seen):
        lengths.append(query.shape[1])
        return plain(query, key, value, implementation="xla", **seen)

    monkeypatch.setattr(jax.nn, "dot_product_attention", as_cudnn)
    # Whatever the dtype, so that float32 shows that the numbers are the same.
    monkeypatch.setattr(attention, "_kernel", lambda *_: execution.current().attention)
    cfg = SiglipConfig(12, 4, embed_dim=16, mlp_dim=32, num_heads=2, num_layers=2)
    tower = Siglip(cfg, nnx.Rngs(0), "float32", "float32")
    frames = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8)

    def gradients(kind):
        def loss(tower):
            with execution.executing(execution.Execution(attention=kind)):
                out = tower(frames)
            return jnp.sin(out).sum(), out

        return nnx.jit(nnx.grad(loss, has_aux=True))(tower)

    (by_cudnn, out), (by_xla, expected) = gradients("cudnn"), gradients("xla")
    assert out.shape == (2, 9, 16) and set(lengths) == {10}
    np.testing.assert_allclose(out, expected, **TOLERANCES["attention_kernel"])
    ours, theirs = (by.patch_kernel[...] for by in (by_cudnn, by_xla))
    np.testing.assert_allclose(ours, theirs, **TOLERANCES["attention_kernel"])
