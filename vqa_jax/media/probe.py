"""What a file holds: size, rate, frame count, colour, and what it lacks of what it promises.

**Packets are frames** only where nothing speaks against it: the first one is a key frame and none
is shown before it, none is empty, the first pictures decode without error and are not interlaced
(two packets may be the fields of one frame), and the codec hides no frames (VP8). Then they are
counted, from the file's index where that lists as many as the header says and the file is long
enough to hold them. Everything else is decoded to the end, and what decodes is counted.

**Times are those of the packets** (or of the frames, where those are decoded), whatever the
container's header says; the header's rate counts where it agrees with them, being the finer one.
Frames may share a time. A step back, or one ahead of more than ten minutes, is a jump of the clock
(joined or damaged files), not a picture that stands still.

A variable frame rate is one whose frames stray, by more than a frame, from an even spacing. Such
a file is read as the frames on screen at the even times of its average rate, so that every rule
stated in frame numbers holds for it as it stands (method 4).
"""

import dataclasses
import math
import os
import re

import av
import numpy as np
from av.codec.context import CodecContext
from av.video.stream import VideoStream

from vqa_jax.media import colour
from vqa_jax.media import container as media
from vqa_jax.media.container import MediaError, NoFrameError
from vqa_jax.settings import DecodeLimits

_HIDDEN_FRAMES = ("vp8",)  # a packet may hold a frame that is never shown
_MAX_FPS = 1000.0
_MAX_PAUSE = 600.0  # seconds
_LOOKED_AT = 8  # first pictures that tell whether packets are frames
_AGREES = 0.005  # of a stated rate with the measured one, and what milliseconds round away:
_ROUNDED = 0.0015
_DOLBY_TAGS = ("dvh1", "dvhe", "dav1", "dva1", "dvav")


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
      rotation: degrees counter-clockwise that the stored picture is turned to be shown; of 0, 90,
        180 and 270 the nearest.
      real_fps: frames per second while frames follow one another; above `fps` if some are left out.
      variable_rate: frames are not evenly spaced: they are numbered on the even grid of `fps`.
      bit_depth: bits of a stored sample.
      transfer: the transfer function's name in ISO/IEC 23091-2 as FFmpeg spells it ("bt709",
        "smpte2084", "arib-std-b67"); "" if the file does not say.
      has_alpha: pixels may be transparent; they are laid over black.
      still: a still picture, read as one frame of one second.
      interlaced: its frames are deinterlaced, see `vqa_jax.media.interlace`.
      missing: what there is of what the file promises ("102 of 524 frames"); "" if all of it.
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    fps: float
    num_frames: int
    duration: float
    rotation: int = 0
    real_fps: float = 0.0
    variable_rate: bool = False
    bit_depth: int = 8
    transfer: str = ""
    has_alpha: bool = False
    still: bool = False
    interlaced: bool = False
    missing: str = ""

    @property
    def hdr(self) -> bool:
        """High dynamic range (PQ or HLG): frames come tone-mapped, see `vqa_jax.media.colour`."""
        return self.transfer in colour.HDR_TRANSFERS

    @property
    def notes(self) -> str:
        """What a reader of the score should know of the file; "" for an ordinary one."""
        return "; ".join(filter(None, (self.missing, "deinterlaced" if self.interlaced else "")))

    def with_frames(self, count: int) -> "VideoInfo":
        """The same where only `count` frames decode."""
        missing = self.missing or f"{count} of {self.num_frames} frames"
        duration = count / self.fps
        return dataclasses.replace(self, num_frames=count, duration=duration, missing=missing)


def probe(path: str | os.PathLike[str], max_pixels: int = DecodeLimits.pixels) -> VideoInfo:
    """Examines a file; decodes its first frames, and reads on only if there is cause.

    Args:
      path: a local file.
      max_pixels: refuse larger frames before one is decoded; 0 for no limit.

    Raises:
      MediaError: unreadable, not a video, no decodable frame, no frame rate to be found, colours
        that cannot be shown (Dolby Vision profile 5), or (stage "limit") too many pixels.
    """
    path = os.fspath(path)
    with media.opened(path, "probe", max_pixels) as file:
        _check_size(*file.size, max_pixels, path)
        seen = _glance(file, path)
        if seen is not None:
            return _info(file, seen, max_pixels, path)
    with media.opened(path, "probe", max_pixels) as file:
        return _info(file, _count(file, path), max_pixels, path)


def picture_bytes(path: str) -> int:
    """Bytes of a file's moving picture alone: neither sound nor container.

    Raises:
      MediaError: it cannot be read.
    """
    with media.opened(path, "probe") as file:
        return sum(packet.size for packet in media.packets(file, path, "probe"))


def seconds_between(before: av.VideoFrame, after: av.VideoFrame, info: VideoInfo) -> float:
    """Time between two frames that follow one another; one frame's where the clock is no help."""
    if before.pts is None or after.pts is None or not (before.time_base and after.time_base):
        return 1 / info.real_fps
    gap = float(after.pts * after.time_base - before.pts * before.time_base)
    return gap if 0 <= gap <= _MAX_PAUSE else 1 / info.real_fps


