"""Scoring as programs of `jax.export`, with sequence layout inside and weights beside them.

motion(weights, clips)                                       motion features of a video's clips
prepare(weights, frames, motion, num_frames, num_motion)     anchors' keys, values and positions
levels(weights, keys, values, positions, frames, motion, num_frames, num_motion)
                                                             level logits against every anchor
solve(anchors, logits)                                       the score on the anchors' scale
tower_HxW(weights, frames)                                   a frozen tower's tokens of a frame

Behind a frozen tower there is one program for every shape of frames, and its tokens stand in place
of frames in the others. Every video is padded to the student's most frames and clips; the counts
say what is real.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from jax import export

from vqa_jax.devices.execution import Execution, executing
from vqa_jax.models import prompt
from vqa_jax.models.attention import PAD_POSITION
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.qwen2 import KVCache
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.motion.network import FastPathway
from vqa_jax.pairs.levels import LEVEL_WEIGHTS, LEVELS
from vqa_jax.scoring.steps import make_steps
from vqa_jax.weights.bundle import StudentSpec

# frames uint8 [A G, F, S, S, 3] or tokens float32 [A G, F, P, W], motion float32 [A G, M, Dm],
# their real numbers int32 [A G];
# matrix float32 [A, A] as of `thurstone.average_orders`; a table of scores by q.
ANCHOR_ARRAYS = (
    "frames",
    "motion",
    "num_frames",
    "num_motion",
    "matrix",
    "curve_q",
    "curve_score",
)
PLATFORMS = ("cpu", "cuda", "tpu")
_MOTION = "motion_network/"

Arrays = Mapping[str, Any]


def motion_weights(model: FastPathway) -> dict[str, np.ndarray]:
    """The motion network's arrays by name, as `programs` expects them among the weights."""
    leaves = jax.tree.leaves(nnx.state(model))
    return {f"{_MOTION}{i:03d}": np.asarray(leaf) for i, leaf in enumerate(leaves)}


def programs(
    student: FunctionalStudent,
    spec: StudentSpec,
    tokenizer: Tokenizer,
    extractor: FastPathway,
    weights: Arrays,
    anchors: Arrays,
    groups: int,
) -> dict[str, bytes]:
    """The programs, serialized, for PLATFORMS and XLA's attention.

    Args:
      student: architecture.
      spec: how it sees videos.
      tokenizer: of the prompt.
      extractor: the motion network.
      weights: shapes of all arrays by name: the student's and `motion_weights`.
      anchors: shapes of ANCHOR_ARRAYS by name.
      groups: G, groups of frames of every video (`EncodedVideo`).
    """
    num_anchors = anchors["matrix"].shape[0]
    functions = _functions(student, spec, tokenizer, num_anchors, groups)
    pre, F = spec.preprocess, spec.num_frames
    M, S = max(1, pre.max_clips), pre.image_size
    count = jax.ShapeDtypeStruct((), jnp.int32)

    def shape(dtype: Any, *sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype)

    known, held = (
        {name: jax.ShapeDtypeStruct(v.shape, v.dtype) for name, v in arrays.items()}
        for arrays in (weights, anchors)
    )
    rows = [held[name] for name in ANCHOR_ARRAYS[:4]]
    cache = jax.eval_shape(functions["prepare"], known, *rows)
    kind, seen = jnp.uint8, (S, S, 3)
    if spec.tower:
        kind, seen = jnp.float32, (student.cfg.vision.grid**2, student.cfg.vision.embed_dim)
    video = (
        shape(kind, groups, F, *seen),
        shape(jnp.float32, M, student.cfg.motion_dim),
        count,
        count,
    )
    clips = shape(jnp.uint8, M, pre.clip_len, pre.motion_size, pre.motion_size, 3)
    arguments = {
        "prepare": (known, *rows),
        "levels": (known, *cache, *video),
        "motion": (known, clips),
        "solve": (held, shape(jnp.float32, num_anchors, len(LEVELS))),
    }
    functions |= {"motion": _motion(extractor), "solve": _solve}
    for height, width in pre.fit_shapes() if spec.tower else ():
        name = f"tower_{height}x{width}"
        functions[name] = _tower(student)
        arguments[name] = known, shape(jnp.uint8, 1, height, width, 3)
    return {
        name: bytes(
            export.export(jax.jit(function), platforms=PLATFORMS)(*arguments[name]).serialize()
        )
        for name, function in functions.items()
    }


