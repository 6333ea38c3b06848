"""In-memory encodes: colour, sizes, frame count, determinism, recorded limits."""

import io
import os

import av
import numpy as np
import pytest

from data_prep.simulators import encode
from data_prep.simulators.encode import EncodeConfig, EncodeError
from tests.fixtures.tolerances import TOLERANCES

CODECS = {"h264": "medium", "h265": "medium", "av1": "8", "vp9": "4"}  # and a preset of each
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (128, 128, 128), (30, 90, 160))


def _bars(count: int = 3, height: int = 64, width: int = 96) -> np.ndarray:
    """Six flat colour bars, 16 pixels wide: chroma subsampling acts at their borders only."""
    bars = np.repeat(np.array(COLOURS, np.uint8), width // len(COLOURS), axis=0)
    return np.broadcast_to(bars, (count, height, width, 3)).copy()


def _decoded(frames: np.ndarray, fps: float, config: EncodeConfig) -> np.ndarray:
    return np.stack(list(encode.encode_decode(frames, fps, config)))


def _smooth(count: int, height: int, width: int) -> np.ndarray:
    """A grey ramp in both directions whose every frame has its own brightness."""
    rows, columns = np.mgrid[:height, :width]
    ramp = 40 + 80 * rows / height + 80 * columns / width
    stack = ramp[None] + 5 * np.arange(count)[:, None, None]
    return np.repeat(stack[..., None], 3, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
def test_high_quality_round_trip_has_no_colour_shift(codec, matrix):
    frames = _bars()
    got = _decoded(frames, 30, EncodeConfig(codec, 1, CODECS[codec], matrix))
    centres = np.arange(8, 96, 16)
    np.testing.assert_allclose(
        got[:, 8:56, centres].astype(float),
        frames[:, 8:56, centres],
        **TOLERANCES["encoded_flat_colour"],
    )


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux tells it")
def test_a_thread_is_scheduled_after_an_encode_as_it_was_before():
    """SVT-AV1 makes root's a real-time one."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    encode.encode_rgb(_bars(), 30, EncodeConfig("av1", 40, "12"))
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before


@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
def test_an_independent_matrix_finds_the_tagged_colours(matrix):
    """The stream's luma is Kr R + Kg G + Kb B of the matrix it names (ITU-R BT.709, BT.601)."""
    data = encode.encode_rgb(_bars(), 30, EncodeConfig("h264", 1, "medium", matrix))
    with av.open(io.BytesIO(data)) as container:
        frame = next(container.decode(video=0))
    luma = frame.to_ndarray()[:64, 8::16][32].astype(float)
    weights = {"bt709": (0.2126, 0.7152, 0.0722), "bt601": (0.299, 0.587, 0.114)}[matrix]
    expected = 16 + 219 / 255 * (np.array(COLOURS) @ np.array(weights))
    assert (frame.colorspace, frame.color_range) == ({"bt709": 1, "bt601": 6}[matrix], 1)
    np.testing.assert_allclose(luma, expected, **TOLERANCES["encoded_flat_colour"])


def test_repeated_conversion_does_not_drift(shared):
    """Ten generations near lossless keep a real frame's mean colour."""
    with av.open(str(shared / "clips" / "bikes.mp4")) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    source = frame[None, :120, :160]
    copy = source
    for _ in range(10):
        copy = _decoded(copy, 30, EncodeConfig("h264", 1, "ultrafast"))
    shift = copy.mean((0, 1, 2)) - source.mean((0, 1, 2))
    np.testing.assert_allclose(shift, 0, **TOLERANCES["encoded_mean_colour"])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [(63, 97), (33, 17), (5, 3), (1, 1)])
def test_odd_and_tiny_sizes_keep_shape_and_alignment(codec, size):
    frames = _smooth(5, *size)
    got = _decoded(frames, 24, EncodeConfig(codec, 1, CODECS[codec]))
    assert got.shape == frames.shape
    assert got.dtype == np.uint8
    # A shift by one pixel would change the steep ramps of the small sizes by far more.
    np.testing.assert_allclose(got.astype(float), frames, **TOLERANCES["encoded_ramp"])


@pytest.mark.parametrize("codec", CODECS)
def test_the_extension_does_not_bleed_into_the_picture(codec):
    """A flat bright frame stays flat up to its odd borders, even at the coarsest quantizer."""
    frames = np.full((2, 41, 43, 3), 220, np.uint8)
    got = _decoded(frames, 30, EncodeConfig(codec, encode.MAX_CRF[codec], CODECS[codec]))
    assert np.ptp(got.astype(int)) <= 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [1, 2, 40])
