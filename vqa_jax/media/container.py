"""Opens media files that nobody vouches for: containers, streams, packets, and typed errors.

Only known containers are opened (no play lists, image sequences or network addresses), and what
fails becomes a `MediaError` that names the file, the stage and what to do; an exception of a kind
that nobody foresaw too. Still pictures are opened by their own readers, and only under a still
picture's extension.

Of several moving pictures FFmpeg's best one is taken (`av_find_best_stream`: the default one, then
the one with more pictures and more bits at the start), unless it holds less than two packets and
another one more: the one with the most packets then.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import av
from absl import logging
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vqa_jax.errors import VqaError
from vqa_jax.media import tiles

# A file of such a name that cannot be read is a row with its reason; others are told by content.
VIDEO_EXTENSIONS = tuple(
    "." + e
    for e in (
        *("mp4", "mov", "mkv", "webm", "avi", "ts", "m4v", "mpg", "mpeg", "flv", "wmv", "3gp"),
        *("mts", "m2ts", "vob", "ogv", "mxf", "asf", "f4v", "3g2", "gif"),
    )
)
STILL_EXTENSIONS = tuple(
    "." + e for e in ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "heic", "heif", "avif")
)

# FFmpeg also "decodes" text files (tty), pictures (*_pipe, image2), play lists that name further
# files (hls, concat, dash) and raw bytes: only formats that hold a moving picture are tried.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,mxf,nut,ivf,obu,dv,rm,wtv,swf,"
    "h264,hevc,vvc,mpegvideo,m4v,vc1,yuv4mpegpipe"
)
# First bytes of a still picture -> FFmpeg's reader: people rename pictures, so names do not tell.
_STILL_READERS = {
    b"\x89PNG\r\n\x1a\n": "png_pipe",
    b"\xff\xd8\xff": "jpeg_pipe",
    b"RIFF": "webp_pipe",
    b"II*\x00": "tiff_pipe",
    b"MM\x00*": "tiff_pipe",
    b"BM": "bmp_pipe",
}
_STILL_BRANDS = ("avif", "heic", "heix", "heim", "heis", "mif1")
# FFmpeg's own VP8 and VP9 decoders pass over the alpha that WebM keeps beside the picture.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Tags in other than UTF-8 are no reason to refuse a file. PyAV below 19 has to be told.
_ANY_TAGS = {"metadata_errors": "replace"} if hasattr(InputContainer, "metadata_errors") else {}


class MediaError(VqaError):
    """A file that cannot be used. `path`, `stage` ("probe", "decode", "limit") and a `reason`."""

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
class Media:
    """An open file: its container, its moving picture, who decodes it, whether it is a still.

    Of a picture in tiles `streams` are the tiles, and `canvas` takes them.
    """

    container: InputContainer
    streams: list[VideoStream]
    decoder: CodecContext
    still: bool
    canvas: tiles.Canvas | None = None

    @property
    def stream(self) -> VideoStream:
        """The moving picture; one of the tiles."""
        return self.streams[0]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels by the file's header."""
        whole = self.stream.codec_context if self.canvas is None else self.canvas.grid
        return whole.width, whole.height


@contextlib.contextmanager
def typed(path: str, stage: str) -> Iterator[None]:
    """Makes a `MediaError` of every exception that is none of ours: one odd file ends no job."""
    try:
        yield
    except (VqaError, MemoryError):
        raise
    except Exception as error:  # any: what a decoder and its bindings raise is in no list
        reason = f"cannot be decoded ({type(error).__name__}: {error})"
        raise MediaError(path, stage, reason) from error


@contextlib.contextmanager
def opened(path: str, stage: str, max_pixels: int = 0) -> Iterator[Media]:
    """Opens a file and picks its moving picture, or its still one.

    Args:
      path: a local file.
      stage: "probe" or "decode", for errors.
      max_pixels: larger frames do not decode; 0 for no limit.

    Raises:
      UnreadableFileError: the bytes cannot be had.
      NotAVideoError: no media file, or one that holds no picture.
      MediaError: whatever else happens while the context lasts.
    """
    with typed(path, stage), contextlib.ExitStack() as stack:
        _check_readable(path, stage)
        reader = _still_reader(path)
        container = stack.enter_context(_open(path, stage, reader))
        streams = _pictures(container, path, stage)
        still = reader is not None or _is_still(container, path, stage)
        if still and reader is None:  # HEIC or AVIF
            yield _shown(container, streams, max_pixels, path, stage)
            return
        stream = _best(container, streams)
        if len(streams) > 1:  # packets were read to choose: from the start again
            index = stream.index
            container.close()
            container = stack.enter_context(_open(path, stage, reader))
            stream = container.streams[index]
        yield Media(container, [stream], _decoder(stream, max_pixels, path, stage), still)


def packets(media: Media, path: str, stage: str) -> Iterator[av.Packet]:
    """Packets to the end, the empty one that flushes the decoder included.

    A container that breaks off ends the stream; a failing disk is an error, or it changes scores.
    """
    try:
        yield from media.container.demux(media.streams)
        return
    except IndexError:
        # PyAV's own flush stumbles over streams that came after the header (TS, FLV); all packets
        # have been given by then.
        logging.debug("%s: streams appear after the header", path)
    except (av.InvalidDataError, av.EOFError):
        logging.warning("%s: the container is damaged and ends early", path)
    except av.FFmpegError as error:
        raise MediaError(path, stage, f"cannot be read to the end: {error.strerror}") from error
    flush = av.Packet()
    flush.stream = media.stream
    yield flush


