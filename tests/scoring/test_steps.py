"""Shapes of what scoring computes; its numbers are the engine's, see test_engine."""

import jax
import jax.numpy as jnp

from tests.fixtures.micro_student import MICRO
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.scoring.steps import make_steps


def test_shapes_of_every_step():
    student, size, llm = FunctionalStudent(MICRO), MICRO.vision.image_size, MICRO.llm
    params, steps = student.abstract(), make_steps(student, range(5))

    def of(dtype, *dims):
        return jax.ShapeDtypeStruct(dims, dtype)

    rows, frames, clips, length = 3, 2, 4, 11
    visual = jax.eval_shape(
        steps.encode,
        params,
        of(jnp.uint8, rows, frames, size, size, 3),
        of(jnp.float32, rows, clips, MICRO.motion_dim),
    )
    tokens = frames * MICRO.tokens_per_frame + 1 + clips
    assert visual.shape == (rows, tokens, llm.embed_dim)
    ids, one = of(jnp.int32, rows, length), of(jnp.int32, rows, 1)
    levels = jax.eval_shape(steps.compare, params, visual, visual, ids, one)
    cache = jax.eval_shape(steps.prefix, params, visual, ids, of(jnp.int32, rows))
    assert cache.keys.shape == (llm.num_layers, rows, length, llm.num_kv_heads, llm.head_dim)
    kept = make_steps(student, range(5), "int8").prefix
    small = jax.eval_shape(kept, params, visual, ids, of(jnp.int32, rows))
    assert small.keys.codes.dtype == jnp.int8 and small.keys.codes.shape == cache.keys.shape
    after = jax.eval_shape(steps.suffix, params, cache, visual, ids, ids, one)
    assert levels.shape == after.shape == (rows, 5)
