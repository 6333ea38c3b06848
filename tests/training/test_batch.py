"""A batch from its examples: tokens, padding and answers."""

import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from vqa_jax.models import prompt
from vqa_jax.pairs import levels
from vqa_jax.training import batch as pair_batch
from vqa_jax.training.batch import PromptGeometry

TOKENS_PER_FRAME = 4  # more than the tiny student's one, so that mistakes of a frame show


def _geometry(answer="level"):
    return PromptGeometry(prompt.tiny_tokenizer(), TOKENS_PER_FRAME, answer)


def _example(num_frames, num_motion, label, rng):
    size = tiny_corpus.PREPROCESS.image_size
    return {
        "frames": tuple(rng.integers(1, 255, (n, size, size, 3), np.uint8) for n in num_frames),
        "motion": tuple(rng.normal(size=(n, 4)).astype(np.float32) for n in num_motion),
        "level_probs": levels.level_probs(label),
        "severity": np.array([0, 1], np.int32),
        "group": "simulator",
    }


def test_every_real_visual_token_is_referred_to_once_and_padding_never():
    rng = np.random.default_rng(0)
    counts = [((3, 1), (1, 2)), ((1, 2), (2, 1)), ((3, 3), (2, 2))]
    examples = [_example(f, m, "worse", rng) for f, m in counts]
    geometry = _geometry()
    batch = pair_batch.pad_batch(examples, geometry, num_frames=3, num_motion=2)
    # The bank of one example, token by token: (video, "frame" or "motion" or "newline", index).
    bank = []
    for video in range(2):
        bank += [(video, "frame", f) for f in range(3) for _ in range(TOKENS_PER_FRAME)]
        bank += [(video, "newline", 0)] + [(video, "motion", m) for m in range(2)]
    for i, (frames, motion) in enumerate(counts):
        got = [bank[-1 - t] for t in batch["tokens"][i] if t < 0]
        wanted = []
        for video in range(2):
            wanted += [
                (video, "frame", f) for f in range(frames[video]) for _ in range(TOKENS_PER_FRAME)
            ]
            wanted += [(video, "newline", 0)]
            wanted += [(video, "motion", m) for m in range(motion[video])]
            np.testing.assert_array_equal(
                batch["frame_mask"][i, video], [f < frames[video] for f in range(3)]
            )
            np.testing.assert_array_equal(
                batch["frames"][i, video, : frames[video]], examples[i]["frames"][video]
            )
            np.testing.assert_array_equal(
                batch["motion"][i, video, : motion[video]], examples[i]["motion"][video]
            )
        assert got == wanted
        used = {-1 - t for t in batch["tokens"][i] if t < 0}
        assert len(used) == len(got)  # no token twice
    # The fullest pair fits exactly, and the others are padded behind their answers.
    assert batch["answer_pos"].max() < batch["tokens"].shape[1]


@pytest.mark.parametrize("answer", ["level", "sentence"])
def test_answer_tokens_are_those_that_follow_their_positions(answer):
    tokenizer = prompt.tiny_tokenizer()
    geometry = PromptGeometry(tokenizer, TOKENS_PER_FRAME, answer)
    rng = np.random.default_rng(0)
    examples = [
        _example((1, 2), (1, 1), label, rng) for label in ("inferior", "similar", "superior")
    ]
    batch = pair_batch.pad_batch(examples, geometry, 2, 1)
    following = np.take_along_axis(batch["tokens"], batch["answer_pos"] + 1, axis=1)
    np.testing.assert_array_equal(batch["answer_ids"], following)
    for i, label in enumerate(("inferior", "similar", "superior")):
        text = tokenizer.decode(batch["answer_ids"][i])
        sentence = f"The quality of the second video is {label} to the first video.<|im_end|>"
        assert text == (f" {label}" if answer == "level" else sentence)
        level_id = batch["answer_ids"][i, geometry.level_index]
        assert level_id == geometry.level_ids[levels.LEVELS.index(label)]
