"""The pair student: sizes, prefix cache, padding, auxiliary head, weights in and out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fixtures.micro_student import MICRO, VOCAB
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import execution
from vqa_jax.models.student import Student


def test_every_parameter_names_its_axes_and_any_mesh_will_do(student):
    named = nnx.state(student, nnx.Param).flat_state()
    for path, leaf in named:
        names = leaf.get_metadata()["out_sharding"]
        assert len(names) == leaf[...].ndim, path
        assert ("layers" in path) == (names[0] == "layers"), path
    mesh = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):  # which has none of these names
        again = nnx.eval_shape(lambda: Student(MICRO, nnx.Rngs(0)))
    assert again.llm.layers.wq.shape == student.llm.layers.wq.shape


def test_a_row_does_not_depend_on_padding_nor_on_its_neighbours(student, pair):
    frames, motion, laid = pair
    noisy_frames, noisy_motion = frames.copy(), motion.copy()
    noisy_frames[0, 1, 1], noisy_motion[0, 0, 2] = 255 - frames[0, 1, 1], 9.0  # unreferenced
    tokens = np.pad(laid.tokens[None], ((0, 0), (0, 7)), constant_values=11)
    other = np.where(tokens >= 0, (tokens + 1) % VOCAB, tokens)
    args = (
        np.concatenate([frames, noisy_frames, frames]),
        np.concatenate([motion, noisy_motion, motion]),
        np.concatenate(
            [tokens, np.where(np.arange(tokens.shape[1]) < len(laid.tokens), tokens, 3), other]
        ),
        np.repeat(laid.answer_pos[None], 3, 0),
    )
    logits = np.asarray(nnx.jit(lambda s, *a: s(*a))(student, *args))
    np.testing.assert_allclose(logits[1], logits[0], **TOLERANCES["cached_logits"])
    assert np.abs(logits[2] - logits[0]).max() > 1e-3


def test_severity_is_linear_on_the_mean_of_real_frames(student, pair):
    frames, motion, laid = pair
    mask = np.array([[[1, 1], [1, 0]]])
    out = nnx.jit(lambda s, *a: s.forward(*a))(
        student, frames, motion, laid.tokens[None], laid.answer_pos[None], mask
    )
    tower = np.asarray(student.tower_tokens(frames))
    kernel, bias = np.asarray(student.severity_kernel[...]), np.asarray(student.severity_bias[...])
    means = np.stack([tower[0, 0].mean((0, 1)), tower[0, 1, 0].mean(0)])
    np.testing.assert_allclose(out.severity[0], means @ kernel + bias, rtol=1e-4, atol=1e-5)
    bare = dataclasses.replace(MICRO, num_severity_classes=0)
    plain = nnx.eval_shape(lambda: Student(bare, nnx.Rngs(0)))
    with pytest.raises(ValueError, match="num_severity_classes"):
        plain.severity_logits(tower)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["full", "attention", "projections", "gate", "dots"])
def test_remat_and_unroll_change_no_gradient(student, pair, policy):
    frames, motion, laid = pair

    @nnx.jit
    def gradients(*students):
        def loss(s, remat):
            with execution.executing(execution.Execution(remat=remat)):
                logits = s(frames, motion, laid.tokens[None], laid.answer_pos[None])
            return jax.nn.log_softmax(logits)[0, 0, 5]

        policies = ("none", policy)
        return [nnx.grad(loss)(s, p) for s, p in zip(students, policies, strict=True)]

    cfg = dataclasses.replace(
        MICRO,
        vision=dataclasses.replace(MICRO.vision, unroll=2),
        llm=dataclasses.replace(MICRO.llm, unroll=2),
    )
    twin = nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))
    nnx.update(twin, nnx.state(student))
    plain, changed = gradients(student, twin)
    assert float(jnp.abs(plain.vision.patch_kernel[...]).max()) > 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCES["student_gradient"]),
        plain,
        changed,
    )


def test_initial_model_is_undecided_and_sees_its_input(student, pair):
    frames, motion, laid = pair
    many = np.concatenate([frames, np.zeros_like(frames)])
    logits = nnx.jit(lambda s, *a: s(*a))(
        student,
        many,
        np.repeat(motion, 2, 0),
        np.repeat(laid.tokens[None], 2, 0),
        np.repeat(laid.answer_pos[None], 2, 0),
    )
    probability = np.asarray(jax.nn.softmax(logits[:, 0]))
    assert probability.min() > 0.2 / VOCAB and probability.max() < 5 / VOCAB
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