@dataclasses.dataclass(frozen=True)
class _Survey:
    """What reading a file showed.

    `times`: seconds of the frames in order of showing, as far as they were seen. `share`: frames
    that a packet holds, 1 where they were not compared.
    """

    first: av.VideoFrame
    num_frames: int
    times: np.ndarray
    interlaced: bool = False
    share: float = 1.0


def _has_dolby_tag(codec: CodecContext) -> bool:
    try:
        return codec.codec_tag in _DOLBY_TAGS
    except UnicodeDecodeError:  # PyAV takes every tag for ASCII
        return False


def _has_dolby_metadata(frame: av.VideoFrame, codec: str) -> bool:
    try:
        return colour.side_data(frame, "DOVI_METADATA", codec) is not None
    except ValueError:  # beside it is something of a kind that PyAV does not know
        return False


def _info(file: media.Media, seen: _Survey, max_pixels: int, path: str) -> VideoInfo:
    first, codec = seen.first, file.stream.codec_context
    width, height = colour.shown_size(first, file.stream)
    _check_size(width, height, max_pixels, path)
    facts = colour.describe(first, file.stream)
    # The other profiles state a transfer function, and show well by it.
    is_dolby = _has_dolby_tag(codec) or _has_dolby_metadata(first, codec.name)
    if is_dolby and not facts.transfer:
        reason = "is Dolby Vision of profile 5, whose colours need its own decoder: give another"
        raise MediaError(path, "probe", f"{reason} version (HDR10, HLG or SDR)")
    fps, real_fps, variable = _rates(file, seen, path)
    return VideoInfo(
        path=path,
        container=file.container.format.name,
        codec=codec.name,
        width=width,
        height=height,
        fps=fps,
        num_frames=seen.num_frames,
        duration=seen.num_frames / fps,
        rotation=round(first.rotation / 90) * 90 % 360,
        real_fps=real_fps,
        variable_rate=variable,
        bit_depth=facts.bit_depth,
        transfer=facts.transfer,
        has_alpha=facts.has_alpha,
        still=file.still,
        interlaced=seen.interlaced,
        missing=_missing(file, seen, real_fps),
    )


def _check_size(width: int, height: int, max_pixels: int, path: str) -> None:
    if 0 < max_pixels < width * height:
        reason = f"frames of {width}x{height} exceed the limit of {max_pixels} pixels"
        raise MediaError(path, "limit", reason)


# --- counting -----------------------------------------------------------------------------------


def _glance(file: media.Media, path: str) -> _Survey | None:
    """Counts packets and decodes the first of them; None where packets are no frames."""
    stream = file.stream
    samples = _samples(stream)
    if samples is not None and not _is_whole(samples, path):
        return None
    lies = samples is None and stream.frames > 0 and not file.still
    if lies or stream.codec_context.name in _HIDDEN_FRAMES:
        return None
    times = np.array([s.timestamp for s in samples or ()]) * float(stream.time_base or 0)
    read_all = not file.still and (samples is None or _uneven(times))
    looks: list[av.VideoFrame] = []
    stamps: list[tuple[int | None, int | None]] = []  # (pts, dts) of every packet
    for packet in media.packets(file, path, "probe"):
        is_flush = not packet.size and packet.pts is None and packet.dts is None
        if packet.is_discard and not is_flush:
            continue
        if not is_flush:
            stamps.append((packet.pts, packet.dts))
            if not packet.size or not stamps or (len(stamps) == 1 and not packet.is_keyframe):
                return None
            if _is_before(packet.pts, stamps[0][0]):
                return None
        if len(looks) < _LOOKED_AT:
            frames, damaged = media.decoded(file, packet)
            looks += frames
            if damaged or any(frame.interlaced_frame for frame in frames):
                return None
        if len(looks) >= (1 if file.still else _LOOKED_AT) and not read_all:
            break
    if not looks:
        return None
    if file.still:
        return _Survey(looks[0], 1, np.zeros(0))
    if read_all:
        return _Survey(looks[0], len(stamps), _in_order(stamps) * float(stream.time_base or 0))
    return _Survey(looks[0], len(samples), times)


def _count(file: media.Media, path: str) -> _Survey:
    """Decodes everything and counts what comes."""
    first: av.VideoFrame | None = None
    num_packets = num_frames = 0
    times: list[float] = []
    interlaced = False
    for packet in media.packets(file, path, "probe"):
        num_packets += packet.size > 0 and not packet.is_discard
        for frame in media.decoded(file, packet)[0]:
            first = first or frame
            num_frames += 1
            interlaced |= frame.interlaced_frame
            if frame.pts is not None and frame.time_base:
                times.append(float(frame.pts * frame.time_base))
    if first is None:
        raise NoFrameError(path, "probe", "no frame decodes; fetch or encode the file again")
    share = num_frames / max(num_packets, 1) if interlaced else 1.0
    return _Survey(first, 1 if file.still else num_frames, np.array(times), interlaced, share)


