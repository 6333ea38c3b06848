"""What neural teachers look at, by name."""

import dataclasses

import numpy as np

from vqa_jax.media.probe import VideoInfo
from vqa_jax.teachers import known, looks

INFO = VideoInfo("clip.mp4", "mp4", "h264", 320, 240, 25.0, 250, 10.0)


def test_all_neural_teachers_but_students_have_views():
    neural = {card.name for card in known.CARDS if card.kind == known.NEURAL}
    assert set(looks.LOOKS) == neural - {"level_prompt"}
    assert set(looks.needed(looks.LOOKS)) == set(looks.VIEWS)
    assert looks.needed(["dover", "dover_technical"]) == ["aesthetic", "fragments_3"]


def test_views_have_the_published_sizes():
    frame = np.zeros((240, 320, 3), np.uint8)
    wanted = {
        "fragments_4": (128, 224, 224),
        "fragments_3": (96, 224, 224),
        "aesthetic": (32, 224, 224),
        "key_frames": (10, 384, 384),
        "motion": (320, 224, 224),
        "sampled": (10, 1080, 1920),
    }
    found = {}
    for name, made in looks.VIEWS.items():
        view = made(INFO, 5)
        assert view.numbers.min() >= 0 and view.numbers.max() < 250
        found[name] = (len(view.numbers), *view.cut(0, frame).shape[:2])
    assert found == wanted


def test_views_follow_from_length_rate_and_seed_alone():
    """A segment of a corpus is told by its source's file, of which it may be a part."""
    other = dataclasses.replace(INFO, path="x.mkv", codec="av1", width=7, duration=99.0)
    for made in looks.VIEWS.values():
        np.testing.assert_array_equal(made(INFO, 5).numbers, made(other, 5).numbers)
