"""Built-in scenes: split, determinism, restart, camera speed, geometry and absence of grain."""

import dataclasses
import pathlib

import av
import numpy as np
import pytest

from data_prep.scenes import photographs, scenes

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


def test_unusable_requests_name_the_remedy(tmp_path):
    with pytest.raises(scenes.SceneError, match="even sides"):
        scenes.SceneConfig(width=97)
    with pytest.raises(photographs.PhotographError, match="no usable"):
        photographs.find_photographs(str(tmp_path))


def test_pristine_frames_have_no_grain(made):
    folder, manifest = made
    rng = np.random.default_rng(0)
    for entry in manifest["scenes"]:
        with av.open(str(folder / entry["file"])) as container:
            frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
        mildest = rng.normal(0, 255 * 0.001**0.5, frame.shape)  # method 3.2's first noise level
        noisy = np.clip(frame + mildest, 0, 255).astype(np.uint8)
        assert photographs.noise_level(frame) < 0.5 * photographs.noise_level(noisy)
