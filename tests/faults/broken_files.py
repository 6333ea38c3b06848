"""Makes broken and odd video files, by name. The table at the end says what must come of each."""

import fractions
import os
import pathlib
from collections.abc import Callable

import av
import numpy as np
from PIL import Image

FPS = 10
NUM_FRAMES = 24
HEIGHT, WIDTH = 48, 64


def moving_frames(num_frames: int = NUM_FRAMES, height: int = HEIGHT, width: int = WIDTH):
    """A bright square that moves over a gradient, uint8 [T, H, W, 3]; no two frames are equal."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 255 // width, y * 255 // height, (x + y) * 127 // (height + width)], -1)
    frames = np.repeat(base[None].astype(np.uint8), num_frames, 0)
    for t in range(num_frames):
        at = (3 * t) % (width - 12)
        frames[t, 8:24, at : at + 12] = (250, 240, 30 + t * 5 % 200)
    return frames


def encode(
    path: pathlib.Path,
    frames: np.ndarray | None = None,
    *,
    fps: fractions.Fraction | int = FPS,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    container: str | None = None,
    muxer_options: dict[str, str] | None = None,
    times: list[int] | None = None,
    rotation: int = 0,
) -> pathlib.Path:
    """Writes frames; `times` (milliseconds) makes the rate variable."""
    frames = moving_frames() if frames is None else frames
    with av.open(str(path), "w", format=container, options=muxer_options or {}) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            # x264's SIMD macroblock tree reads memory that it has not set: without it, equal bytes.
            stream.options = {"g": "8", "crf": "20", "preset": "veryfast", "mbtree": "0"}
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = fractions.Fraction(1, 1000)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], fractions.Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _cut(path: pathlib.Path, share: float) -> pathlib.Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def _index_first(folder: pathlib.Path, name: str) -> pathlib.Path:
    return encode(folder / name, muxer_options={"movflags": "faststart"})


def _write(path: pathlib.Path, data: bytes) -> pathlib.Path:
    path.write_bytes(data)
    return path


def _audio_only(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "audio_only.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        out.mux(stream.encode(sound))
        out.mux(stream.encode(None))
    return path


def _picture(folder: pathlib.Path) -> pathlib.Path:
    Image.fromarray(moving_frames(1)[0]).save(folder / "picture.png")
    return (folder / "picture.png").rename(folder / "picture.mp4")


def _play_list(folder: pathlib.Path) -> pathlib.Path:
    target = encode(folder / "target.ts", container="mpegts")
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n{target}\n#EXT-X-ENDLIST\n"
    return _write(folder / "play_list.mp4", text.encode())


def _only_header(folder: pathlib.Path) -> pathlib.Path:
    path = _index_first(folder, "only_header.mp4")
    data = path.read_bytes()
    return _write(path, data[: data.index(b"mdat") + 4])


def _zeroed_media(folder: pathlib.Path) -> pathlib.Path:
    path = _index_first(folder, "zeroed_media.mp4")
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    return _write(path, data[:start] + bytes(len(data) - start))


def _pipe(folder: pathlib.Path) -> pathlib.Path:
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4"


def _folder(folder: pathlib.Path) -> pathlib.Path:
    (folder / "folder.mp4").mkdir()
    return folder / "folder.mp4"


def _damaged_middle(folder: pathlib.Path) -> pathlib.Path:
    path = encode(folder / "damaged.mkv", moving_frames(48))
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : third + 200] = bytes(range(200))
    return _write(path, bytes(data))


def _lying_header(folder: pathlib.Path) -> pathlib.Path:
    path = encode(folder / "lying.avi", codec="mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 32  # dwLength of the stream header
    data[at : at + 4] = (9999).to_bytes(4, "little")
    return _write(path, bytes(data))


def _tag_not_utf8(folder: pathlib.Path) -> pathlib.Path:
    path = encode(folder / "tag.mp4")
    data = path.read_bytes()
    assert data.count(b"Lavf") == 1  # the tag that names the writer
    return _write(path, data.replace(b"Lavf", b"\xe9\xffvf"))


def _renamed(name: str, **how: str) -> Callable[[pathlib.Path], pathlib.Path]:
    def make(folder: pathlib.Path) -> pathlib.Path:
        return encode(folder / "plain.bin", **{"container": "mp4", **how}).rename(folder / name)

    return make


# name -> (maker, class name of the error, words of its reason)
REFUSED: dict[str, tuple[Callable[[pathlib.Path], pathlib.Path], str, str]] = {
    "cut_off_mp4": (lambda d: _cut(encode(d / "cut.mp4"), 0.6), "NotAVideoError", "moov"),
    "text": (lambda d: _write(d / "a.mp4", b"words\n" * 99), "NotAVideoError", "not a media file"),
    "empty": (lambda d: _write(d / "e.mp4", b""), "UnreadableFileError", "empty"),
    "missing": (lambda d: d / "none.mp4", "UnreadableFileError", "no such file"),
    "folder": (_folder, "UnreadableFileError", "not a regular file"),
    "pipe": (_pipe, "UnreadableFileError", "not a regular file"),
    "audio_only": (_audio_only, "NotAVideoError", "no video stream (it holds: audio)"),
    "picture": (_picture, "NotAVideoError", "not a media file"),
    "play_list": (_play_list, "NotAVideoError", "not a media file"),
    "only_header": (_only_header, "NoFrameError", "no frame decodes"),
    "zeroed_media": (_zeroed_media, "NoFrameError", "no frame decodes"),
}

# name -> (maker, least and most frames that are read)
USABLE: dict[str, tuple[Callable[[pathlib.Path], pathlib.Path], int, int]] = {
    "cut_off_index_first": (lambda d: _cut(_index_first(d, "half.mp4"), 0.7), 2, NUM_FRAMES - 1),
    "cut_off_mkv": (lambda d: _cut(encode(d / "cut.mkv"), 0.6), 2, NUM_FRAMES - 1),
    "damaged_middle": (_damaged_middle, 8, 48),
    "lying_header": (_lying_header, NUM_FRAMES, NUM_FRAMES),
    "one_frame_mp4": (lambda d: encode(d / "one.mp4", moving_frames(1)), 1, 1),
    "one_frame_webm": (
        lambda d: encode(d / "one.webm", moving_frames(1), codec="libvpx-vp9"),
        1,
        1,
    ),
    "two_by_two": (lambda d: encode(d / "small.mp4", moving_frames(3)[:, :2, :2]), 3, 3),
    "wrong_extension": (_renamed("really_mp4.avi"), NUM_FRAMES, NUM_FRAMES),
    "unknown_extension": (_renamed("clip.dat"), NUM_FRAMES, NUM_FRAMES),
    "no_extension": (_renamed("clip"), NUM_FRAMES, NUM_FRAMES),
    "odd_name": (_renamed("Über 視頻 #1 100%d.MP4"), NUM_FRAMES, NUM_FRAMES),
    "name_like_an_address": (_renamed("concat:a|b.mp4"), NUM_FRAMES, NUM_FRAMES),
    "name_like_a_pattern": (_renamed("take[1]*?.mov"), NUM_FRAMES, NUM_FRAMES),
    "tag_not_utf8": (_tag_not_utf8, NUM_FRAMES, NUM_FRAMES),
    "name_not_utf8": (_renamed(os.fsdecode(b"caf\xe9.mp4")), NUM_FRAMES, NUM_FRAMES),
    "gif": (
        lambda d: encode(d / "g.gif", codec="gif", pix_fmt="rgb8"),
        NUM_FRAMES,
        NUM_FRAMES,
    ),
    "transport_stream": (lambda d: encode(d / "t.ts"), NUM_FRAMES, NUM_FRAMES),
    "mpeg2": (
        lambda d: encode(d / "m.mpg", codec="mpeg2video", fps=25),
        NUM_FRAMES,
        NUM_FRAMES,
    ),
    "vp8": (lambda d: encode(d / "v.webm", codec="libvpx"), NUM_FRAMES, NUM_FRAMES),
    "flash": (lambda d: encode(d / "f.flv", codec="flv1"), NUM_FRAMES, NUM_FRAMES),
    "raw_stream": (lambda d: encode(d / "r.h264"), NUM_FRAMES, NUM_FRAMES),
    "ten_bits": (lambda d: encode(d / "x.mp4", pix_fmt="yuv420p10le"), NUM_FRAMES, NUM_FRAMES),
}
