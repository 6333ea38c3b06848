"""HDR and wide gamut against hand-computed values and formulas written a second time, in float64;
alpha and depth against the picture that went in."""

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from tests.fixtures.broken_files import encode, moving_frames
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media import colour, decode, probe

PQ, HLG = "smpte2084", "arib-std-b67"


def write_ten_bits(
    path,
    planes: np.ndarray,
    transfer: ColorTrc,
    *,
    codec="ffv1",
    full=False,
    primaries=9,
    **options,
):
    """Y'CbCr 10-bit samples [T, 3, H, W] -> a file with BT.2020 tags."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.height, stream.width = planes.shape[2:]
        stream.pix_fmt = "yuv444p10le"
        stream.options = options
        context = stream.codec_context
        context.thread_count = 1
        context.color_trc, context.color_primaries, context.colorspace = transfer, primaries, 9
        context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        for image in planes:
            frame = av.VideoFrame(planes.shape[3], planes.shape[2], "yuv444p10le")
            for plane, samples in zip(frame.planes, image, strict=True):
                rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
                rows[:, : plane.width] = samples
                plane.update(rows.tobytes())
            frame.color_trc, frame.color_primaries = transfer, primaries
            frame.color_range, frame.colorspace = context.color_range, 9
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def exact(samples: np.ndarray, transfer: str) -> np.ndarray:
    """The module's rule in float64, one pixel after another: [3, H, W] 10 bits, limited range."""
    out = np.empty((*samples.shape[1:], 3))
    for at in np.ndindex(*samples.shape[1:]):
        y, cb, cr = (samples[(slice(None), *at)].astype(float) - (64, 512, 512)) / (876, 896, 896)
        red, blue = y + 1.4746 * cr, y + 1.8814 * cb
        rgb = np.clip([red, (y - 0.2627 * red - 0.0593 * blue) / 0.678, blue], 0, 1)
        if transfer == PQ:
            power = rgb ** (1 / 78.84375)
            light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
            light = np.minimum(light ** (1 / 0.1593017578125) * 10, 1)
        elif transfer == HLG:
            high = (np.exp((rgb - 0.55991073) / 0.17883277) + 0.28466892) / 12
            scene = np.where(rgb <= 0.5, rgb**2 / 3, high)
            light = scene * (scene @ (0.2627, 0.678, 0.0593)) ** 0.2
        else:
            light = rgb**2.4
        if transfer in (PQ, HLG):
            r, g, b = light ** (1 / 2.4)
            luma = 0.2627 * r + 0.678 * g + 0.0593 * b
            p_hdr, p_sdr = 13.2598, 5.69697
            yp = np.log(1 + (p_hdr - 1) * luma) / np.log(p_hdr)
            yc = 1.077 * yp if yp <= 0.7399 else -1.151 * yp**2 + 2.7811 * yp - 0.6302
            yc = yc if yp < 0.9909 else 0.5 * yp + 0.5
            mapped = (p_sdr**yc - 1) / (p_sdr - 1)
            scale = mapped / (1.1 * max(luma, 1e-6))
            cb, cr = scale * (b - luma) / 1.8814, scale * (r - luma) / 1.4746
            mapped -= max(0.1 * cr, 0)
            green = mapped - (0.2627 * 1.4746 * cr + 0.0593 * 1.8814 * cb) / 0.678
            rgb = np.clip([mapped + 1.4746 * cr, green, mapped + 1.8814 * cb], 0, 1)
            light = rgb**2.4
        # BT.2020 -> XYZ -> BT.709 from the primaries' own chromaticities.
        light = np.clip(_rgb_to_xyz(709, True) @ _rgb_to_xyz(2020) @ light, 0, 1)
        out[at] = 255 * light ** (1 / 2.4)
    return out


def _rgb_to_xyz(kind: int, inverse: bool = False) -> np.ndarray:
    corners = {
        709: [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)],
        2020: [(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)],
    }[kind]
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in corners]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    matrix = columns * np.linalg.solve(columns, white)
    return np.linalg.inv(matrix) if inverse else matrix


def test_reference_white_by_hand():
    """203 cd/m2 (BT.2408) is PQ 0.5807: Y' = 0.203^(1/2.4) = 0.51457, Yp = 0.76955, Yc = 0.82837,
    Ysdr = 0.6869, which is grey 175. HLG 0.75 is scene light 0.26496 and, with the OOTF's 1.2,
    the same 203 cd/m2."""
    for transfer, coded in ((PQ, 0.5807), (HLG, 0.75)):
        white = np.full((1, 1, 3), coded, np.float32)
        mapped = colour.tone_mapped(white, transfer)
        np.testing.assert_allclose(mapped, 0.6869, **TOLERANCES["tone_mapped"])
        assert (colour.bt709_from_bt2020(mapped) == 175).all()


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_black_white_and_order(transfer):
    ramp = np.repeat(np.linspace(0, 1, 200, dtype=np.float32)[:, None], 3, 1)
    grey = colour.bt709_from_bt2020(colour.tone_mapped(ramp, transfer)).astype(int)
    assert grey[0].tolist() == [0, 0, 0] and grey[-1].tolist() == [255, 255, 255]
    assert (np.diff(grey, axis=0) >= 0).all() and (np.ptp(grey, axis=1) == 0).all()


def test_ycbcr_ranges():
    """White, black and pure red of BT.2020 in both ranges, by the definition of the levels."""
    limited = np.array([[940, 64, 294.1], [512, 512, 386.9], [512, 512, 960]]).reshape(3, 1, 3)
    full = np.array([[1023, 0, 268.7], [512, 512, 369.2], [512, 512, 1023.5]]).reshape(3, 1, 3)
    expected = [[[1, 1, 1], [0, 0, 0], [1, 0, 0]]]
    for samples, full_range in ((limited, False), (full, True)):
        rgb = colour.rgb_from_ycbcr(samples, 10, full_range)
        np.testing.assert_allclose(rgb, expected, **TOLERANCES["rgb_from_rounded_levels"])


