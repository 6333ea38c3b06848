"""Light teachers at work."""

import json

import numpy as np
import pytest

from tests.fixtures import light_teachers as made
from vqa_jax.jobs.files import write_sealed
from vqa_jax.media.probe import VideoInfo
from vqa_jax.teachers import cards
from vqa_jax.teachers.light import features, statistics, teacher
from vqa_jax.teachers.light.model import LightTeacherError


def _pictures(count, shape=(40, 56, 3)):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape)).astype(np.uint8)


def test_a_video_gets_the_mean_of_its_frames_by_the_regression_of_its_fold(tmp_path):
    found = teacher.load(made.save(tmp_path))
    frames = _pictures(3)
    rows = np.stack([statistics.colour(features.seen(frame)) for frame in frames])
    scores = found.score([frames[:2], frames[2:]], [None, 1])
    np.testing.assert_allclose(scores[0], made.regression(0)(rows[:2]).mean())
    np.testing.assert_allclose(scores[1], made.regression(2)(rows[2:])[0])
    assert found.score_picture(frames[0]) == pytest.approx(made.regression(0)(rows[:1])[0])
    with pytest.raises(LightTeacherError, match="not number 2"):
        found.score_picture(frames[0], fold=2)
    assert found.name == "light_colour" and found.higher_is_better


def test_key_frames_are_one_a_second_and_not_too_many(tmp_path):
    found = teacher.load(made.save(tmp_path))
    info = VideoInfo("a.mp4", "mp4", "h264", 56, 40, 30.0, 100, 100 / 30)
    view = found.views(info, seed=0)["seen"]
    assert view.numbers.tolist() == [0, 30, 60, 90]
    assert view.cut(0, _pictures(1)[0]).shape == (*features.VIEW.fit_shape(40, 56), 3)
    hour = VideoInfo("a.mp4", "mp4", "h264", 56, 40, 30.0, 108_000, 3600.0)
    numbers = found.views(hour, seed=0)["seen"].numbers
    assert len(numbers) == 32 and len(set(numbers)) == 32


def test_another_versions_card_is_refused(tmp_path):
    path = made.save(tmp_path)
    with open(path) as text:
        raw = json.load(text)
    raw.pop("seal")
    write_sealed(path, raw | {"view": "0" * 16})
    with pytest.raises(LightTeacherError, match="another version"):
        teacher.load(path)


def test_shipped_teachers_load_and_prefer_a_picture_to_a_ruined_one():
    from skimage import data

    extractor = features.Extractor()
    picture = data.astronaut()
    noisy = np.random.default_rng(0).normal(picture // 3, 30).clip(0, 255).astype(np.uint8)
    for name in ("light_lite0_all", "light_brisque"):
        found = teacher.load(cards.card(name).path, extractor)
        scores = found.score([picture[None], noisy[None]])
        assert scores[0] > scores[1]
        np.testing.assert_allclose(found.score_picture(noisy), scores[1], atol=0.01)
