"""Sampling rules, views and decoding against goldens, brute force and a second implementation."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from tests.fixtures.broken_files import encode, moving_frames
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media import decode, probe, view
from vqa_jax.media.preprocess import Preprocess

CROPS = Preprocess(
    view="crops", image_size=16, tile_size=20, num_tiles=7, motion_size=16, clip_len=4,
    min_clips=1, max_clips=2,
)  # fmt: skip
FIT = Preprocess(
    view="fit", image_size=32, motion_size=16, clip_len=4, min_clips=1, max_clips=2
)  # fmt: skip
SQUASH = Preprocess(image_size=24, motion_size=16, clip_len=4, min_clips=2, max_clips=3)


def test_sampling_goldens(shared):
    golden = json.loads((shared / "golden/math/frame_sampling.json").read_text())
    assert len(golden["cases"]) > 10
    for case in golden["cases"]:
        n, fps = case["num_frames"], case["average_fps"]
        assert view.key_frame_indices(n, fps) == case["key_frames"], (n, fps)
        assert view.motion_clip_indices(n, fps).tolist() == case["motion_clips"], (n, fps)


def test_spread_clips_cover_the_whole_video():
    first = view.motion_clip_indices(1000, 10, clip_len=2, min_clips=1, max_clips=4)
    spread = view.motion_clip_indices(1000, 10, clip_len=2, min_clips=1, max_clips=4, spread=True)
    assert first[:, 0].tolist() == [0, 10, 20, 30]
    assert spread[:, 0].tolist() == [0, 250, 500, 750]
    assert view.motion_clip_indices(50, 10, min_clips=0, max_clips=0).shape == (0, 32)


@pytest.mark.parametrize("num_frames, fps", [(0, 30.0), (10, 0.0), (10, float("nan"))])
def test_sampling_refuses_nonsense(num_frames, fps):
    with pytest.raises(ValueError, match="num_frames >= 1 and fps > 0"):
        view.key_frame_indices(num_frames, fps)


def _resize_matrix(n_in: int, n_out: int, kernel, support: float) -> np.ndarray:
    """Rows of weights of a resize with half-pixel centres; the kernel widens with the reduction."""
    scale = max(n_in / n_out, 1.0)
    centres = (np.arange(n_out) + 0.5) * n_in / n_out
    weights = kernel((np.arange(n_in) + 0.5 - centres[:, None]) / scale)
    weights[np.abs(np.arange(n_in) + 0.5 - centres[:, None]) >= support * scale] = 0
    return weights / weights.sum(1, keepdims=True)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    return np.where(x < 1, inner, np.where(x < 2, -0.5 * (x**3 - 5 * x**2 + 8 * x - 4), 0))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _resize(image: np.ndarray, size, kernel, support: float) -> np.ndarray:
    height, width = np.broadcast_to(size, 2)
    rows = _resize_matrix(image.shape[0], height, kernel, support)
    columns = _resize_matrix(image.shape[1], width, kernel, support)
    across = np.clip(np.einsum("jw,hwc->hjc", columns, image.astype(float)), 0, 255)
    return np.clip(np.einsum("ih,hjc->ijc", rows, across), 0, 255)


def test_squash_is_bicubic_and_motion_is_bilinear():
    video = np.random.default_rng(0).integers(0, 256, (3, 40, 18, 3), np.uint8)
    squashed = view.view_frames(video, SQUASH)  # 40 -> 24 down, 18 -> 24 up
    clips = view.motion_clips(video, 1.0, SQUASH)
    for t in range(3):
        expected = _resize(video[t], 24, _cubic, 2.0)
        np.testing.assert_allclose(squashed[t], expected, **TOLERANCES["resized_levels"])
    expected = _resize(video[1], 16, _triangle, 1.0)
    np.testing.assert_allclose(clips[0, 1], expected, **TOLERANCES["resized_levels"])
    assert (clips[2, 0] == clips[2, 1]).all()  # clip 2 starts at the last frame: filled up with it


@pytest.mark.parametrize(
    ("size", "shape"), [((20, 26), (32, 32)), ((90, 160), (32, 64)), ((60, 45), (32, 32))]
)
def test_fit_is_bicubic_in_the_nearest_shape_up_and_down(size, shape):
    video = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    pre = dataclasses.replace(FIT, max_key_frames=2)
    seen = view.view_frames(video, pre)
    assert seen.shape == (2, *shape, 3) and seen.dtype == np.uint8
    for frame, t in zip(seen, (0, 1), strict=True):  # of three, the first two: 0 and 3 // 2
        expected = _resize(video[t], shape, _cubic, 2.0)
        np.testing.assert_allclose(frame, expected, **TOLERANCES["resized_levels"])
    again = view.view_frames(seen, pre)  # what is seen once is not changed by another look
    np.testing.assert_array_equal(again, seen)


def test_tiles_are_native_pixels_of_the_right_key_frames():
    pre = Preprocess(view="crops", image_size=16, tile_size=20, num_tiles=7)
    y, x = np.mgrid[:50, :90]
    video = np.stack([np.stack([y, x, np.full_like(x, k)], -1) for k in range(3)]).astype(np.uint8)
    tiles = view.view_frames(video, pre)
    assert tiles.shape == (7, 20, 20, 3)
    for i, tile in enumerate(tiles):
        top, left, key = tile[0, 0].tolist()
        assert key == i * 3 // 7
        np.testing.assert_array_equal(tile, video[key, top : top + 20, left : left + 20])
    assert tuple(tiles[0, 0, 0, :2]) == (15, 35)  # the first tile is the centre
    assert len({tuple(t[0, 0, :2]) for t in tiles}) == 7


@pytest.mark.parametrize(("count", "most"), [(1, 0), (31, 0), (200, 0), (200, 3), (61, 8)])
def test_tiles_come_from_the_frames_that_are_named(count, most):
    pre = Preprocess(
        view="crops", image_size=8, tile_size=8, num_tiles=5, max_key_frames=most, clip_len=4
    )
    keys = np.array(view.key_frame_indices(count, 10.0), np.uint8)
    tiles = view.view_frames(np.broadcast_to(keys[:, None, None, None], (len(keys), 9, 9, 3)), pre)
    assert view.tile_frames(count, 10.0, pre) == tiles[:, 0, 0, 0].tolist()


def test_tile_positions_spread_evenly():
    """Each ninth of the frame gets its share of 900 corners, far better than chance would do."""
    pre = Preprocess(view="crops", image_size=10, tile_size=10, num_tiles=900)
    corners = np.array(view.tile_positions(309, 609, pre))
    assert corners.min() >= 0 and (corners.max(0) <= (299, 599)).all()
    counts, _, _ = np.histogram2d(*corners.T, bins=3, range=[[0, 300], [0, 600]])
    assert abs(counts - 100).max() <= 5


def test_small_frames_are_scaled_up_just_enough():
    pre = Preprocess(view="crops", image_size=30, tile_size=30, num_tiles=2)
    image = np.random.default_rng(0).integers(0, 256, (1, 15, 20, 3), np.uint8)
    tiles = view.view_frames(image, pre)
    rows = _resize_matrix(15, 30, _triangle, 1.0)
    columns = _resize_matrix(20, 40, _triangle, 1.0)
    scaled = np.einsum("ih,jw,hwc->ijc", rows, columns, image[0].astype(float))
    for tile, (y, x) in zip(tiles, view.tile_positions(30, 40, pre), strict=True):
        part = scaled[y : y + 30, x : x + 30]
        np.testing.assert_allclose(tile, part, **TOLERANCES["resized_levels"])


@pytest.mark.parametrize("max_key_frames", [0, 2])
@pytest.mark.parametrize("base", [SQUASH, CROPS, FIT], ids=lambda pre: pre.view)
def test_one_pass_equals_all_frames_in_memory(base, max_key_frames, tmp_path):
    pre = Preprocess.from_json(
        base.to_json().replace('"max_key_frames": 0', f'"max_key_frames": {max_key_frames}')
    )
    path = encode(tmp_path / "a.mp4", moving_frames(57))
    views, clips, info = view.video_input(path, pre)
    everything = decode.read_segment(path, 0, 57)
    keys = everything[view.key_frame_indices(57, info.fps)]
    np.testing.assert_array_equal(views, view.view_frames(keys, pre))
    np.testing.assert_array_equal(clips, view.motion_clips(everything, info.fps, pre))
    for one, other in zip(
        view.frames_input(everything, info.fps, pre), (views, clips), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    again = view.video_input(path, pre)
    assert views.tobytes() == again[0].tobytes() and clips.tobytes() == again[1].tobytes()


def test_one_frame_is_a_video_and_none_is_not():
    views, clips = view.frames_input(moving_frames(1), 30.0, CROPS)
    assert views.shape == (7, 20, 20, 3) and clips.shape == (1, 4, 16, 16, 3)
    for frames, fps in ((moving_frames(1)[:0], 30.0), (moving_frames(1), -1.0)):
        with pytest.raises(view.FramesError, match="give"):
            view.frames_input(frames, fps, CROPS)


def test_a_file_that_promises_too_much_gives_what_its_frames_give(tmp_path, monkeypatch):
    """The header says 57 frames and 30 decode: as if the header had said 30."""
    path = str(encode(tmp_path / "a.mp4", moving_frames(30)))
    honest = view.video_input(path, CROPS)
    real = probe.probe(path)
    fields = {**vars(real), "num_frames": 57, "duration": 5.7}
    monkeypatch.setattr(view, "probe", lambda *_: probe.VideoInfo(**fields))
    views, clips, info = view.video_input(path, CROPS)
    np.testing.assert_array_equal(views, honest[0])
    np.testing.assert_array_equal(clips, honest[1])
    assert info == dataclasses.replace(real, missing="30 of 57 frames")


def test_memory_is_bounded(tmp_path):
    """300 native frames are 69 MB; reading them for a few small tiles takes a few frames' room."""
    path = encode(tmp_path / "long.mp4", moving_frames(10, 240, 320).repeat(30, 0), fps=5)
    view.video_input(path, CROPS)
    tracemalloc.start()
    view.video_input(path, CROPS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6
