"""Reading for one student: motion features of several videos at once are those of each alone."""

import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from vqa_jax.media.container import MediaError
from vqa_jax.scoring import reading
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.settings import DEFAULT_LIMITS

SPEC = tiny_corpus.student_spec()


class Means:
    """Features of a clip: its mean, in front of zeros; counts its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, clips):
        self.calls.append(len(clips))
        found = np.zeros((len(clips), tiny_corpus.MOTION_DIM), np.float32)
        found[:, 0] = clips.mean((1, 2, 3, 4))
        return found


def _frames(number):
    return np.full((20 + number, 48, 64, 3), 10 * number, np.uint8)


def test_videos_are_read_in_order_and_share_calls_of_the_motion_network(monkeypatch):
    monkeypatch.setattr(reading, "CLIPS_AT_ONCE", 4)
    means = Means()
    reader = reading.Reader(SPEC, lambda: means)
    videos = [_frames(k) for k in range(5)]
    videos.insert(2, "gone.mp4")
    found = list(reader.read_all(videos, 10.0, DEFAULT_LIMITS, 8))
    assert [name for name, _ in found] == ["", "", "gone.mp4", "", "", ""]
    assert isinstance(found[2][1], MediaError) and "no such file" in found[2][1].reason
    given = [video for _, video in found if isinstance(video, VideoInput)]
    assert [v.motion[0, 0] for v in given] == [10 * k for k in range(5)]
    assert sum(means.calls) == sum(len(v.motion) for v in given) and len(means.calls) < 5
    for k, video in enumerate(given):
        alone = reader.read(_frames(k), 10.0, DEFAULT_LIMITS)
        np.testing.assert_array_equal(alone.frames, video.frames)
        np.testing.assert_array_equal(alone.motion, video.motion)
    assert list(reader.read_all([], 10.0, DEFAULT_LIMITS, 8)) == []


def test_a_picture_has_one_motion_token_of_zeros(tmp_path):
    from PIL import Image

    Image.fromarray(_frames(3)[0]).save(tmp_path / "p.png")
    reader = reading.Reader(SPEC, Means)
    for video in (str(tmp_path / "p.png"), (tmp_path / "p.png").read_bytes()):
        found = reader.read(video, None, DEFAULT_LIMITS)
        assert found.motion.shape == (1, tiny_corpus.MOTION_DIM) and not found.motion.any()


def test_tokens_take_the_place_of_frames_that_take_room(monkeypatch):
    frames, motion = np.zeros((1, 2, 8, 8, 3), np.uint8), np.zeros((1, 4), np.float32)
    error = MediaError("b", "decode", "broken")
    videos = [("a", VideoInput(frames, motion)), ("b", error), ("c", VideoInput(frames, motion))]
    small = np.zeros((1, 2, 4, 5), np.float16)

    def tokens(seen):
        return [VideoInput(small, video.motion) for video in seen]

    assert reading.slimmed(videos, tokens) is videos
    monkeypatch.setattr(reading, "_ROOM", 2 * frames.nbytes)
    assert reading.slimmed(videos[:2], tokens) == videos[:2]
    found = reading.slimmed(videos, tokens)
    assert [name for name, _ in found] == ["a", "b", "c"] and found[1][1] is error
    assert all(found[k][1].frames is small for k in (0, 2))
    assert reading.slimmed(found, tokens) is found


@pytest.mark.parametrize(
    ("value", "one"),
    [
        ("a.mp4", True),
        (b"", True),
        (_frames(0), True),
        (np.stack([_frames(0)] * 2), False),
        (["a.mp4"], False),
        (iter(()), False),
    ],
)
def test_one_video_is_told_from_several(value, one):
    assert reading.is_one(value) is one
