"""Video files -> RGB frames: find, probe and decode them, with typed errors.

Untrusted files are expected. A header is believed only where the file's own index agrees with it,
only known containers are opened (no play lists, image sequences or network addresses), and what
fails becomes a `MediaError` that names the file, the stage and what to do.

Decoding is sequential and single-threaded, and each frame is converted by itself: frame k of a
file does not depend on which other frames were asked for, nor on the machine's load.
"""

import contextlib
import dataclasses
import glob
import math
import os
from collections.abc import Collection, Iterator, Sequence

import av
import numpy as np
from absl import logging
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

VIDEO_EXTENSIONS = tuple(
    "." + e
    for e in ("mp4", "mov", "mkv", "webm", "avi", "ts", "m4v", "mpg", "mpeg", "flv", "wmv", "3gp")
)

# FFmpeg also "decodes" text files (tty), pictures (*_pipe, image2), play lists that name further
# files (hls, concat, dash) and raw bytes: only formats that hold a moving picture are tried.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,mxf,nut,ivf,obu,dv,rm,wtv,swf,"
    "h264,hevc,vvc,mpegvideo,m4v,vc1,yuv4mpegpipe"
)
_STILL_BRANDS = ("avif", "heic", "heix", "heim", "heis", "mif1")
# A packet of these may hold a frame that is never shown: their frames are counted by decoding.
_HIDDEN_FRAMES = ("vp8",)
_MAX_FPS = 1000.0


class MediaError(Exception):
    """A file that cannot be used. `path`, `stage` ("probe" or "decode") and a plain `reason`."""

    def __init__(self, path: str, stage: str, reason: str) -> None:
        super().__init__(path, stage, reason)  # all arguments, so that it survives pickling
        self.path, self.stage, self.reason = path, stage, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason} [{self.stage}]"


class UnreadableFileError(MediaError):
    """Missing, empty, a folder, or not permitted: the bytes cannot be had."""


class NotAVideoError(MediaError):
    """The contents are no media file, or one without moving pictures."""


class NoFrameError(MediaError):
    """There is a video stream, but not one of its frames decodes."""


class TruncatedVideoError(MediaError):
    """Fewer frames decode than were asked for. `num_frames`: how many do."""

    def __init__(self, path: str, stage: str, reason: str, num_frames: int) -> None:
        super().__init__(path, stage, reason)
        self.args = (path, stage, reason, num_frames)
        self.num_frames = num_frames


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a file holds; sizes are as shown, i.e. after its rotation metadata.

    Attributes:
      path: as given.
      container, codec: FFmpeg's names ("mov,mp4,m4a,3gp,3g2,mj2", "h264").
      width, height: pixels of the first frame.
      fps: average frames per second.
      num_frames: frames that the file holds; damage can make fewer of them decode.
      duration: seconds, num_frames / fps.
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    fps: float
    num_frames: int
    duration: float


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Examines a file; decodes its first frame, and reads on only if the header is not credible.

    The header's frame count is believed if the file's index lists as many frames and the file is
    long enough to hold them. Otherwise packets are counted to the end (no decoding).

    Raises:
      MediaError: unreadable, not a video, no decodable frame, or no frame rate to be found.
    """
    path = os.fspath(path)
    with _opened(path) as (container, stream):
        indexed = _indexed_frames(stream, os.path.getsize(path))
        decode_all = indexed is None and stream.codec_context.name in _HIDDEN_FRAMES
        first: av.VideoFrame | None = None
        packets = decoded = 0
        times: list[int] = []
        for packet in _packets(container, stream, path, "probe"):
            if packet.size and not packet.is_discard:
                packets += 1
                if packet.pts is not None:
                    times.append(packet.pts)
            if first is None or decode_all:
                frames, _ = _decode_packet(packet)
                decoded += len(frames)
                if first is None and frames:
                    first = frames[0]
            if first is not None and indexed is not None:
                break
        if first is None:
            raise NoFrameError(path, "probe", "no frame decodes; fetch or encode the file again")
        num_frames = indexed if indexed is not None else decoded if decode_all else max(packets, 1)
        seconds = np.unique(times if indexed is None else []) * float(stream.time_base or 0)
        fps = _average_fps(stream, num_frames, seconds, path)
        turned = _orientation(first)[0]
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        names = container.format.name, stream.codec_context.name
        return VideoInfo(path, *names, width, height, fps, num_frames, num_frames / fps)


def find_videos(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Expands files, folders (recursively) and glob patterns to the videos among them.

    A file counts if its extension is one of `VIDEO_EXTENSIONS` in any case (readable or not, so
    that a broken video is reported and not passed over), or if its contents are a video. A name
    that matches nothing is kept, for the same reason. Files that are named and left out are logged.

    Returns:
      Sorted paths, each file once.
    """
    found: dict[str, str] = {}

    def add(path: str) -> bool:
        if not _is_video(path):
            return False
        found.setdefault(os.path.abspath(path), os.path.normpath(path))
        return True

    for name in map(os.fspath, paths):
        matches = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))
        for path in matches or [name]:
            if os.path.isdir(path):
                for file in _files_below(path):
                    add(file)
            elif not matches:
                found.setdefault(os.path.abspath(path), path)
            elif not add(path):
                logging.warning("%s is not a video: left out", path)
    return sorted(found.values())


