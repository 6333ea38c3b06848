"""Pictures in tiles, against the picture that was cut into them, and against numpy."""

import itertools

import av
import numpy as np
import pytest

from tests.fixtures import heic_file
from tests.fixtures.broken_files import moving_frames
from vqa_jax.media import container, decode, probe, tiles

ROWS, COLUMNS, SIDE = 2, 3, 64
HEIGHT, WIDTH = 112, 150  # of the whole, less than its tiles have


def _cut(picture):
    spots = itertools.product(range(ROWS), range(COLUMNS))
    return [picture[SIDE * y :, SIDE * x :][:SIDE, :SIDE] for y, x in spots]


@pytest.fixture(scope="module")
def picture():
    return moving_frames(1, ROWS * SIDE, COLUMNS * SIDE)[0]


@pytest.mark.parametrize(
    ("turns", "mirror"), [(0, None), (1, None), (2, None), (3, None), (0, 0), (0, 1), (1, 1)]
)
def test_a_picture_in_tiles_is_whole_and_upright(picture, turns, mirror, tmp_path):
    """As phones write them: with a thumbnail, cut at its right and lower edge, turned."""
    thumb = picture[:SIDE, :SIDE][::-1]
    path = heic_file.write(
        tmp_path / "a.heic",
        [*_cut(picture), thumb],
        primary=ROWS * COLUMNS + 2,
        grid=(ROWS, COLUMNS),
        size=(HEIGHT, WIDTH),
        turns=turns,
        mirror=mirror,
    )
    wanted = np.rot90(picture[:HEIGHT, :WIDTH], turns)
    wanted = wanted if mirror is None else np.flip(wanted, mirror)
    info = probe.probe(path)
    assert info.still and (info.num_frames, info.missing) == (1, "")
    assert (info.height, info.width) == wanted.shape[:2]
    [(_, image)] = decode.iter_frames(path)
    assert np.abs(image.astype(int) - wanted).mean() < 3
    with pytest.raises(container.MediaError, match="exceed the limit"):
        probe.probe(path, max_pixels=HEIGHT * WIDTH - 1)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le", "yuv444p", "gray"])
def test_samples_lie_where_the_grid_says(pixels):
    """Tiles of noise, one of them twice: no sample changes on its way."""
    rng = np.random.default_rng(0)
    frames = {}
    for item in (5, 6, 9):
        frames[item] = av.VideoFrame(16, 8, pixels)
        for plane in frames[item].planes:
            plane.update(rng.integers(0, 4, plane.buffer_size, np.uint8).tobytes())
    order = (6, 5, 9, 6)
    canvas = tiles.Canvas(tiles.Grid(order, 30, 16, ()))
    assert canvas.add(9, frames[9]) is None and canvas.add(5, frames[5]) is None
    whole = canvas.add(6, frames[6])
    assert (whole.width, whole.height, whole.format.name) == (30, 16, pixels)
    rows = [[frames[item] for item in order[:2]], [frames[item] for item in order[2:]]]
    for k, plane in enumerate(whole.planes):
        wanted = np.block([[_samples(frame, k) for frame in row] for row in rows])
        np.testing.assert_array_equal(_samples(whole, k), wanted[: plane.height, : plane.width])


def _samples(frame, k):
    plane = frame.planes[k]
    kind = "<u2" if "10" in frame.format.name else np.uint8
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]


@pytest.mark.parametrize("pixels", ["yuv422p", "yuvj422p"])
def test_half_wide_colours_can_be_turned(pixels):
    """Of limited and of full range (cameras)."""
    picture = np.full((8, 16, 3), (200, 40, 90), np.uint8)
    picture[:4] = 250, 250, 250
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixels)
    canvas = tiles.Canvas(tiles.Grid((1, 1), 32, 8, ((b"irot", 1),)))
    whole = canvas.add(1, frame)
    wanted = np.rot90(np.concatenate([picture, picture], 1))
    assert (whole.width, whole.height) == (8, 32) and whole.color_range == frame.color_range
    assert np.abs(whole.to_ndarray(format="rgb24").astype(int) - wanted).max() < 6


def test_what_makes_no_picture_is_refused_by_name(picture, tmp_path):
    parts, primary, grid = _cut(picture), ROWS * COLUMNS + 1, (ROWS, COLUMNS)
    path = heic_file.write(tmp_path / "a.heic", parts, primary, grid, derived=b"iovl")
    with pytest.raises(container.NotAVideoError, match="made of others, but not of tiles"):
        probe.probe(path)
    path = heic_file.write(tmp_path / "a.heic", parts, primary, grid, (SIDE, WIDTH))
    with pytest.raises(container.MediaError, match="its tiles differ, or do not fill it"):
        probe.probe(path)
    path = heic_file.write(tmp_path / "a.heic", parts, primary, grid)
    data = path.read_bytes()
    path.write_bytes(data[:-1000] + bytes(1000))  # the last tile is one of noise, or none
    damaged = path.read_bytes()
    path.write_bytes(damaged[: damaged.index(b"mdat") + 40])
    with pytest.raises(container.MediaError):
        probe.probe(path)


def test_damaged_boxes_are_a_grid_or_none(picture, tmp_path):
    path = heic_file.write(
        tmp_path / "a.heic", _cut(picture), ROWS * COLUMNS + 1, (ROWS, COLUMNS), turns=1
    )
    data = path.read_bytes()
    whole = tiles.read_grid(str(path))
    assert whole == tiles.Grid(tuple(range(1, 7)), COLUMNS * SIDE, ROWS * SIDE, ((b"irot", 1),))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(500):
        mutant = bytearray(data)
        for at in rng.integers(0, data.index(b"mdat"), 4):
            mutant[at] ^= 1 << rng.integers(8)
        path.write_bytes(mutant[: rng.integers(1, len(mutant))])
        found.append(tiles.read_grid(str(path)))
    assert {type(grid) for grid in found} == {tiles.Grid, type(None)}
