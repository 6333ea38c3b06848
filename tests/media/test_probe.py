"""Probing: rates, variable rates, counts, rotation, stills, odd shapes."""

import fractions
import pathlib

import av
import numpy as np
import pytest
from PIL import Image, ImageCms, features

from tests.fixtures import heic_file, odd_streams
from tests.fixtures.broken_files import NUM_FRAMES, encode, moving_frames
from vqa_jax.media import container, decode, find, probe, view
from vqa_jax.media.preprocess import Preprocess

QUICK_THEN_SLOW = [40 * i for i in range(12)] + [480 + 160 * i for i in range(12)]


def _variable(path, video=None, times=QUICK_THEN_SLOW):
    video = moving_frames(len(times)) if video is None else video
    return encode(path, video, codec="ffv1", pix_fmt="bgr0", fps=1000, times=times)


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_variable_rate_is_read_by_time_stamps(kind, tmp_path):
    """Frame k is the one on screen at (k + 1/2) / fps, found by brute force over the times."""
    video = moving_frames(24)
    if kind == "mkv":
        path = _variable(tmp_path / "v.mkv", video)
    else:
        path = encode(tmp_path / "v.mp4", video, times=QUICK_THEN_SLOW, fps=1000)
    info = probe.probe(path)
    assert info.variable_rate and info.num_frames == 24
    assert abs(info.fps - 23 / 2.24) < 1e-6
    assert info.duration == 24 / info.fps
    times = np.array(QUICK_THEN_SLOW) / 1000
    shown = [int(np.flatnonzero(times <= (k + 0.5) / info.fps)[-1]) for k in range(24)]
    assert shown[:6] == [1, 3, 6, 8, 10, 12] and shown[-1] == 23
    got = decode.read_segment(path, 0, 24)
    if kind == "mkv":
        np.testing.assert_array_equal(got, video[shown])
    else:  # lossy: the square's colour and place tell which frame it is
        differences = np.abs(got[:, None].astype(int) - video[None]).mean((2, 3, 4))
        assert differences.argmin(1).tolist() == shown
    assert [n for n, _ in decode.iter_frames(path)] == list(range(24))
    np.testing.assert_array_equal(decode.read_frames(path, [20, 3])[0], got[20])
    with pytest.raises(container.TruncatedVideoError) as caught:
        decode.read_frames(path, [24])
    assert caught.value.num_frames == 24


def test_variable_rate_keeps_the_key_frame_rule(tmp_path):
    """30 frames in a second, then one a second for 9: a key frame for every second of showing."""
    times = [33 * i for i in range(30)] + [1000 * (i + 1) for i in range(9)]
    path = _variable(tmp_path / "v.mkv", times=times)
    pre = Preprocess(image_size=16, motion_size=16, clip_len=2, min_clips=1, max_clips=2)
    views, _, info = view.video_input(path, pre)
    assert info.num_frames == 39 and abs(info.fps - 38 / 9) < 1e-6 and info.variable_rate
    assert len(views) == 10  # range(0, 39, 4)
    assert abs(info.real_fps - 30) < 1


