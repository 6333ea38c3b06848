"""Answers: notes of cut curves, and no local path in any text."""

from vqa_jax.scoring.timeline import Moment, Timeline
from vqa_jax.serving import answers


def test_a_curve_says_where_it_ends_early():
    moments = (Moment(0, 2, 5.0, 1.0), Moment(1, 3, 4.0, 1.0))
    found = Timeline("/tmp/x/file.mp4", moments, (), "scale", 0)
    for most, note in ((3.0, "the first 3 s"), (3.1, "")):
        curve = answers.curve_of(found, True, most)
        assert curve.note == note and curve.moments == list(moments) and curve.worst == []
    assert curve.summary["mean"] == 4.5


def test_names_stand_for_paths():
    names = {"/tmp/vqa_fetch_1/file.mp4": "a.mp4", "/tmp/vqa_fetch_2/file": "b"}
    text = "/tmp/vqa_fetch_1/file.mp4: broken; '/tmp/vqa_fetch_2/file' is not"
    assert answers.without_paths(text, names) == "a.mp4: broken; 'b' is not"
