"""The student that the tests of its parts share."""

import numpy as np
import pytest

from tests.fixtures.micro_student import MICRO
from vqa_jax.models import prompt
from vqa_jax.models.student import Student


@pytest.fixture(scope="session")
def student(micro_student) -> Student:
    return micro_student


@pytest.fixture(scope="session")
def pair():
    """One pair: 2 and 1 frames, 2 and 3 motion tokens, in a bank of 2 frames and 3 tokens."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, 2, 2, 20, 20, 3), dtype=np.uint8)
    motion = rng.normal(size=(1, 2, 3, 6)).astype(np.float32)
    P = MICRO.tokens_per_frame
    ids = prompt.scoring_ids(prompt.tiny_tokenizer())
    return frames, motion, prompt.layout(ids, [2 * P, P], [2, 3], prompt.Bank(2 * P, 3))
