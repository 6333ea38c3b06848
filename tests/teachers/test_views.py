"""Views of the teachers: fragments by their properties, resizes against PIL, NumPy against JAX."""

import dataclasses

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media.probe import VideoInfo
from vqa_jax.teachers import views

SIZES = [(224, 224), (231, 400), (720, 1280), (1080, 608)]


def _told_frames(count, height, width):
    """Frames whose pixels tell where they are: red and green the place, blue the frame."""
    y, x = np.mgrid[:height, :width]
    place = y * width + x
    one = np.stack([place & 255, place >> 8 & 255, place >> 16 & 255], -1).astype(np.uint8)
    frames = np.repeat(one[None], count, axis=0)
    frames[..., 2] += 32 * np.arange(count, dtype=np.uint8)[:, None, None]
    return frames


def _info(frames, fps=30.0):
    return VideoInfo("clip.mp4", "mp4", "h264", 1280, 720, fps, frames, frames / fps)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(5))
def test_every_patch_is_native_and_from_its_own_cell(size, seed):
    frames = _told_frames(3, *size)
    cut = views.fragments(frames, seed)
    assert cut.shape == (3, 224, 224, 3) and cut.dtype == np.uint8
    cell_y, cell_x = size[0] // 7, size[1] // 7
    patches = cut.astype(np.int64).reshape(3, 7, 32, 7, 32, 3)
    for t in range(3):
        place = (
            patches[t, ..., 0] + 256 * patches[t, ..., 1] + 65536 * (patches[t, ..., 2] - 32 * t)
        )
        y, x = place // size[1], place % size[1]
        for i in range(7):
            for j in range(7):
                corner_y, corner_x = y[i, 0, j, 0], x[i, 0, j, 0]
                # Unscaled: one pixel further in the patch is one pixel further in the frame.
                np.testing.assert_array_equal(
                    y[i, :, j] - corner_y, np.arange(32)[:, None] + np.zeros((32, 32), int)
                )
                np.testing.assert_array_equal(
                    x[i, :, j] - corner_x, np.arange(32)[None] + np.zeros((32, 32), int)
                )
                assert i * cell_y <= corner_y and corner_y + 32 <= (i + 1) * cell_y
                assert j * cell_x <= corner_x and corner_x + 32 <= (j + 1) * cell_x


def test_all_frames_of_a_clip_are_cut_alike_and_clips_differently():
    frames = np.repeat(_told_frames(1, 720, 1280), 8, axis=0)
    cut = views.fragments(frames, 3)
    assert (cut == cut[:1]).all()
    np.testing.assert_array_equal(cut[2:3], views.fragments(frames[5:6], 3))
    corners = [views.fragment_corners(720, 1280, seed, clip) for seed in (3, 4) for clip in (0, 1)]
    for k in range(3):
        assert (corners[k] != corners[k + 1]).mean() > 0.9


def test_places_are_even_over_the_cell():
    offsets = np.stack([views.fragment_corners(231, 300, seed) for seed in range(3000)])
    inside = offsets[:, 1] % (300 // 7)
    counts = np.bincount(inside.ravel(), minlength=11)
    assert len(counts) == 11  # 42 - 32 + 1
    assert np.abs(counts / counts.mean() - 1).max() < 0.03
    assert np.bincount((offsets[:, 0] % 33).ravel()).tolist() == pytest.approx(
        [73500, 73500], rel=0.02
    )
    # Neighbouring cells and neighbouring seeds do not follow each other.
    assert abs(np.corrcoef(inside[:, 0, 0], inside[:, 0, 1])[0, 1]) < 0.06
    assert abs(np.corrcoef(inside[:-1, 3, 3], inside[1:, 3, 3])[0, 1]) < 0.06


def test_small_frames_are_scaled_up_just_enough():
    frames = np.random.default_rng(0).integers(0, 256, (2, 90, 160, 3), np.uint8)
    large = views.enlarged(frames, 224)
    assert large.shape == (2, 224, 398, 3)
    reference = np.stack(
        [cv2.resize(f, (398, 224), interpolation=cv2.INTER_LINEAR) for f in frames]
    )
    difference = np.abs(large.astype(int) - reference)
    assert difference.max() <= TOLERANCES["resized_levels"]["atol"]
    assert views.fragments(frames, 0).shape == (2, 224, 224, 3)
    assert views.fragments(frames[:, :8, :8], 0).shape == (2, 224, 224, 3)
    with pytest.raises(ValueError, match="scale up"):
        views.fragment_corners(223, 500, 0)


@pytest.mark.parametrize("size", [(90, 160), (224, 300), (720, 1280), (501, 333)])
def test_antialiased_resize_is_pils_to_the_bit(size):
    frame = np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8)
    wanted = np.asarray(Image.fromarray(frame[0]).resize((224, 200), Image.BILINEAR))
    for device in (np.asarray, jax.numpy.asarray):
        got = views.resized(device(frame), 200, 224, antialias=True)
        np.testing.assert_array_equal(np.asarray(got)[0], wanted)