def _solve(anchors: Arrays, logits: jax.Array) -> jax.Array:
    """Score [] of level logits [A, 5]: `thurstone.map_scores` and `ScoreMap.apply`."""
    matrix, count = anchors["matrix"], len(anchors["matrix"])
    p = jax.nn.softmax(logits) @ jnp.asarray(LEVEL_WEIGHTS)
    m = jnp.block([[matrix, 1 - p[:, None]], [p[None], jnp.full((1, 1), 0.5)]])

    def posterior(q: jax.Array) -> jax.Array:
        return (m * jax.scipy.special.log_ndtr(q[:, None] - q[None])).sum() - 0.5 * (q * q).sum()

    # The curvature is between 1 and 1 + n, so that these steps end within rounding of the solution,
    # without a linear solver, which is a library call of its own on every platform.
    def step(_: int, q: jax.Array) -> jax.Array:
        return q + jax.grad(posterior)(q) / (2 + count)

    q = jax.lax.fori_loop(0, 40 * (2 + count), step, jnp.zeros(count + 1))[-1]
    return jnp.interp(q, anchors["curve_q"], anchors["curve_score"])


def _motion(extractor: FastPathway) -> Callable[..., jax.Array]:
    graphdef, state = nnx.split(extractor)
    names, tree = list(motion_weights(extractor)), jax.tree.structure(state)

    def motion(weights: Arrays, clips: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            state = jax.tree.unflatten(tree, [weights[name] for name in names])
            return nnx.merge(graphdef, state)(clips)

    return motion


def _tower(student: FunctionalStudent) -> Callable[..., jax.Array]:
    def tower(weights: Arrays, frames: jax.Array) -> jax.Array:
        with executing(Execution(attention="xla")):
            return student.bind(_params_of(weights)).vision.statistics(frames)

    return tower


def _params_of(weights: Arrays) -> dict[str, Any]:
    own = {k: v for k, v in weights.items() if not k.startswith(_MOTION)}
    return traverse_util.unflatten_dict(own, sep="/")


def _functions(
    student: FunctionalStudent,
    spec: StudentSpec,
    tokenizer: Tokenizer,
    num_anchors: int,
    groups: int,
) -> dict[str, Callable[..., Any]]:
    per_frame = student.cfg.tokens_per_frame
    steps = make_steps(student, prompt.level_ids(tokenizer))
    bank = spec.bank
    sizes = [bank.frame_tokens] * 2, [bank.motion_tokens] * 2
    whole = prompt.layout(prompt.scoring_ids(tokenizer), *sizes, bank)
    front, tail = whole.tokens[: whole.prefix_len], whole.tokens[whole.prefix_len :]
    tail = np.where(tail < 0, tail + bank.stride, tail)  # the second video's bank alone
    answer = np.full((num_anchors * groups, 1), whole.answer_pos[0] - whole.prefix_len, np.int32)

    def placed(tokens: np.ndarray, num_frames, num_motion, start) -> jax.Array:
        """Positions [R, L] of tokens [L] in rows of which num_frames, num_motion [R] are real."""
        place = -1 - tokens
        newline = bank.frame_tokens
        of_frame, of_motion = (tokens < 0) & (place < newline), place > newline
        real = ~of_frame | (place < num_frames[:, None] * per_frame)
        real &= ~of_motion | (place - newline - 1 < num_motion[:, None])
        return jnp.where(real, start[:, None] + jnp.cumsum(real, 1) - 1, PAD_POSITION)

    def rows_of(tokens: np.ndarray) -> np.ndarray:
        return np.tile(tokens, (num_anchors * groups, 1))

    def prepare(weights: Arrays, frames, motion, num_frames, num_motion):
        with executing(Execution(attention="xla")):
            params = _params_of(weights)
            visual = steps.encode(params, frames, motion)
            model = student.bind(params)
            positions = placed(front, num_frames, num_motion, jnp.zeros_like(num_frames))
            cache = model.hidden(model.merge(rows_of(front), visual), positions)[1]
            return tuple(cache)

    def levels(weights: Arrays, keys, values, cached, frames, motion, num_frames, num_motion):
        with executing(Execution(attention="xla")):
            params = _params_of(weights)
            visual = steps.encode(params, frames, jnp.tile(motion, (groups, 1, 1)))
            second = jnp.tile(visual, (num_anchors, 1, 1))  # rows: an anchor's groups in order
            start = (cached != PAD_POSITION).sum(1)
            counts = (jnp.full_like(start, n) for n in (num_frames, num_motion))
            positions = placed(tail, *counts, start)
            cache = KVCache(keys, values, cached)
            logits = steps.suffix(params, cache, second, rows_of(tail), positions, answer)
            return logits.reshape(num_anchors, groups, -1).mean(1)

    return {"prepare": prepare, "levels": levels}
