"""The engine behind a frozen tower: tokens in place of frames, one size of rows, any shape."""

import jax
import numpy as np
import pytest

from tests.fixtures import cell_student, tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.scoring import engine as scoring
from vqa_jax.scoring.anchors import AnchorError, AnchorSet
from vqa_jax.weights import bundle

SPEC = cell_student.spec()


@pytest.fixture(scope="module")
def student() -> FunctionalStudent:
    return FunctionalStudent(SPEC.student)


@pytest.fixture(scope="module")
def params(student):
    return cell_student.params(student)


@pytest.fixture(scope="module")
def engine(student, params) -> scoring.Engine:
    return scoring.Engine(student, params, SPEC, bundle.make_tokenizer(SPEC), batch_size=4)


def _video(source: int, level: int, frames: int = 2, groups: int = 1) -> scoring.VideoInput:
    rng = np.random.default_rng([source, level])
    pictures = cell_student.frames(source, level, groups * frames)
    motion = rng.normal(0.0, 0.1, (1 + source % 2, tiny_corpus.MOTION_DIM)).astype(np.float32)
    return scoring.VideoInput(pictures.reshape(groups, frames, *pictures.shape[1:]), motion)


@pytest.fixture(scope="module")
def videos() -> list[scoring.VideoInput]:
    """Of both shapes, with one or two frames, and one in two groups."""
    return [_video(0, 0), _video(1, 1), _video(0, 3, 1), _video(1, 2, 1, 2)]


@pytest.fixture(scope="module")
def tokens(engine, videos) -> list[scoring.VideoInput]:
    return engine.tower_tokens(videos)


def test_tokens_stand_in_place_of_frames_once(engine, videos, tokens):
    for video, seen in zip(videos, tokens, strict=True):
        assert seen.frames.shape == (*video.frames.shape[:2], 4, 4128)
        assert seen.frames.dtype == np.float16 and seen.motion is video.motion
    again = engine.tower_tokens(tokens)
    assert all(one is other for one, other in zip(again, tokens, strict=True))
    mixed = engine.tower_tokens([videos[0], tokens[1], videos[2]])
    for one, other in zip(mixed, tokens, strict=False):
        np.testing.assert_allclose(one.frames, other.frames, **TOLERANCES["stored_deviations"])


def test_tokens_give_the_level_logits_of_frames(engine, videos, tokens):
    order = [(0, 1), (1, 2), (2, 0)]
    logits = []
    for inputs in (videos, tokens):
        encoded = list(engine.encode(inputs))
        logits.append(engine.compare([(encoded[i], encoded[j]) for i, j in order]))
    np.testing.assert_allclose(logits[0], logits[1], **TOLERANCES["token_logits"])
    assert np.ptp(logits[0], axis=0).max() > 1e-2  # the pairs are told apart


def _by_the_module(student, params, one, other) -> np.ndarray:
    """Level logits [1, 5] of two videos of one group, by the whole student."""
    tokenizer, per_frame = bundle.make_tokenizer(SPEC), SPEC.student.tokens_per_frame
    frames = np.stack([one.frames, other.frames], 1)
    row = prompt.layout(
        prompt.scoring_ids(tokenizer),
        [2 * per_frame] * 2,
        [len(one.motion), len(other.motion)],
        prompt.Bank(2 * per_frame, 1),
    )
    return jax.jit(lambda p, *x: student.bind(p).level_logits(*x))(
        params,
        frames if frames.dtype == np.uint8 else frames.astype(np.float32),
        np.stack([one.motion, other.motion])[None],
        row.tokens[None],
        row.answer_pos[None],
        np.asarray(prompt.level_ids(tokenizer)),
    )


@pytest.mark.parametrize("seen", ["tokens", pytest.param("frames", marks=pytest.mark.slow)])
def test_the_engine_gives_the_level_logits_of_the_whole_student(engine, student, params, seen):
    """Of frames in one program with the tower, of tokens without it."""
    videos = [_video(0, 0), _video(2, 3)]
    found = engine.compare([tuple(engine.encode(videos))])
    given = engine.tower_tokens(videos) if seen == "tokens" else videos
    expected = _by_the_module(student, params, *given)
    np.testing.assert_allclose(found, expected, **TOLERANCES["token_logits"])


def test_results_do_not_depend_on_the_company(engine, tokens):
    encoded = list(engine.encode(tokens))
    alone = [next(engine.encode([video])) for video in tokens]
    for one, other in zip(encoded, alone, strict=True):
        np.testing.assert_allclose(one.visual, other.visual, **TOLERANCES["level_logits"])
    pairs = [(encoded[i], encoded[3 - i]) for i in range(4)]
    together = engine.compare(pairs)
    single = np.concatenate([engine.compare([pair]) for pair in pairs])
    np.testing.assert_allclose(together, single, **TOLERANCES["level_logits"])


def test_anchors_kept_as_tokens_survive_the_disk_and_give_the_same_scores(
    engine, videos, tokens, tmp_path
):
    names, levels = ("a", "b", "c"), (0.0, 40.0, 100.0)
    kept = AnchorSet(names, tuple(tokens[:3]), levels, "MOS", False)
    kept.save(str(tmp_path))
    loaded = AnchorSet.load(str(tmp_path), SPEC)
    for one, other in zip(loaded.inputs, tokens, strict=False):
        np.testing.assert_array_equal(one.frames, other.frames)
        assert one.frames.dtype == np.float16
    encoded = [list(engine.encode(inputs)) for inputs in (videos[:3], loaded.inputs)]
    answers = []
    for anchors in encoded:
        engine.set_anchors(anchors)
        answers.append(engine.against_anchors(next(engine.encode([videos[3]]))))
    np.testing.assert_allclose(answers[0], answers[1], **TOLERANCES["token_logits"])


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 2, 4, 4127), np.float16),
        np.zeros((1, 2, 1, 4128), np.float16),
        np.zeros((2, 4, 4128), np.float16),
        np.zeros((1, 2, 64, 96, 3), np.uint8),  # nobody keeps pictures behind a tower
        np.full((1, 2, 4, 4128), np.nan, np.float16),
        np.zeros((1, 3, 4, 4128), np.float16),
    ],
)
def test_what_is_no_token_of_the_tower_is_no_anchor(frames, tmp_path):
    motion = np.zeros((1, tiny_corpus.MOTION_DIM), np.float32)
    inputs = (scoring.VideoInput(frames, motion),) * 2
    AnchorSet(("a", "b"), inputs, (0.0, 1.0), "MOS", False).save(str(tmp_path))
    complaint = "no tokens of its tower|numbers that are not finite|3. pictures"
    with pytest.raises(AnchorError, match=rf"0/frames .*({complaint}).*vqa_jax anchors"):
        AnchorSet.load(str(tmp_path), SPEC)