def decoded(media: Media, packet: av.Packet) -> tuple[list[av.VideoFrame], bool]:
    """Frames of one packet, and whether it was damaged."""
    canvas = media.canvas
    try:
        if canvas is None:
            return media.decoder.decode(packet), False
        found = packet.stream.codec_context.decode(packet)
    except av.FFmpegError:
        return [], True
    whole = [canvas.add(packet.stream.id, tile) for tile in found]
    return [frame for frame in whole if frame is not None], False


def _open(path: str, stage: str, reader: str | None) -> InputContainer:
    options = {"format_whitelist": reader or _CONTAINERS, "protocol_whitelist": "file"}
    try:
        # "file:" keeps names such as "concat:a.mp4" or "12:30.mp4" from being read as protocols.
        return av.open("file:" + path, format=reader, options=options, **_ANY_TAGS)
    except (av.FFmpegError, UnicodeError) as error:
        raise NotAVideoError(path, stage, _why_not_opened(path)) from error


def _pictures(container: InputContainer, path: str, stage: str) -> list[VideoStream]:
    """Video streams, without the cover of a piece of music; at least one."""
    cover = Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        held = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise NotAVideoError(path, stage, f"has no video stream (it holds: {held})")
    return streams


def _best(container: InputContainer, streams: list[VideoStream]) -> VideoStream:
    """FFmpeg's choice, unless it is empty or of one picture and another one is not."""
    if len(streams) == 1:
        return streams[0]
    best = container.streams.best("video")
    if best not in streams:  # a cover
        best = max(streams, key=lambda s: (bool(s.disposition & Disposition.default), -s.index))
    counts = dict.fromkeys((s.index for s in streams), 0)
    with contextlib.suppress(av.FFmpegError, IndexError):
        for packet in container.demux(streams):
            counts[packet.stream_index] += packet.size > 0
            if counts[best.index] > 1:
                return best
    fullest = max(streams, key=lambda s: counts[s.index])
    return fullest if counts[fullest.index] > counts[best.index] else best


def _shown(
    container: InputContainer, streams: list[VideoStream], max_pixels: int, path: str, stage: str
) -> Media:
    """What a HEIC or AVIF picture shows; other streams are thumbnails, layers."""
    shown = [stream for stream in streams if stream.disposition & Disposition.default][:1]
    grid = None if shown else tiles.read_grid(path)
    if grid is not None:
        shown = [stream for stream in streams if stream.id in grid.tiles]
    if not shown:
        reason = "is a picture made of others, but not of tiles: convert it to JPEG or PNG"
        raise NotAVideoError(path, stage, reason)
    decoder, *_ = [_decoder(stream, max_pixels, path, stage) for stream in shown]
    return Media(container, shown, decoder, True, grid and tiles.Canvas(grid))


def _decoder(stream: VideoStream, max_pixels: int, path: str, stage: str) -> CodecContext:
    decoder = stream.codec_context
    if decoder is None:
        raise NotAVideoError(path, stage, "unknown video codec; encode it again as H.264")
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in _ALPHA_DECODERS:
        decoder = CodecContext.create(_ALPHA_DECODERS[decoder.name], "r")
    decoder.thread_count = 1  # same result everywhere, also for damaged streams
    if max_pixels:
        decoder.options = {"max_pixels": str(max_pixels)}
    return decoder


def _is_still(container: InputContainer, path: str, stage: str) -> bool:
    """Whether it is a HEIC or AVIF picture; under a film's name it is an error."""
    if container.metadata.get("major_brand", "").strip() not in _STILL_BRANDS:
        return False
    if not path.lower().endswith(STILL_EXTENSIONS):
        raise NotAVideoError(path, stage, "is a still picture, not a video")
    return True


def _check_readable(path: str, stage: str) -> None:
    reason = None
    if "\0" in path:
        reason = "has a name that no file can have (a zero byte): correct the listing"
    elif not os.path.lexists(path):
        reason = "no such file"
    elif os.path.isdir(path):
        reason = _why_not_listed(path) or "is a folder, not a regular file"
    elif not os.path.isfile(path):  # a pipe or device would block
        reason = "is not a regular file"
    elif not os.access(path, os.R_OK):
        reason = "may not be read: check its permissions"
    elif os.path.getsize(path) == 0:
        reason = "is empty (0 bytes); fetch it again"
    if reason:
        raise UnreadableFileError(path, stage, reason)


def _why_not_listed(folder: str) -> str | None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        return f"is a folder that may not be listed ({error.strerror}): check its permissions"
    return None


def still_extension(head: bytes) -> str:
    """An extension under which contents without a name are read as a still picture; "" for others.

    head: their first 12 bytes.
    """
    if head[4:8] == b"ftyp" and head[8:12].decode("latin-1") in _STILL_BRANDS:
        return ".heic"
    return ".png" if _reader_of(head) else ""


def _reader_of(head: bytes) -> str | None:
    if head.startswith(b"RIFF") and head[8:12] != b"WEBP":
        return None
    return next((r for magic, r in _STILL_READERS.items() if head.startswith(magic)), None)


def _still_reader(path: str) -> str | None:
    """FFmpeg's reader of a still picture, None for everything else."""
    if not path.lower().endswith(STILL_EXTENSIONS):
        return None
    with open(path, "rb") as file:
        return _reader_of(file.read(12))


def _why_not_opened(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "is cut off, or still being written: an MP4/MOV without index (moov); fetch it again"
    return "is not a media file, or of a format that is not supported"