def test_plain_resize_is_two_neighbours():
    frames = np.random.default_rng(2).integers(0, 256, (2, 720, 1000, 3), np.uint8)
    reference = np.stack(
        [cv2.resize(f, (224, 224), interpolation=cv2.INTER_LINEAR) for f in frames]
    )
    difference = np.abs(views.resized(frames, 224, 224, antialias=False).astype(int) - reference)
    assert difference.max() <= TOLERANCES["resized_levels"]["atol"]


@pytest.mark.parametrize("size", [(100, 180), (720, 1280), (300, 240)])
def test_numpy_and_jax_give_the_same_bits(size):
    frames = np.random.default_rng(3).integers(0, 256, (3, *size, 3), np.uint8)
    cases = {
        "fragments": lambda f, s: views.fragments(f, s, clip=2),
        "plain": lambda f, s: views.resized(f, 224, 224, antialias=False),
        "centre": lambda f, s: views.centre_crop(f, 96),
        "antialias": lambda f, s: views.resized(f, 112, 112, antialias=True),
    }
    for name, view in cases.items():
        compiled = jax.jit(view)
        for seed in (0, 7, 2**32 - 1):
            on_device = compiled(frames, np.uint32(seed))
            assert on_device.dtype == np.uint8, name
            np.testing.assert_array_equal(np.asarray(on_device), view(frames, seed), name)


def test_seeds_of_a_batch_may_be_traced():
    frames = np.random.default_rng(4).integers(0, 256, (4, 2, 240, 320, 3), np.uint8)
    seeds = np.array([views.video_seed(0, f"video {k}") for k in range(4)], np.uint32)
    batch = jax.jit(jax.vmap(views.fragments))(frames, seeds)
    for k in range(4):
        np.testing.assert_array_equal(batch[k], views.fragments(frames[k], int(seeds[k])))


def test_clips_lie_in_their_parts():
    for frames in (240, 241, 1000):
        for seed in range(20):
            numbers = views.clip_numbers(frames, 3, 32, 2, seed)
            assert (np.diff(numbers, axis=1) == 2).all()
            for part in range(3):
                assert part * frames // 3 <= numbers[part, 0]
                assert numbers[part, -1] < (part + 1) * frames // 3 + (frames % 3 > 0)
    assert views.clip_numbers(10, 3, 32, 2, 0).max() == 9  # starts over
    assert views.clip_numbers(1, 32, 1, 2, 0).tolist() == [[0]] * 32
    starts = {int(views.clip_numbers(600, 3, 32, 2, seed)[1, 0]) for seed in range(2000)}
    assert min(starts) == 200 and max(starts) == 400 - 63 and len(starts) == 138
    far = [int(views.clip_numbers(10**6, 1, 32, 2, seed)[0, 0]) for seed in range(200)]
    assert max(far) > 900_000 and min(far) < 100_000 and max(far) + 62 < 10**6
    assert (np.diff(views.clip_numbers(300, 32, 1, 2, 5).ravel()) > 0).all()


