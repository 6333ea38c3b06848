"""A student that is asked about one video, as a teacher of the registry."""

import jax
import numpy as np
import pytest

from tests.fixtures.micro_student import CONFIG, drawn
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.media.probe import VideoInfo
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.tokenizer import of_words
from vqa_jax.teachers.cards import TeacherError
from vqa_jax.teachers.neural import level_prompt, load
from vqa_jax.weights import bundle, companions

MOST = 3
LINES = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
QUESTION = "\nHow would you rate the quality of this video?<|im_end|>\n"
ANSWER = "<|im_start|>assistant\nThe quality of the video is"


def _tokenizer(words):
    """A token a sign, and the words with the space before them."""
    signs = sorted(set(LINES + QUESTION + ANSWER))
    spaced = [f" {word}" for word in words]
    return of_words([*spaced, *signs, "?!"], "", spaced, "?!")


def _write(folder, words=level_prompt.WORDS, view="squash"):
    student = FunctionalStudent(CONFIG)
    params = drawn(student.abstract())
    pre = Preprocess(view, image_size=16, tile_size=16, num_tiles=MOST)
    spec = bundle.StudentSpec("micro", CONFIG, pre, MOST, "none", ())
    bundle.save(str(folder), spec, params, {})
    _tokenizer(words).save(folder / companions.TOKENIZER_FILE)
    return student, params


def _load(folder):
    return load.load_teachers(["level_prompt"], str(folder), 2, jax.local_devices()[:1])[0]


def test_score_is_the_expected_level_of_the_next_word(tmp_path):
    student, params = _write(tmp_path / "level_prompt")
    teacher = _load(tmp_path)
    rng = np.random.default_rng(0)
    videos = [rng.integers(0, 256, (n, 16, 16, 3), np.uint8) for n in (1, 3, 2)]
    found = teacher.score(videos)
    tokenizer = _tokenizer(level_prompt.WORDS)
    before, after = (tokenizer.encode(text) for text in (LINES, QUESTION + ANSWER))
    answer = jax.jit(lambda params, *inputs: student.bind(params)(*inputs))
    for video, score in zip(videos, found, strict=True):  # alone, and nothing padded
        visual = -1 - np.arange(len(video) * CONFIG.tokens_per_frame + 1)
        tokens = np.concatenate([before, visual, after]).astype(np.int32)[None]
        motion = np.ones((1, 1, 1, CONFIG.motion_dim), np.float32)
        position = np.array([[tokens.size - 1]], np.int32)
        logits = answer(params, video[None, None], motion, tokens, position)[0, 0]
        ids = [level_prompt.WORDS.index(w) for w in ("excellent", "good", "fair", "poor")]
        bad = level_prompt.WORDS.index("bad")
        odds = np.exp(np.asarray(logits, np.float64)[[*ids, bad]])
        wanted = odds @ [1, 0.75, 0.5, 0.25, 0] / odds.sum()
        np.testing.assert_allclose(score, wanted, **TOLERANCES["scores_and_losses"])
    assert len(set(found)) == 3


def test_it_sees_the_students_key_frames(tmp_path):
    _write(tmp_path / "level_prompt")
    teacher = _load(tmp_path)
    info = VideoInfo("a.mp4", "mp4", "h264", 64, 48, 30.0, 300, 10.0)
    view = teacher.views(info, seed=0)["frames"]
    assert view.numbers.tolist() == [0, 90, 180]  # every 30th of ten, thinned to three
    assert view.cut(0, np.zeros((48, 64, 3), np.uint8)).shape == (16, 16, 3)


def test_students_that_cannot_answer_are_refused(tmp_path):
    _write(tmp_path / "a" / "level_prompt", words=())
    with pytest.raises(TeacherError, match="token of its own"):
        _load(tmp_path / "a")
    _write(tmp_path / "b" / "level_prompt", view="crops")
    with pytest.raises(TeacherError, match="crops"):
        _load(tmp_path / "b")
    with pytest.raises(TeacherError, match="convert --to"):
        _load(tmp_path / "none")
    with pytest.raises(prompt.PromptError):
        prompt.word_ids(_tokenizer(()), level_prompt.WORDS)
