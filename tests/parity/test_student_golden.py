"""The pair student against torch + transformers: the published tiny model and its activations."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.exchange.sizes import student_config
from vqa_jax.exchange.student_io import load_student
from vqa_jax.models import prompt
from vqa_jax.models.qwen2 import Qwen2, rotate
from vqa_jax.models.student import Student, bilinear_pool

EXACT = TOLERANCES["level_logits"]


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden/lmm_pair/io.npz")


@pytest.fixture(scope="module")
def student(shared):
    return load_student(shared / "golden/lmm_pair")


def _bank(videos, num_frames, num_motion):
    """Pads videos (frames, motion) to common sizes; the padding is loud, so that leaks show."""
    side, dim = videos[0][0].shape[1], videos[0][1].shape[1]
    frames = np.full((1, len(videos), num_frames, side, side, 3), 255, np.uint8)
    motion = np.full((1, len(videos), num_motion, dim), 7.0, np.float32)
    for index, (f, m) in enumerate(videos):
        frames[0, index, : len(f)], motion[0, index, : len(m)] = f, m
    return frames, motion


def _videos(golden):
    return [(golden[f"frames_{v}"], golden[f"motion_{v}"]) for v in (0, 1)]


def _inputs(golden, tokens_per_frame, videos=None, extra_frames=0, extra_motion=0):
    """Frames, motion, layout of a pair in a bank that is larger than needed by the extras."""
    videos = _videos(golden) if videos is None else videos
    num_frames = max(len(f) for f, _ in videos) + extra_frames
    num_motion = max(len(m) for _, m in videos) + extra_motion
    laid = prompt.layout(
        golden["input_ids"],
        [len(f) * tokens_per_frame for f, _ in videos],
        [len(m) for _, m in videos],
        prompt.Bank(num_frames * tokens_per_frame, num_motion),
    )
    return *_bank(videos, num_frames, num_motion), laid


@nnx.jit
def _level_logits(student, *inputs):
    return student.level_logits(*inputs)


def _level_error(student, golden, *inputs):
    frames, motion, laid = inputs
    got = _level_logits(
        student, frames, motion, laid.tokens[None], laid.answer_pos[None], golden["level_ids"]
    )
    return np.abs(np.asarray(got[0]) - golden["level_logits"]).max()


@pytest.mark.parametrize("video", [0, 1])
def test_tower_and_pooled_tokens(student, golden, video):
    tower = student.tower_tokens(golden[f"frames_{video}"])
    np.testing.assert_allclose(tower, golden[f"vision_{video}"], **EXACT)
    pooled = student.pooled_tokens(tower)
    np.testing.assert_allclose(pooled.reshape(-1, 64), golden[f"pooled_{video}"], **EXACT)


def test_merged_sequence_and_all_logits(student, golden):
    frames, motion, laid = _inputs(golden, student.cfg.tokens_per_frame)
    visual = student.encode_videos(frames[0], motion[0])
    embeds = student.merge(laid.tokens[None], visual.reshape(1, -1, visual.shape[-1]))
    np.testing.assert_allclose(embeds[0], golden["embeds"], **EXACT)
    assert laid.answer_pos[0] == golden["answer_position"]

    everywhere = np.arange(len(laid.tokens))[None]
    logits = student(frames, motion, laid.tokens[None], everywhere)
    np.testing.assert_allclose(logits[0], golden["logits"], **EXACT)


def test_level_logits_alone_and_in_a_padded_batch(student, golden):
    frames, motion, laid = _inputs(golden, student.cfg.tokens_per_frame)
    assert _level_error(student, golden, frames, motion, laid) < EXACT["atol"]

    # Beside a pair with more frames, fewer motion tokens and another length, all padded.
    rng = np.random.default_rng(0)
    other = [
        (rng.integers(0, 256, (7, 70, 70, 3), dtype=np.uint8), golden["motion_1"][:2]),
        (golden["frames_0"][:1], golden["motion_0"]),
    ]
    frames, motion, laid = _inputs(golden, student.cfg.tokens_per_frame, extra_frames=2)
    other_frames, other_motion, other_laid = _inputs(golden, student.cfg.tokens_per_frame, other)
    assert frames.shape == other_frames.shape and motion.shape == other_motion.shape
    size = max(len(laid.tokens), len(other_laid.tokens)) + 5
    assert len(laid.tokens) != len(other_laid.tokens)
    tokens = np.full((2, size), 3, np.int32)
    for row, one in enumerate((other_laid, laid)):
        tokens[row, : len(one.tokens)] = one.tokens
    logits = _level_logits(
        student,
        np.concatenate([other_frames, frames]),
        np.concatenate([other_motion, motion]),
        tokens,
        np.stack([other_laid.answer_pos, laid.answer_pos]),
        golden["level_ids"],
    )
    np.testing.assert_allclose(logits[1], golden["level_logits"], **EXACT)
    assert np.abs(logits[0] - logits[1]).max() > 0.01


class _LateKeys(Qwen2):
    def hidden(self, embeds, positions, prefix_cache=None, *, return_cache=True):
        from vqa_jax.models import qwen2

        calls = []

        def late(x, positions, theta):
            calls.append(x)  # the layer rotates queries first, keys second
            return rotate(x, positions + (len(calls) % 2 == 0), theta)

        original, qwen2.rotate = qwen2.rotate, late
        try:
            return super().hidden(embeds, positions, prefix_cache, return_cache=return_cache)
        finally:
            qwen2.rotate = original


def test_mutations_are_noticed(student, golden):
    """Each of these mistakes must move the level logits by far more than the tolerance."""
    far = 10 * EXACT["atol"]
    inputs = _inputs(golden, student.cfg.tokens_per_frame)
    assert _level_error(student, golden, *inputs) < EXACT["atol"]

    swapped = dict(golden) | {"level_ids": golden["level_ids"][[0, 1, 3, 2, 4]]}
    assert _level_error(student, swapped, *inputs) > far

    frames, motion, laid = inputs
    reversed_pair = (frames[:, ::-1], motion[:, ::-1], laid)
    assert _level_error(student, golden, *reversed_pair) > far

    newlines = np.isin(-1 - laid.tokens, [45, 45 + 9 + 45])
    assert newlines.sum() == 2
    one_dropped = laid.tokens[np.arange(len(laid.tokens)) != np.flatnonzero(newlines)[1]]
    dropped = dataclasses.replace(laid, tokens=one_dropped, answer_pos=laid.answer_pos - 1)
    assert _level_error(student, golden, frames, motion, dropped) > far

    mutant = nnx.clone(student)
    mutant.llm.__class__ = _LateKeys
    assert _level_error(mutant, golden, *inputs) > far


@pytest.mark.parametrize("grid", [5, 8, 27])
def test_bilinear_pool_is_torch_interpolate(grid):
    torch = pytest.importorskip("torch")
    tokens = np.random.default_rng(grid).normal(size=(2, grid * grid, 3)).astype(np.float32)
    square = torch.tensor(tokens).reshape(2, grid, grid, 3).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(
        square, size=(-(-grid // 2),) * 2, mode="bilinear", align_corners=False
    )
    expected = expected.permute(0, 2, 3, 1).reshape(2, -1, 3).numpy()
    np.testing.assert_allclose(bilinear_pool(tokens, grid), expected, **TOLERANCES["bilinear_pool"])


def test_config_is_read_from_the_checkpoint(shared):
    cfg = student_config(shared / "golden/lmm_pair")
    sizes = (cfg.vision.num_layers, cfg.vision.grid, cfg.tokens_per_frame, cfg.motion_dim)
    assert sizes == (3, 5, 9, 256)
    abstract = nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))
    assert abstract.llm.layers.wk.shape == (3, 64, 2, 16)
