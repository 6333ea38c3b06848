"""PSNR and SSIM as FFmpeg's filters have them; versions of other sizes and lengths."""

import dataclasses

import av
import numpy as np
import pytest

from data_prep.simulators.encode import EncodeConfig, encode_rgb
from tests.fixtures import tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media.container import MediaError
from vqa_jax.media.probe import probe
from vqa_jax.settings import DEFAULT_LIMITS
from vqa_jax.teachers import fidelity


def _by_ffmpeg(name, one, other):
    """What FFmpeg's filter tells of two gray pictures, by its metadata."""
    graph = av.filter.Graph()
    size = {"width": one.shape[1], "height": one.shape[0], "format": "gray"}
    sources = [graph.add_buffer(time_base="1/25", **size) for _ in range(2)]
    both, sink = graph.add(name), graph.add("buffersink")
    for k, source in enumerate(sources):
        source.link_to(both, 0, k)
    both.link_to(sink)
    graph.configure()
    for source, picture in zip(sources, (one, other), strict=True):
        frame = av.VideoFrame.from_ndarray(picture, format="gray")
        frame.pts = 0
        source.push(frame)
        source.push(None)
    return sink.pull().metadata


@pytest.mark.skipif(not hasattr(av.VideoFrame, "metadata"), reason="PyAV 18 tells metadata")
def test_gray_frames_have_the_numbers_of_ffmpeg():
    rng = np.random.default_rng(0)
    one = np.cumsum(rng.integers(-3, 4, (45, 70)), axis=1).clip(-60, 60).astype(np.int64) + 120
    other = (one + rng.integers(-9, 10, one.shape)).clip(0, 255)
    one, other = one.astype(np.uint8), other.astype(np.uint8)
    clips = (np.repeat(picture[None, :, :, None], 3, axis=3) for picture in (one, other))
    found = fidelity.luma_fidelity(*clips)
    psnr = float(_by_ffmpeg("psnr", one, other)["lavfi.psnr.psnr.y"])
    ssim = float(_by_ffmpeg("ssim", one, other)["lavfi.ssim.Y"])
    np.testing.assert_allclose(found["psnr"], psnr, **TOLERANCES["two_digits"])
    assert found["ssim"] == pytest.approx(ssim, **TOLERANCES["four_digits"])


def test_equal_frames_are_perfect_and_small_ones_have_a_window():
    clip = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), np.uint8)
    found = fidelity.luma_fidelity(clip, clip)
    assert found["psnr"].tolist() == [fidelity.MOST_PSNR] * 2
    np.testing.assert_allclose(found["ssim"], 1.0, atol=1e-12)


def test_versions_are_measured_over_time_at_the_size_of_the_source(tmp_path):
    source = probe(tiny_corpus.write_video(str(tmp_path / "source.mp4"), 0))
    same = fidelity.measure(source, source, 0, DEFAULT_LIMITS)
    assert same["psnr"] == fidelity.OverTime(fidelity.MOST_PSNR, fidelity.MOST_PSNR)
    rng = np.random.default_rng(1)
    small = tmp_path / "small.mp4"
    frames = rng.integers(0, 256, (30, 24, 32, 3), np.uint8)
    small.write_bytes(encode_rgb(frames, 10, EncodeConfig("h264", 40, "ultrafast")))
    worse = fidelity.measure(source, probe(small), 15, DEFAULT_LIMITS)  # of five frames
    assert worse.keys() == {"psnr", "ssim"} and worse["psnr"].mean < 25 and worse["ssim"].mean < 0.5
    late = dataclasses.replace(source, num_frames=3)
    with pytest.raises(MediaError, match="no frame in common"):
        fidelity.measure(late, probe(small), 3, DEFAULT_LIMITS)
