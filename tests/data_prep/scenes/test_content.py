"""Clips of whole photographs: moves, pixels of their own, splits, excluded pictures."""

import av
import cv2
import numpy as np
import pytest

from data_prep.scenes import content, photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six different pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for index in range(6):
        coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (300, 260), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"P{index}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """White noise, in which every place is told from every other: uint8 [121, 160, 3]."""
    return np.random.default_rng(0).integers(0, 256, (121, 160, 3), dtype=np.uint8)


def _film(picture, move, seed=0, num_frames=12, textures=()):
    rng = np.random.default_rng(seed)
    return np.stack(list(content.film(picture, move, rng, 25, num_frames, textures)))


def test_a_static_clip_is_the_picture(picture):
    frames = _film(picture, "static")
    np.testing.assert_array_equal(frames, np.broadcast_to(picture[:120], frames.shape))


@pytest.mark.parametrize("seed", range(6))
def test_a_pan_shows_the_pictures_own_pixels_one_to_four_further_a_frame(picture, seed):
    frames = _film(picture, "pan", seed, 60)
    assert frames.shape == (60, 90, 120, 3)
    places = []
    for frame in frames:
        match = cv2.matchTemplate(picture, frame, cv2.TM_SQDIFF)
        x, y = cv2.minMaxLoc(match)[2]
        np.testing.assert_array_equal(picture[y : y + 90, x : x + 120], frame)
        places.append((x, y))
    steps = np.abs(np.diff(places, axis=0))
    assert steps.min(axis=1).max() == 0  # across or along
    moved = steps.max(axis=1)
    speed = np.bincount(moved).argmax()  # less where it turns round
    assert 1 <= speed <= 4 and moved.max() == speed and (moved == speed).mean() > 0.7


def test_a_zoom_goes_between_all_of_it_and_its_own_resolution():
    rows, columns = np.mgrid[:160, :200].astype(np.float32)
    ramp = np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)
    ends = set()
    for seed in range(8):
        frames = _film(ramp, "zoom", seed).astype(int)
        spans = [int(frame[60, -2, 0] - frame[60, 1, 0]) for frame in frames]
        assert sorted(spans) in (spans, spans[::-1])
        ends.add((spans[0] > spans[-1], min(spans), max(spans)))
    assert {end[0] for end in ends} == {True, False}
    assert all(abs(low - 147) <= 2 and abs(high - 196) <= 3 for _, low, high in ends)


def test_a_shake_moves_and_stays_inside(picture):
    large = cv2.resize(picture, (480, 360), interpolation=cv2.INTER_CUBIC)
    frames = _film(large, "shake", 3)
    assert frames.shape[1:3] == (270, 360)
    assert all((a != b).any() for a, b in zip(frames[1:], frames[:-1], strict=True))


def test_objects_move_over_a_picture_that_stays(folder, picture):
    frames = _film(picture, "objects", 1, 20, [str(path) for path in folder.glob("*.png")])
    changed = (frames != picture[:120]).any(axis=-1)
    assert 0 < changed[0].mean() < 0.6
    assert (changed[0] != changed[-1]).any()
    untouched = ~changed.any(axis=0)
    assert untouched.mean() > 0.2


def test_clips_are_what_the_manifest_says_and_splits_do_not_mix(folder, tmp_path):
    config = content.ClipConfig(folder=str(folder), seconds=0.1, short_side=96)
    manifest = content.make_clips(config, str(tmp_path))
    split_of = {photo["id"]: photo["split"] for photo in manifest["photographs"]}
    assert {entry["split"] for entry in manifest["scenes"]} == {"train", "heldout"}
    assert len({entry["camera"] for entry in manifest["scenes"]}) > 2
    filmable = [p for p in photographs.find_photographs(str(folder)) if p.filmable]
    assert len(manifest["scenes"]) == len(filmable)
    for entry in manifest["scenes"]:
        assert {split_of[name] for name in entry["photographs"]} == {entry["split"]}
        with av.open(str(tmp_path / entry["file"])) as container:
            frames = [x.to_ndarray(format="rgb24") for x in container.decode(video=0)]
        assert len(frames) == entry["frames"]
        assert frames[0].shape[:2] == (entry["height"], entry["width"])
        assert min(frames[0].shape[:2]) <= 96


def test_what_is_excluded_never_enters(folder, tmp_path):
    pool = photographs.folder_photographs(str(folder))
    listing = tmp_path / "not_these.txt"
    listing.write_text(f"# tests\nsome/where/p0.PNG\np1\n\n{pool[0].sha256}\nchelsea\n")
    config = content.ClipConfig(folder=str(folder), excluded=str(listing), each=5)
    kept = photographs.without(photographs.find_photographs(str(folder)), str(listing))
    names = {job.photograph.id for job in content.plan(config, kept)}
    names |= {photo.id for job in content.plan(config, kept) for photo in job.textures}
    assert not any(name.startswith(("P0-", "P1-", "chelsea")) for name in names)
    assert pool[0].id not in names and len(names) > 5


@pytest.mark.parametrize("text", [None, "", "# nothing\n"])
def test_an_empty_list_of_excluded_pictures_is_an_error(tmp_path, text):
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(photographs.PhotographError, match=r"list\.txt"):
        content.make_clips(content.ClipConfig(excluded=str(path)), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moves": ("pan", "fly")}, "name some of"),
        ({"moves": ()}, "name some of"),
        ({"each": 6}, "1 to 5"),
        ({"short_side": 8}, "64 or more"),
        ({"seconds": 0}, "above 0"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(content.ContentError, match=message):
        content.ClipConfig(**change)


def test_a_photographs_move_does_not_depend_on_the_others(folder):
    alone = photographs.builtin_photographs()
    both = photographs.find_photographs(str(folder))
    config = content.ClipConfig()
    files = {job.file for job in content.plan(config, alone)}
    assert files < {job.file for job in content.plan(config, both)}