def test_slightly_uneven_times_are_an_even_rate(tmp_path):
    """Milliseconds round 30 fps to 33, 33, 34; jitter below a frame is no variable rate either."""
    video = moving_frames(40)
    jitter = np.random.default_rng(0).integers(-8, 9, 40)
    for name, shift in (("rounded", 0), ("jitter", jitter)):
        times = (np.arange(40) * 1000 // 30 + 10 + shift).tolist()
        path = _variable(tmp_path / f"{name}.mkv", video, times)
        info = probe.probe(path)
        assert not info.variable_rate and info.num_frames == 40
        np.testing.assert_array_equal(decode.read_segment(path, 0, 40), video)


def test_a_jump_of_the_clock_is_no_pause(tmp_path):
    """Recordings joined at the container's level jump by hours; their pictures do not."""
    times = [100 * i for i in range(20)] + [10_000_000 + 100 * i for i in range(20)]
    path = _variable(tmp_path / "j.mkv", moving_frames(40), times)
    info = probe.probe(path)
    assert not info.variable_rate and abs(info.fps - 10) < 0.1
    assert len(decode.read_segment(path, 0, 40)) == 40


def test_rates_of_an_even_file(tmp_path):
    rate = fractions.Fraction(30000, 1001)
    for name in ("a.mp4", "a.mkv", "a.ts"):
        info = probe.probe(encode(tmp_path / name, fps=rate))
        assert not info.variable_rate and not info.missing and not info.still
        assert abs(info.fps - rate) < 0.01 and abs(info.real_fps - rate) < 0.01
        assert (info.rotation, info.bit_depth, info.has_alpha, info.hdr) == (0, 8, False, False)


def test_a_lying_header_is_counted_by_decoding(tmp_path):
    path = encode(tmp_path / "a.mp4", muxer_options={"movflags": "faststart"})
    assert not probe.probe(path).notes
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    info = probe.probe(path)
    assert 2 <= info.num_frames < 24 and info.notes == f"{info.num_frames} of 24 frames"
    assert info.num_frames == sum(1 for _ in decode.iter_frames(path))


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_is_told(degrees, tmp_path):
    info = probe.probe(encode(tmp_path / "turned.mp4", rotation=degrees))
    assert info.rotation == degrees % 360
    assert (info.width, info.height) == ((64, 48) if degrees == 180 else (48, 64))


@pytest.mark.parametrize("height, width", [(47, 63), (1, 1), (96, 40), (2304, 4098)])
def test_sizes(height, width, tmp_path):
    """Odd, tiny, portrait, above 4K."""
    video = np.zeros((2, height, width, 3), np.uint8)
    video[1] = 200
    path = encode(tmp_path / "a.mkv", video, codec="ffv1", pix_fmt="yuv420p")
    info = probe.probe(path)
    assert (info.height, info.width) == (height, width)
    image = decode.read_frames(path, [1])[0]
    assert image.shape == (height, width, 3) and abs(image.mean() - 200) < 3


def test_limit_on_pixels(tmp_path):
    path = encode(tmp_path / "a.mp4")
    assert probe.probe(path, max_pixels=48 * 64).num_frames == 24
    with pytest.raises(
        container.MediaError, match="64x48 exceed the limit of 3071 pixels"
    ) as caught:
        probe.probe(path, max_pixels=48 * 64 - 1)
    assert caught.value.stage == "limit"


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "webp", "jpg"])
def test_stills_are_videos_of_one_frame(extension, tmp_path):
    picture = moving_frames(1, 49, 65)[0]
    path = tmp_path / f"picture.{extension}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(picture).save(path, **options.get(extension, {}))
    info = probe.probe(path)
    assert info.still and not info.missing and not info.variable_rate
    assert (info.num_frames, info.fps, info.duration) == (1, 1.0, 1.0)
    assert (info.height, info.width) == (49, 65)
    [(number, image)] = decode.iter_frames(path)
    assert number == 0
    if extension == "jpg":
        assert np.abs(image.astype(int) - picture).mean() < 3
    else:
        np.testing.assert_array_equal(image, picture)
    pre = Preprocess(image_size=16, motion_size=16, clip_len=2, min_clips=2, max_clips=2)
    views, clips, _ = view.video_input(path, pre)
    assert views.shape == (1, 16, 16, 3) and (clips == clips[0, 0]).all()
    assert find.find_videos([tmp_path]) == []
    assert find.find_videos([tmp_path], stills=True) == [str(path)]