def test_seconds_by_hand():
    assert views.second_numbers(95, 30.0).ravel().tolist() == [15, 45, 75] + [75] * 5
    assert views.second_numbers(10, 30.0).ravel().tolist() == [9] * 8
    clips = views.second_numbers(120, 60.0, clip=32, at_least=0)
    assert clips.shape == (2, 32) and clips[1].tolist() == list(range(74, 106))
    short = views.second_numbers(50, 25.0, clip=32, at_least=0)
    assert short[0].tolist() == list(range(25)) + [24] * 7


@pytest.mark.parametrize(
    ("fps", "kept"),
    [
        (30.0, [0, 1, 26, 56, 86, 116, 146, 176]),
        (25.0, [0, 1, 22, 47, 72, 97, 122, 147]),
        (24.0, [0, 1, 21, 45, 69, 93, 117, 141]),
        (30000 / 1001, [0, 1, 26, 56, 86, 116, 146, 176]),
    ],
)
def test_frames_are_those_that_ffmpeg_samples(fps, kept):
    """The first eight that FFmpeg 9.0.2 writes at `-r 1` of eight seconds."""
    assert views.sampled_numbers(int(8 * fps), fps).tolist() == kept


def test_frames_of_short_slow_and_long_videos():
    assert views.sampled_numbers(1, 30.0).tolist() == [0]
    assert views.sampled_numbers(3, 0.5).tolist() == [0, 1, 2]
    assert (np.diff(views.sampled_numbers(600, 1.7)) > 0).all()
    numbers = views.sampled_view(_info(10**5, 24.0), (1, 1)).numbers
    assert len(numbers) == 30 and numbers[0] == 0 and numbers[-1] > 96_000


def test_whole_frames_lie_and_have_one_size():
    frame = _told_frames(1, 12, 20)[0]
    cut = views.sampled_view(_info(60), (12, 20)).cut
    np.testing.assert_array_equal(cut(0, frame), frame)
    upright = np.ascontiguousarray(frame.transpose(1, 0, 2)[:, ::-1])  # turned clockwise
    np.testing.assert_array_equal(cut(0, upright), frame)
    smooth = np.linspace(0, 255, 40, dtype=np.uint8)[None, :, None] + np.zeros((24, 1, 3), np.uint8)
    expected = cv2.resize(smooth, (20, 12), interpolation=cv2.INTER_AREA)
    difference = np.abs(cut(0, smooth).astype(int) - expected)[:, 2:-2]
    assert difference.max() <= TOLERANCES["resized_levels"]["atol"]


def test_views_of_a_file_are_those_of_its_frames(shared):
    path = str(shared / "clips" / "carphone_pristine.mp4")
    from vqa_jax.media.decode import read_frames
    from vqa_jax.media.probe import probe

    info = probe(path)

    def plan(found):
        return {
            "technical": views.fragment_view(found, 11, clips=2),
            "aesthetic": views.aesthetic_view(found, 11),
            "frames": views.key_frame_view(found, 96),
            "motion": views.motion_view(found, 56),
        }

    got, _ = views.read_views(info, plan)
    frames = read_frames(path, range(info.num_frames))
    numbers = views.clip_numbers(info.num_frames, 2, 32, 2, 11)
    wanted = np.concatenate([views.fragments(frames[numbers[k]], 11, k) for k in range(2)])
    np.testing.assert_array_equal(got["technical"], wanted)
    spread = views.clip_numbers(info.num_frames, 32, 1, 2, 11, stream=1).ravel()
    wanted = views.resized(frames[spread], 224, 224, antialias=False)
    np.testing.assert_array_equal(got["aesthetic"], wanted)
    seconds = views.second_numbers(info.num_frames, info.fps)
    assert got["frames"].shape == (len(seconds), 96, 96, 3)
    assert got["motion"].shape == (32 * len(seconds), 56, 56, 3)

    longer = dataclasses.replace(info, num_frames=info.num_frames + 50)
    again, held = views.read_views(longer, plan)  # promises more than it holds
    assert held.notes == "120 of 170 frames"
    for name, pictures in got.items():
        np.testing.assert_array_equal(again[name], pictures)