def iter_frames(
    path: str | os.PathLike[str], indices: Collection[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes a file once, in order of showing, and converts only the frames asked for.

    Rotation metadata is applied; frames of another size than the first are scaled to that one.
    More than 8 bits are reduced to 8 without tone mapping: HDR material comes out as its bare
    code values. Pixels are taken as square. Corrupt packets are
    skipped and what the decoder conceals is kept, as a player does; either is logged.

    Args:
      path: a video file.
      indices: frame numbers, in any order; None for all. Decoding stops after the last one.

    Yields:
      (frame number, uint8 RGB [H, W, 3]), ascending, each once.

    Raises:
      TruncatedVideoError: (after what exists has been yielded) the stream ends too early.
      MediaError: as `probe`, or a read error.
    """
    path = os.fspath(path)
    wanted = None if indices is None else {int(i) for i in indices}
    if wanted is not None and (not wanted or min(wanted) < 0):
        raise ValueError(f"frame numbers must be 0 or more, and at least one: {sorted(wanted)[:3]}")
    end = None if wanted is None else max(wanted) + 1
    size: tuple[int, int] | None = None
    number = damaged = 0
    with _opened(path, "decode") as (container, stream):
        for packet in _packets(container, stream, path, "decode"):
            frames, error = _decode_packet(packet)
            damaged += error
            for frame in frames:
                size = size or (frame.width, frame.height)
                if wanted is None or number in wanted:
                    yield number, _to_rgb(frame, size, path)
                number += 1
                if number == end:
                    break
            if number == end:
                break
    if damaged:
        logging.warning("%s: %d damaged packets skipped", path, damaged)
    if not number:
        raise NoFrameError(path, "decode", "no frame decodes; fetch or encode the file again")
    if end is not None and number < end:
        reason = f"ends after {number} frames, but frame number {end - 1} was asked for"
        raise TruncatedVideoError(path, "decode", reason, number)


def read_frames(path: str | os.PathLike[str], indices: Sequence[int]) -> np.ndarray:
    """Reads frames by number (any order, repeats allowed) -> uint8 RGB [len(indices), H, W, 3].

    Raises:
      MediaError: see `iter_frames`; TruncatedVideoError if a frame is beyond the end.
    """
    order = [int(i) for i in indices]
    places: dict[int, list[int]] = {}
    for place, index in enumerate(order):
        places.setdefault(index, []).append(place)
    out = np.empty(0, np.uint8)
    for index, frame in iter_frames(path, places.keys()):
        if not out.size:
            out = np.empty((len(order), *frame.shape), np.uint8)
        out[places[index]] = frame
    return out


def read_segment(path: str | os.PathLike[str], start: int, count: int) -> np.ndarray:
    """As `read_frames` of `count` frames from number `start` -> uint8 RGB [count, H, W, 3]."""
    return read_frames(path, range(start, start + count))


@contextlib.contextmanager
def _opened(path: str, stage: str = "probe") -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file of a known container format and picks its moving picture."""
    _check_readable(path, stage)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        # "file:" keeps names such as "concat:a.mp4" or "12:30.mp4" from being read as protocols.
        container = av.open("file:" + path, options=options, metadata_errors="replace")
    except (av.FFmpegError, UnicodeError) as error:
        raise NotAVideoError(path, stage, _why_not_opened(path)) from error
    with container:
        cover = Disposition.attached_pic  # the picture of a piece of music
        streams = [s for s in container.streams.video if not s.disposition & cover]
        if not streams:
            held = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise NotAVideoError(path, stage, f"has no video stream (it holds: {held})")
        if container.metadata.get("major_brand", "").strip() in _STILL_BRANDS:
            raise NotAVideoError(path, stage, "is a still picture, not a video")
        stream = max(streams, key=lambda s: (bool(s.disposition & Disposition.default), -s.index))
        if stream.codec_context is None:
            raise NotAVideoError(path, stage, "unknown video codec; encode it again as H.264")
        stream.codec_context.thread_count = 1  # same result everywhere, also for damaged streams
        yield container, stream


def _check_readable(path: str, stage: str) -> None:
    reason = None
    if not os.path.lexists(path):
        reason = "no such file"
    elif not os.path.isfile(path):  # a pipe or device would block
        reason = "is not a regular file"
    elif not os.access(path, os.R_OK):
        reason = "may not be read: check its permissions"
    elif os.path.getsize(path) == 0:
        reason = "is empty (0 bytes); fetch it again"
    if reason:
        raise UnreadableFileError(path, stage, reason)


def _why_not_opened(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "is cut off, or still being written: an MP4/MOV without index (moov); fetch it again"
    return "is not a media file, or of a format that is not supported"


def _packets(
    container: InputContainer, stream: VideoStream, path: str, stage: str
) -> Iterator[av.Packet]:
    """Packets to the end, the empty one that flushes the decoder included.

    A container that breaks off ends the stream; a failing disk is an error, or it changes scores.
    """
    try:
        yield from container.demux(stream)
        return
    except (av.InvalidDataError, av.EOFError):
        logging.warning("%s: the container is damaged and ends early", path)
    except av.FFmpegError as error:
        raise MediaError(path, stage, f"cannot be read to the end: {error.strerror}") from error
    flush = av.Packet()
    flush.stream = stream
    yield flush


def _decode_packet(packet: av.Packet) -> tuple[list[av.VideoFrame], bool]:
    """Frames of one packet, and whether it was damaged."""
    try:
        return packet.decode(), False
    except av.FFmpegError:
        return [], True


def _indexed_frames(stream: VideoStream, file_size: int) -> int | None:
    """Frames by the file's index if header and index agree and the file is complete, else None."""
    entries = stream.index_entries
    shown = end = 0
    if len(entries) != stream.frames:
        return None
    for entry in entries:
        shown += not entry.is_discard  # cut away by an edit list
        end = max(end, entry.pos + entry.size)
    return shown if shown and end <= file_size else None


def _average_fps(stream: VideoStream, num_frames: int, times: np.ndarray, path: str) -> float:
    """Frame rate of the header, or the one that the time stamps show if they disagree.

    Recorders write a nominal rate (1000 is common) into headers of variable-rate files. Gaps of
    more than a second are breaks (damage, a pause), not the rate.
    `times`: seconds, ascending; empty if not all frames were seen.
    """
    gaps = np.diff(times)
    gaps = gaps[gaps <= 1]
    measured = 1 / gaps.mean() if gaps.sum() > 0 else 0.0
    stated = [float(r) for r in (stream.average_rate, stream.guessed_rate) if r]
    stated = [r for r in stated if math.isfinite(r) and 0 < r <= _MAX_FPS]
    if measured and (not stated or abs(stated[0] - measured) > 0.1 * measured):
        return float(min(measured, _MAX_FPS))
    if stated:
        return stated[0]
    if num_frames == 1:
        return 1.0  # any rate does: one key frame, equal clips
    raise MediaError(path, "probe", "has neither a frame rate nor time stamps; remux it with one")


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, then flip left-right, then flip up-down) of the frame's display matrix.

    The matrix [[a, b, u], [c, d, v], [x, y, w]] sends a pixel (p, q) to (a p + c q, b p + d q);
    angles between the quarter turns are rounded to the nearest.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _to_rgb(frame: av.VideoFrame, size: tuple[int, int], path: str) -> np.ndarray:
    """One decoded frame -> uint8 RGB [H, W, 3], upright.

    swscale's default conversion: the one inside OpenCV's and decord's readers, with which the
    published weights were trained. On 4:2:0 it is 1 to 1.5 levels of 255 darker than the exact
    formula, and several times faster than swscale's exact mode.
    """
    try:
        image = frame.to_ndarray(format="rgb24", width=size[0], height=size[1], threads=1)
    except (av.FFmpegError, ValueError) as error:
        reason = f"pixel format {frame.format.name} cannot be converted to RGB"
        raise MediaError(path, "decode", reason) from error
    transpose, flip_x, flip_y = _orientation(frame)
    if transpose:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _is_video(path: str) -> bool:
    if path.lower().endswith(VIDEO_EXTENSIONS):
        return True
    try:
        probe(path)
    except MediaError:
        return False
    return True


def _files_below(folder: str) -> Iterator[str]:
    """All files under a folder, through links to folders too, each real folder once."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (os.path.join(root, file) for file in files)
