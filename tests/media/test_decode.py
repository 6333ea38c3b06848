"""Decoding: the frames of the file, upright, in eight bits."""

import fractions
import gc
import io

import av
import numpy as np
import pytest
from PIL import Image

from tests.fixtures.broken_files import encode, moving_frames
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media import container, decode, probe, view
from vqa_jax.media.preprocess import Preprocess


def test_lossless_frames_come_back_exactly(tmp_path):
    video = moving_frames(20)
    path = encode(tmp_path / "a.mkv", video, codec="ffv1", pix_fmt="bgr0")
    np.testing.assert_array_equal(decode.read_frames(path, [7, 0, 19, 7]), video[[7, 0, 19, 7]])
    np.testing.assert_array_equal(decode.read_segment(path, 5, 4), video[5:9])
    with pytest.raises(container.TruncatedVideoError, match="ends after 20 frames") as caught:
        decode.read_frames(path, [3, 20])
    assert caught.value.num_frames == 20
    for wrong in ([], [-1]):
        with pytest.raises(ValueError, match="frame numbers"):
            decode.read_frames(path, wrong)


@pytest.mark.parametrize("degrees, turns", [(90, 1), (180, 2), (-90, 3)])
def test_rotation_metadata_is_applied(degrees, turns, tmp_path):
    """PyAV's angle is counter-clockwise, as numpy's rot90."""
    plain = decode.read_frames(encode(tmp_path / "plain.mp4"), [3])[0]
    path = encode(tmp_path / "turned.mp4", rotation=degrees)
    image = decode.read_frames(path, [3])[0]
    np.testing.assert_array_equal(image, np.rot90(plain, turns))
    info = probe.probe(path)
    assert (info.height, info.width) == image.shape[:2]


def test_ten_bits_become_eight(tmp_path):
    video = moving_frames(4, 96, 128)
    path = encode(tmp_path / "444.mkv", video, codec="ffv1", pix_fmt="yuv444p10le")
    np.testing.assert_array_equal(decode.read_segment(path, 0, 4), video)
    path = encode(tmp_path / "420.mkv", video, codec="ffv1", pix_fmt="yuv420p10le")
    error = decode.read_segment(path, 0, 4).astype(float) - video
    np.testing.assert_allclose(error.mean((0, 1, 2)), 0, **TOLERANCES["fast_yuv_mean_levels"])


def test_frames_go_when_nobody_holds_them(tmp_path):
    """Not when Python next looks for rings of objects: a large video has thousands of frames."""
    path = encode(tmp_path / "turned.mp4", rotation=90)
    gc.collect()
    gc.disable()
    try:
        before = _frames_at_hand()
        view.video_input(path, Preprocess())
        assert _frames_at_hand() == before
    finally:
        gc.enable()


def _frames_at_hand() -> int:
    return sum(isinstance(found, av.VideoFrame) for found in gc.get_objects())


def test_real_clips(shared):
    """Sizes and rates as stated by the files' publishers; counts by decoding everything.

    176x144 of CIF's pixels, which are 128:117 as wide as high.
    """
    info = probe.probe(shared / "clips/carphone_pristine.mp4")
    assert (info.width, info.height, info.num_frames, info.codec) == (193, 144, 120, "h264")
    assert abs(info.fps - 30000 / 1001) < 1e-9
    for name in ("carphone_pristine.mp4", "FEQ-gdkTN4Q_000008_000018.mp4", "anchor_1.mp4"):
        path = shared / "clips" / name
        assert probe.probe(path).num_frames == sum(1 for _ in decode.iter_frames(path))


def test_frames_turned_while_filming_come_in_the_first_ones_shape(tmp_path):
    """A time lapse of photographs of which some were taken upright; a phone turned half-way."""
    video = moving_frames(6)
    path = tmp_path / "lapse.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for k, image in enumerate(video):
            buffer = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6 if k > 2 else 1
            Image.fromarray(image).save(buffer, "JPEG", exif=exif, quality=95)
            packet = av.Packet(buffer.getvalue())
            packet.stream, packet.pts, packet.dts = stream, k, k
            packet.time_base = fractions.Fraction(1, 10)
            out.mux(packet)
    frames = dict(decode.iter_frames(path))
    assert [frame.shape for frame in frames.values()] == [(48, 64, 3)] * 6
    upright = Image.fromarray(np.ascontiguousarray(np.rot90(video[4], -1))).resize((64, 48))
    assert np.abs(frames[4].astype(int) - np.asarray(upright)).mean() < 8
    assert np.abs(frames[1].astype(int) - video[1]).mean() < 4
    assert decode.read_frames(path, [1, 4]).shape == (2, 48, 64, 3)