def _samples(stream: VideoStream) -> list | None:
    """Entries of the file's index that are shown, if it lists as many as the header says."""
    entries = stream.index_entries
    if not stream.frames or len(entries) != stream.frames:
        return None
    return [entry for entry in entries if not entry.is_discard] or None


def _is_whole(samples: list, path: str) -> bool:
    """Whether the file is long enough for its samples, none of which is empty."""
    end = max(sample.pos + sample.size for sample in samples)
    return end <= os.path.getsize(path) and all(sample.size for sample in samples)


def _missing(file: media.Media, seen: _Survey, real_fps: float) -> str:
    """What there is of what the file promises: frames by its index, else seconds by its header."""
    stream = file.stream
    if file.still:
        return ""
    samples = _samples(stream)
    if samples is not None:
        promised = round(sum(sample.size > 0 for sample in samples) * seen.share)
        return f"{seen.num_frames} of {promised} frames" if promised > seen.num_frames else ""
    stated = _stated_seconds(file)
    found = float(_gaps(seen.times).sum()) + 1 / real_fps
    if len(seen.times) == seen.num_frames and found < stated - max(1.0, 0.05 * stated):
        return f"{found:.1f} of {stated:.1f} seconds"
    return ""


def _stated_seconds(file: media.Media) -> float:
    """Length of the stream by its own header; 0 where that says nothing of this stream."""
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", file.stream.metadata.get("DURATION", ""))
    if tag:  # Matroska
        hours, minutes, seconds = map(float, tag.groups())
        return 3600 * hours + 60 * minutes + seconds
    if file.container.format.name == "avi" and file.stream.duration:
        return float(file.stream.duration * file.stream.time_base)
    return 0.0


# --- times --------------------------------------------------------------------------------------


def _is_before(stamp: int | None, other: int | None) -> bool:
    return stamp is not None and other is not None and stamp < other


def _in_order(stamps: list[tuple[int | None, int | None]]) -> np.ndarray:
    """Times of showing, ascending up to where the clock of decoding steps back."""
    parts: list[list[int]] = [[]]
    last: int | None = None
    for shown, decoded in stamps:
        if _is_before(decoded, last):
            parts.append([])
        last = last if decoded is None else decoded
        if shown is not None:
            parts[-1].append(shown)
    return np.array([stamp for part in parts for stamp in sorted(part)], np.float64)


def _rates(file: media.Media, seen: _Survey, path: str) -> tuple[float, float, bool]:
    """(average rate, rate while frames follow one another, whether it varies)."""
    if file.still:
        return 1.0, 1.0, False
    gaps = _gaps(seen.times)
    variable = len(seen.times) == seen.num_frames and _uneven(seen.times)
    if variable:
        average = float(min(1 / gaps.mean(), _MAX_FPS))
    else:
        average = _average_fps(file.stream, seen, path)
    base = float(file.stream.base_rate or 0)
    steps = gaps[gaps > 0]
    measured = 1 / float(np.median(steps)) if len(steps) else average
    # Times are often rounded to milliseconds: the stated rate is the finer one if it agrees.
    real = base if abs(base - measured) <= 0.1 * measured else measured
    return average, max(real, average) if variable else real, variable


def _gaps(times: np.ndarray) -> np.ndarray:
    """Seconds between frames, jumps of the clock replaced by the usual time."""
    gaps = np.diff(times)
    steps = gaps[(gaps > 0) & (gaps <= _MAX_PAUSE)]
    usual = np.median(steps) if len(steps) else 0.0
    return np.where((gaps < 0) | (gaps > _MAX_PAUSE), usual, gaps)


def _uneven(times: np.ndarray) -> bool:
    """Whether some frame is more than one average frame time off its place in an even spacing."""
    gaps = _gaps(times)
    if len(gaps) < 2 or not gaps.sum():
        return False
    strays = np.cumsum(gaps) / gaps.mean() - np.arange(1, len(gaps) + 1)
    return bool(max(strays.max(), 0) - min(strays.min(), 0) > 1.0001)


def _average_fps(stream: VideoStream, seen: _Survey, path: str) -> float:
    """Frame rate of the times, or the header's if it agrees, or if there are no times."""
    gaps = _gaps(seen.times)
    total = float(gaps.sum())
    measured = 0.0
    if total > 0:
        complete = len(seen.times) == seen.num_frames
        measured = 1 / float(gaps.mean() if complete else np.median(gaps[gaps > 0]))
    stated = [float(r) for r in (stream.average_rate, stream.guessed_rate) if r]
    stated = [r for r in stated if math.isfinite(r) and 0 < r <= _MAX_FPS]
    if measured:
        agree = max(_AGREES, _ROUNDED / total) * measured
        fitting = [rate for rate in stated if abs(rate - measured) <= agree]
        return float(min(fitting[0] if fitting else measured, _MAX_FPS))
    if stated:
        return stated[0]
    if seen.num_frames == 1:
        return 1.0  # any rate does: one key frame, equal clips
    raise MediaError(path, "probe", "has neither a frame rate nor time stamps; remux it with one")