def test_stills_go_by_contents_and_are_turned_upright(tmp_path):
    """A PNG that calls itself JPEG opens; the camera's orientation tag is applied."""
    turns = {3: 2, 6: -1, 8: 1}  # the tag -> quarter turns counter-clockwise
    picture = moving_frames(1, 40, 64)[0]
    Image.fromarray(picture).save(tmp_path / "a.png")
    renamed = (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(decode.read_frames(renamed, [0])[0], picture)
    for tag, quarters in turns.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        Image.fromarray(picture).save(tmp_path / "b.jpg", exif=exif, quality=100, subsampling=0)
        upright = np.rot90(picture, quarters)
        image = decode.read_frames(tmp_path / "b.jpg", [0])[0]
        assert image.shape == upright.shape
        assert np.abs(image.astype(int) - upright).mean() < 3
        assert probe.probe(tmp_path / "b.jpg").rotation == quarters * 90 % 360


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "avif"])
def test_stills_with_a_colour_profile_decode_again_and_again(ending, tmp_path):
    """A PNG gives its profile a name, which PyAV frees although the picture frees it too."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = moving_frames(1, 40, 64)[0]
    path = tmp_path / f"profile.{ending}"
    Image.fromarray(picture).save(path, icc_profile=profile)
    for _ in range(20):
        info = probe.probe(path)
        assert (info.height, info.width, info.num_frames) == (40, 64, 1)
        image = decode.read_frames(path, [0])[0]
        assert np.abs(image.astype(int) - picture).mean() < 8


@pytest.mark.parametrize("gap", [1100, 2000])
def test_slow_films_take_their_time_in_every_container(gap, tmp_path):
    """A Matroska header says 25 fps of them."""
    for path in odd_streams.timed(tmp_path, [gap * k for k in range(8)]):
        info = probe.probe(path)
        assert info.num_frames == 8 and not info.variable_rate and not info.notes
        assert abs(info.fps - 1000 / gap) < 0.005 and abs(info.duration - 8 * gap / 1000) < 0.1


@pytest.mark.parametrize("pause", [9, 15, 60])
def test_pauses_are_time_in_every_container(pause, tmp_path):
    times = [40 * k + pause * 1000 * (k // 10) for k in range(30)]
    infos = [probe.probe(path) for path in odd_streams.timed(tmp_path, times)]
    for info in infos:
        assert info.variable_rate and info.num_frames == 30 and abs(info.real_fps - 25) < 0.1
        assert abs(info.duration - times[-1] / 1000 * 30 / 29) < 0.01
    pictures = [decode.read_frames(info.path, [0, 15, 29]) for info in infos]
    for other in pictures[1:]:
        np.testing.assert_array_equal(other, pictures[0])


def test_a_clock_that_starts_over_is_no_time(tmp_path):
    """Two transport streams joined as bytes: 24 frames and again 24, not 48 in half the time."""
    part = encode(tmp_path / "part.ts", fps=25).read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    info = probe.probe(tmp_path / "joined.ts")
    assert info.num_frames == 48 and abs(info.fps - 25) < 0.1 and not info.variable_rate


def test_field_pairs_are_one_frame(tmp_path):
    path = odd_streams.field_pairs(tmp_path / "a.h264", 10)
    info = probe.probe(path)
    assert (info.num_frames, info.fps, info.duration, info.missing) == (10, 25.0, 0.4, "")
    assert len(list(decode.iter_frames(path, None, info))) == 10


def test_a_stream_cut_inside_a_group_of_pictures_counts_what_decodes(tmp_path):
    whole = encode(tmp_path / "whole.ts")  # a key frame every 8 frames
    path = odd_streams.remuxed(whole, tmp_path / "cut.ts", skip=3)
    info = probe.probe(path)
    assert info.num_frames == sum(1 for _ in decode.iter_frames(path, None, info)) <= 21


def test_frames_may_share_a_time(tmp_path):
    film = encode(tmp_path / "film.mkv", codec="mjpeg", pix_fmt="yuvj420p")
    info = probe.probe(odd_streams.remuxed(film, tmp_path / "pairs.mkv", shared=2))
    assert info.num_frames == 24 and not info.missing
    assert abs(info.duration - 2.4) < 0.12 and info.real_fps > 0


def test_empty_samples_are_no_frames(tmp_path):
    path = odd_streams.empty_samples(tmp_path / "a.mp4")
    info = probe.probe(path)
    assert info.num_frames == 12 and abs(info.duration - 2.4) < 0.01 and not info.notes
    assert len(list(decode.iter_frames(path, None, info))) == 12


def test_a_matroska_file_that_was_cut_says_how_much_is_left(tmp_path):
    path = encode(tmp_path / "a.mkv", moving_frames(80))
    assert not probe.probe(path).notes
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info = probe.probe(path)
    assert info.missing == f"{info.num_frames / 10:.1f} of 8.0 seconds" and info.num_frames < 60


def test_pixels_are_shown_square(tmp_path):
    """Stretched, never shrunk; ratios within a hundredth, or beyond all sense, are left alone."""
    for ratio, size in (
        ((4, 3), (85, 48)),
        ((1, 2), (64, 96)),
        ((1001, 1000), (64, 48)),
        ((9, 1), (64, 48)),
    ):
        path = odd_streams.wide_pixels(tmp_path / "a.mkv", fractions.Fraction(*ratio))
        info = probe.probe(path)
        assert (info.width, info.height) == size
        assert decode.read_frames(path, [1])[0].shape == (*size[::-1], 3)
    limit = 64 * 96 - 1
    path = odd_streams.wide_pixels(tmp_path / "a.mkv", fractions.Fraction(1, 2))
    with pytest.raises(container.MediaError, match="64x96 exceed"):
        probe.probe(path, limit)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow writes AVIF since 11.3")
@pytest.mark.parametrize("extension", ["avif"])
def test_still_pictures_of_phones_decode(extension, tmp_path):
    picture = moving_frames(1, 50, 66)[0]
    path = tmp_path / f"a.{extension}"
    Image.fromarray(picture).save(path, quality=95)
    info = probe.probe(path)
    assert info.still and (info.width, info.height, info.num_frames) == (66, 50, 1)
    [(_, image)] = decode.iter_frames(path)
    assert np.abs(image.astype(int) - picture).mean() < 5
    with pytest.raises(container.NotAVideoError, match="still picture"):
        probe.probe(path.rename(tmp_path / "a.mp4"))


def test_a_heic_picture_is_its_primary_item(tmp_path):
    """As phones write them: thumbnails before and behind it, turned."""
    picture, thumb = moving_frames(1, 64, 128)[0], moving_frames(1, 64, 64)[0]
    for pictures, primary in (([picture, thumb], 1), ([thumb, picture], 2)):
        path = heic_file.write(tmp_path / "a.heic", pictures, primary)
        info = probe.probe(path)
        assert info.still and (info.width, info.height) == (128, 64)
        [(_, image)] = decode.iter_frames(path)
        assert np.abs(image.astype(int) - picture).mean() < 3
    path = heic_file.write(tmp_path / "a.heic", [picture], 1, turns=1)
    [(_, image)] = decode.iter_frames(path)
    assert np.abs(image.astype(int) - np.rot90(picture)).mean() < 3


def test_a_codecs_tag_may_be_any_bytes(tmp_path):
    path = encode(tmp_path / "a.mp4", codec="mpeg2video", fps=25)
    data = path.read_bytes()
    assert data.count(b"mp4v") == 1
    path.write_bytes(data.replace(b"mp4v", b"mp\xcav"))
    assert (probe.probe(path).codec, probe.probe(path).num_frames) == ("mpeg2video", NUM_FRAMES)


def _golomb(value: int) -> str:
    bits = format(value + 1, "b")
    return "0" * (len(bits) - 1) + bits


def _dolby_unit() -> bytes:
    """A NAL unit of Dolby Vision's metadata that leaves the picture as it is, 10 bits to 12."""
    bits = "000110010000100000001001000000000"  # prefix, type, format, profile, level
    bits += "1000" + _golomb(23) + "011"  # coefficients of 23 bits; full range
    bits += "".join(map(_golomb, (2, 2, 4))) + "000001"  # depths less 8; no residual
    bits += "00" + _golomb(0) * 3  # no display metadata, nothing from before
    bits += (_golomb(0) + format(0, "010b") + format(1023, "010b")) * 3 + _golomb(0) * 2
    bits += (_golomb(0) * 2 + "0" + ("1" + "0" * 23) * 2) * 3 + "1"
    bits += "0" * (-len(bits) % 8)
    payload = bytearray()
    for byte in int(bits, 2).to_bytes(len(bits) // 8, "big") + bytes(4) + b"\x80":
        if payload[-2:] == b"\0\0" and byte <= 3:
            payload.append(3)
        payload.append(byte)
    return b"\0\0\0\1\x7c\x01" + bytes(payload)


@pytest.mark.parametrize("extension", ["h265", "mkv", "ts"])
def test_dolby_vision_5_is_known_by_its_metadata_in_any_container(tmp_path, extension):
    raw, path = str(tmp_path / "a.hevc"), str(tmp_path / f"b.{extension}")
    with av.open(raw, "w", format="hevc") as out:
        stream = out.add_stream("libx265", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.options = {"x265-params": "log-level=none:pools=none"}
        frames = [av.VideoFrame.from_ndarray(f, format="rgb24") for f in moving_frames(4, 48, 64)]
        packets = [p for frame in [*frames, None] for p in stream.encode(frame)]
    pathlib.Path(raw).write_bytes(b"".join(bytes(p) + _dolby_unit() for p in packets))
    with av.open(raw) as source, av.open(path, "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for time, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream, packet.pts, packet.dts = stream, time, time
                packet.time_base = fractions.Fraction(1, 10)
                out.mux(packet)
    with pytest.raises(container.MediaError, match="Dolby Vision of profile 5"):
        probe.probe(path)


def test_dolby_vision_5_is_refused_and_the_others_are_not(tmp_path):
    path = encode(tmp_path / "a.mp4", codec="libx265")
    assert probe.probe(path).codec == "hevc"
    data = path.read_bytes()
    tag = b"hvc1" if b"hvc1" in data else b"hev1"
    path.write_bytes(data.replace(tag, b"dvh1"))
    with pytest.raises(container.MediaError, match="Dolby Vision of profile 5"):
        probe.probe(path)