@pytest.mark.parametrize(
    ("tag", "name"),
    [(ColorTrc.SMPTE2084, PQ), (ColorTrc.ARIB_STD_B67, HLG), (ColorTrc.BT2020_10, "bt2020-10")],
)
def test_files_follow_the_rule(tag, name, tmp_path):
    rng = np.random.default_rng(0)
    samples = np.stack([rng.integers(64, 941, (6, 9)), *rng.integers(400, 625, (2, 6, 9))])
    path = write_ten_bits(tmp_path / "a.mkv", samples[None], tag)
    info = probe.probe(path)
    assert (info.transfer, info.bit_depth, info.hdr) == (name, 10, name in (PQ, HLG))
    image = decode.read_frames(path, [0])[0]
    np.testing.assert_allclose(image, exact(samples, name), **TOLERANCES["tone_mapped_levels"])


def test_bands_make_no_difference(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    samples = rng.integers(64, 941, (1, 3, 40, 30))
    path = write_ten_bits(tmp_path / "a.mkv", samples, ColorTrc.SMPTE2084)
    whole = decode.read_frames(path, [0])
    monkeypatch.setattr(colour, "_BAND_PIXELS", 100)
    np.testing.assert_array_equal(decode.read_frames(path, [0]), whole)


def test_full_range_hdr(tmp_path):
    """The same light, coded in full range: within the rounding of 10-bit levels."""
    rng = np.random.default_rng(2)
    limited = np.stack([rng.integers(64, 941, (8, 8)), *rng.integers(450, 575, (2, 8, 8))])
    offset = np.array([64, 512, 512])[:, None, None]
    scale = 1023 / np.array([876, 896, 896])[:, None, None]
    full = np.rint((limited - offset) * scale + [[[0]], [[512]], [[512]]]).astype(int)
    images = [
        decode.read_frames(
            write_ten_bits(
                tmp_path / f"{wide}.mkv", samples[None], ColorTrc.ARIB_STD_B67, full=wide
            ),
            [0],
        ).astype(float)
        for samples, wide in ((limited, False), (full, True))
    ]
    np.testing.assert_allclose(images[1], images[0], **TOLERANCES["ten_bit_rounding_levels"])


def test_x265_tags_are_read(tmp_path):
    """As phones write it: HEVC Main 10 in MP4, HLG."""
    samples = np.full((3, 3, 64, 64), 512)
    params = "log-level=none:pools=1:frame-threads=1:crf=5:colorprim=9:transfer=18:colormatrix=9"
    path = write_ten_bits(
        tmp_path / "a.mp4", samples, ColorTrc.ARIB_STD_B67, codec="libx265",
        **{"x265-params": params},
    )  # fmt: skip
    info = probe.probe(path)
    assert info.codec == "hevc" and info.hdr and info.transfer == HLG and info.num_frames == 3
    grey = decode.read_frames(path, [1])
    expected = exact(samples[0, :, :1, :1], HLG)
    np.testing.assert_allclose(grey.mean((0, 1, 2)), expected[0, 0], **TOLERANCES["encoded_ramp"])


def test_ten_bit_sdr_is_neither_mapped_nor_flagged(tmp_path):
    video = moving_frames(3)
    path = encode(tmp_path / "a.mkv", video, codec="ffv1", pix_fmt="yuv444p10le")
    info = probe.probe(path)
    assert info.bit_depth == 10 and not info.hdr
    np.testing.assert_array_equal(decode.read_segment(path, 0, 3), video)


def _rgba(height=20, width=30):
    rgba = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    rgba[:5, :, 3], rgba[-5:, :, 3] = 0, 255
    return rgba


def test_alpha_is_laid_over_black(tmp_path):
    rgba = _rgba()
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 20, 30, "bgra"
        out.mux(
            stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="bgra"))
        )
        out.mux(stream.encode(None))
    image = decode.read_frames(tmp_path / "a.mkv", [0])[0]
    assert probe.probe(tmp_path / "a.mkv").has_alpha
    np.testing.assert_array_equal(image, np.rint(rgba[..., :3] * (rgba[..., 3:] / 255.0)))


def test_alpha_of_webm(tmp_path):
    """VP9 keeps alpha in a second picture, which FFmpeg's usual decoder leaves unread."""
    rgba = np.full((64, 64, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[:, :32, 3] = 0
    with av.open(str(tmp_path / "a.webm"), "w") as out:
        stream = out.add_stream("libvpx-vp9", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuva420p"
        stream.options = {"crf": "10", "b": "0", "auto-alt-ref": "0"}
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva420p")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    info = probe.probe(tmp_path / "a.webm")
    assert info.has_alpha and info.num_frames == 3
    image = decode.read_frames(tmp_path / "a.webm", [1])[0]
    assert image[:, :24].max() <= 3 and abs(image[:, 40:].mean() - 200) < 3


def test_colour_primaries_without_a_transfer_stay_as_they_are(tmp_path):
    samples = np.full((1, 3, 8, 8), 512)
    path = write_ten_bits(
        tmp_path / "a.mkv", samples, ColorTrc.BT709, primaries=ColorPrimaries.BT709
    )
    info = probe.probe(path)
    assert (info.transfer, info.hdr) == ("bt709", False)
    expected = 255 * (512 - 64) / 876
    np.testing.assert_allclose(
        decode.read_frames(path, [0]), expected, **TOLERANCES["encoded_ramp"]
    )
