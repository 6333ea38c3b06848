"""Every file is used, or refused with a typed, plain error; nothing crashes, nothing hangs."""

import pickle

import numpy as np
import pytest

from tests.fixtures import broken_files
from vqa_jax.media import container, decode, find, probe, view
from vqa_jax.media.preprocess import Preprocess

PRE = Preprocess(image_size=32, motion_size=16, clip_len=4, min_clips=2, max_clips=3)


@pytest.mark.parametrize("name", broken_files.REFUSED)
def test_refused_with_a_typed_reason(name, tmp_path):
    make, error_name, words = broken_files.REFUSED[name]
    path = make(tmp_path)
    for use in (
        probe.probe,
        lambda p: view.video_input(p, PRE),
        lambda p: decode.read_frames(p, [0]),
    ):
        with pytest.raises(container.MediaError) as caught:
            use(path)
        assert type(caught.value).__name__ == error_name
        assert words in caught.value.reason
        assert str(path) in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("name", broken_files.USABLE)
def test_used_as_far_as_it_decodes(name, tmp_path):
    make, least, most = broken_files.USABLE[name]
    path = str(make(tmp_path))
    views, clips, info = view.video_input(path, PRE)
    assert least <= info.num_frames <= most
    assert views.shape == (len(range(0, info.num_frames, round(info.fps))), 32, 32, 3)
    assert clips.shape[1:] == (4, 16, 16, 3) and 2 <= len(clips) <= 3
    if least == most:  # a healthy file: the count needs no decoding
        assert probe.probe(path).num_frames == info.num_frames
    if min(info.width, info.height) >= 16:  # the moving square is bright, the gradient dark
        assert np.ptp(views) > 150
    assert find.find_videos([str(tmp_path)]) == [path]


def test_random_damage_never_escapes_the_error_type(tmp_path):
    rng = np.random.default_rng(0)
    clean = {
        kind: broken_files.encode(tmp_path / f"clean.{kind}", codec=codec).read_bytes()
        for kind, codec in (
            ("mp4", "libx264"),
            ("mkv", "mpeg4"),
            ("avi", "mpeg4"),
            ("ts", "libx264"),
        )
    }
    outcomes = set()
    for trial in range(60):
        kind = sorted(clean)[trial % 4]
        data = np.frombuffer(clean[kind], np.uint8).copy()
        at = rng.integers(0, len(data), rng.integers(1, 200))
        data[at] = rng.integers(0, 256, len(at))
        path = tmp_path / f"{trial}.{kind}"
        path.write_bytes(data[: rng.integers(len(data) // 2, len(data) + 1)].tobytes())
        try:
            views, _, info = view.video_input(path, PRE)
            assert len(views) == len(view.key_frame_indices(info.num_frames, info.fps))
            outcomes.add("used")
        except container.MediaError as error:
            assert error.reason and error.path == str(path)
            outcomes.add("refused")
    assert outcomes == {"used", "refused"}


def test_random_bytes_are_not_a_video(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(10):
        (tmp_path / f"{i}.bin").write_bytes(rng.bytes(200_000))
    assert find.find_videos([tmp_path]) == []


def test_variable_frame_rate(tmp_path):
    """12 quick frames, then 12 slow ones: the average counts, not the nominal rate."""
    times = [40 * i for i in range(12)] + [480 + 160 * i for i in range(12)]
    path = broken_files.encode(tmp_path / "v.mkv", times=times, fps=1000)
    info = probe.probe(path)
    assert info.num_frames == 24
    assert abs(info.fps - 23 / (times[-1] / 1000)) < 0.1