def test_every_frame_comes_back_in_order(codec, count):
    frames = np.full((count, 64, 96, 3), 40, np.uint8)
    for t in range(count):
        frames[t, :, 2 * t : 2 * t + 8] = 220
    got = _decoded(frames, 30000 / 1001, EncodeConfig(codec, 15, CODECS[codec]))
    assert got.shape == frames.shape
    error = [[np.square(a.astype(float) - b).mean() for b in frames] for a in got]
    np.testing.assert_array_equal(np.argmin(error, axis=1), np.arange(count))


@pytest.mark.parametrize(("codec", "preset"), CODECS.items())
@pytest.mark.parametrize("shape", [(1, 96, 128), (2, 64, 64), (5, 48, 48), (5, 128, 64)])
def test_bytes_are_equal_for_equal_input(codec, preset, shape):
    """The shapes are those at which x265 uses uninitialised memory unless it is kept from it."""
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    config = EncodeConfig(codec, 10, preset)
    assert len({encode.encode_rgb(frames, 25, config) for _ in range(8)}) == 1


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_is_decoded_as_a_file_of_it_is(codec):
    frames, config = _smooth(12, 72, 80), EncodeConfig(codec, 20, CODECS[codec])
    with av.open(io.BytesIO(encode.encode_rgb(frames, 25, config))) as container:
        rgb = encode.rgb_converter()
        wanted = [rgb(frame, frame.colorspace) for frame in container.decode(video=0)]
    np.testing.assert_array_equal(_decoded(frames, 25, config), wanted)


def test_an_encoder_takes_its_look_ahead_and_no_more():
    taken = []
    frames = (taken.append(k) or frame for k, frame in enumerate(_smooth(90, 64, 80)))
    stream = encode.encode_decode(frames, 25, EncodeConfig("h264", 20, "fast"))
    next(stream)
    assert len(taken) < 60  # 30 of look-ahead, and those that B-frames wait for


def test_x264_runs_at_51_beyond_it():
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    files = {
        crf: encode.encode_rgb(frames, 25, EncodeConfig("h264", crf, "fast"))
        for crf in (48, 51, 63)
    }
    assert EncodeConfig("h264", 63, "fast").effective_crf == 51
    assert files[63] == files[51] != files[48]


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), 30, "no frames"),
        (np.zeros((2, 8, 8, 3), np.float32), 30, "not uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), 0, "fps"),
        (np.zeros((2, 8, 8, 3), np.uint8), float("nan"), "fps"),
    ],
)
def test_what_cannot_be_encoded_is_said(frames, fps, message):
    with pytest.raises(EncodeError, match=message):
        encode.encode_rgb(frames, fps, EncodeConfig("h264", 30, "fast"))
    with pytest.raises(EncodeError, match=message):
        list(encode.encode_decode(frames, fps, EncodeConfig("h264", 30, "fast")))


def test_frames_of_different_size_are_refused():
    frames = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)]
    with pytest.raises(EncodeError, match="frame 1"):
        encode.encode_rgb(frames, 30, EncodeConfig("h264", 30, "fast"))


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "mpeg2"},
        {"matrix": "bt2020"},
        {"crf": -1},
        {"preset": "no-such"},
        {"codec": "av1"},  # has numbers, not "fast"
        {"codec": "vp9", "preset": "8"},
    ],
)
def test_settings_are_checked(change):
    with pytest.raises(EncodeError):
        EncodeConfig(**{"codec": "h264", "crf": 30, "preset": "fast", **change})


def test_av1_prints_nothing(capfd):
    encode.encode_rgb(_bars(), 30, EncodeConfig("av1", 40, "8"))
    assert capfd.readouterr() == ("", "")
