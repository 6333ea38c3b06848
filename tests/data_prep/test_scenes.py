"""Built-in scenes: split, determinism, restart, camera speed, geometry and absence of grain."""

import dataclasses
import pathlib

import av
import cv2
import numpy as np
import pytest
import scipy.stats

from data_prep.scenes import camera, dead_leaves, photographs, scene_film, scenes
from tests.fixtures.tolerances import TOLERANCES

SMALL = scenes.SceneConfig(num=6, seed=3, width=128, height=64, seconds=0.2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six tiny scenes in a folder, and their manifest."""
    folder = tmp_path_factory.mktemp("scenes")
    return folder, scenes.make_scenes(SMALL, str(folder))


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_are_what_the_manifest_says(made):
    folder, manifest = made
    assert len(manifest["scenes"]) == SMALL.num
    assert {path.name for path in folder.glob("*.mp4")} == {e["file"] for e in manifest["scenes"]}
    for entry in manifest["scenes"]:
        with av.open(str(folder / entry["file"])) as container:
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            assert stream.average_rate == entry["fps"]
        assert entry["fps"] in scenes.FRAME_RATES
        assert len(frames) == entry["frames"] >= SMALL.seconds * entry["fps"]
        assert frames[0].shape == (64, 128, 3)
        assert any((frame != frames[0]).any() for frame in frames[1:]), "nothing moves"


def test_nothing_held_out_is_used_in_training(made):
    _, manifest = made
    split_of = {photo["id"]: photo["split"] for photo in manifest["photographs"]}
    assert sum(entry["split"] == "heldout" for entry in manifest["scenes"]) == 1
    for entry in manifest["scenes"]:
        assert entry["photographs"]
        assert {split_of[name] for name in entry["photographs"]} == {entry["split"]}


def test_rerun_keeps_good_files_and_remakes_bad_ones_bit_for_bit(made, tmp_path):
    folder, manifest = made
    scenes.make_scenes(SMALL, str(tmp_path), workers=2)
    before = _contents(tmp_path)
    assert before == _contents(folder)  # the number of processes does not matter
    names = [entry["file"] for entry in manifest["scenes"]]
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(before[names[1]][:100])
    kept = (tmp_path / names[2]).stat().st_mtime_ns
    scenes.make_scenes(SMALL, str(tmp_path))
    assert _contents(tmp_path) == before
    assert (tmp_path / names[2]).stat().st_mtime_ns == kept
    scenes.make_scenes(dataclasses.replace(SMALL, num=2), str(tmp_path))
    assert {path.name for path in tmp_path.glob("*.mp4")} == set(names[:2])
    assert (tmp_path / names[1]).read_bytes() == before[names[1]]


def test_seed_changes_the_picture(made, tmp_path):
    _, manifest = made
    other = scenes.make_scenes(dataclasses.replace(SMALL, num=1, seed=4), str(tmp_path))
    assert other["scenes"][0]["file"] == manifest["scenes"][0]["file"]
    assert other["scenes"][0]["sha256"] != manifest["scenes"][0]["sha256"]


def test_split_of_built_in_photographs_ignores_further_ones(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(9):
        coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (480, 400), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
        if index == 0:  # the same picture in another size is not a second one
            cv2.imwrite(str(tmp_path / "copy.jpg"), cv2.resize(picture, (360, 300)))
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    alone = {p.id: p.split for p in photographs.find_photographs()}
    both = {p.id: p.split for p in photographs.find_photographs(str(tmp_path))}
    assert alone.items() <= both.items()
    assert len(both) == len(alone) + 9
    for split in (alone, both):
        held_out = sum(value == "heldout" for value in split.values())
        assert 3 <= held_out <= len(split) / 3


def test_unusable_requests_name_the_remedy(tmp_path):
    with pytest.raises(scenes.SceneError, match="even sides"):
        scenes.SceneConfig(width=97)
    with pytest.raises(photographs.PhotographError, match="no usable"):
        photographs.find_photographs(str(tmp_path))


def test_radii_follow_the_cubic_law():
    radii = dead_leaves.sample_radii(np.random.default_rng(0), 4000, 5.0, 120.0)
    low, high = 5.0**-2, 120.0**-2
    result = scipy.stats.kstest(radii, lambda r: (low - r**-2.0) / (low - high))
    assert result.pvalue > 0.01


@pytest.mark.parametrize("fps", [24, 60])
def test_camera_is_never_faster_than_six_pixels_a_frame_at_thirty(fps):
    times = np.arange(0, 4, 1 / fps)
    fastest = []
    for seed in range(60):
        path = camera.draw_camera(np.random.default_rng(seed), 4.0, 250.0, 80.0, unit=1.0)
        step = np.hypot(np.diff(path.x(times)), np.diff(path.y(times)))
        fastest.append(step.max() * fps / 30)
    assert max(fastest) <= 6.05
    assert min(fastest) > 0.01  # never frozen: a repeated frame must be a visible fault
    assert max(fastest) > 3 and min(fastest) < 0.8  # fast and almost still ones


def _still(value: float) -> camera.Sinusoids:
    """The constant `value`."""
    return camera.Sinusoids(np.array([value]), np.zeros(1), np.array([np.pi / 2]))


def test_view_is_the_canvas_at_the_place_the_camera_looks():
    canvas = np.random.default_rng(0).random((61, 81, 3), dtype=np.float32)
    shot = camera.Camera("tripod", _still(5), _still(-3), _still(0), _still(0), _still(0))
    scene = scene_film.Scene("leaves", canvas, 1.0, (), shot, 0.0, None, "normal", ())
    (frame,) = scene_film.film(scene, 30, 1, (41, 31))
    top, left = (61 - 31) // 2 - 3, (81 - 41) // 2 + 5
    expected = np.rint(canvas[top : top + 31, left : left + 41] * 255)
    np.testing.assert_allclose(frame, expected, **TOLERANCES["rendered_pixel"])


def test_pristine_frames_have_no_grain(made):
    folder, manifest = made
    rng = np.random.default_rng(0)
    for entry in manifest["scenes"]:
        with av.open(str(folder / entry["file"])) as container:
            frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
        mildest = rng.normal(0, 255 * 0.001**0.5, frame.shape)  # method 3.2's first noise level
        noisy = np.clip(frame + mildest, 0, 255).astype(np.uint8)
        assert photographs.noise_level(frame) < 0.5 * photographs.noise_level(noisy)
