"""What a file holds: size, rate, frame count, colour. A header is believed only where the file's
own index agrees with it.

A variable frame rate is one whose frames stray, by more than a frame, from an even spacing. Such
a file is read as the frames on screen at the even times of its average rate (see `grid_numbers`),
so that every rule stated in frame numbers holds for it as it stands (method 4).
"""

import dataclasses
import math
import os

import av
import numpy as np
from av.video.stream import VideoStream

from vqa_jax.media import colour
from vqa_jax.media import container as media
from vqa_jax.media.container import MediaError, NoFrameError

# A packet of these may hold a frame that is never shown: their frames are counted by decoding.
_HIDDEN_FRAMES = ("vp8",)
_MAX_FPS = 1000.0
# A longer time between two frames is a jump of the clock (joined or damaged files), not a picture
# that stands still.
_MAX_PAUSE = 10.0


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
      counted: the header promised what the file does not hold; the frames that decode were counted.
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
    counted: bool = False

    @property
    def hdr(self) -> bool:
        """High dynamic range (PQ or HLG): frames come tone-mapped, see `vqa_jax.media.colour`."""
        return self.transfer in colour.HDR_TRANSFERS


def probe(path: str | os.PathLike[str], max_pixels: int = 0) -> VideoInfo:
    """Examines a file; decodes its first frame, and reads on only if there is cause.

    The header's frame count is believed if the file's index lists as many frames and the file is
    long enough to hold them. A file that promises more is decoded to the end and counted. Without
    any count, packets are counted (no decoding). An index with uneven times is followed up too:
    packets alone know when their frames are shown.

    Args:
      path: a local file.
      max_pixels: refuse larger frames before one is decoded; 0 for no limit.

    Raises:
      MediaError: unreadable, not a video, no decodable frame, no frame rate to be found, or
        (stage "limit") too many pixels.
    """
    path = os.fspath(path)
    with media.opened(path, "probe") as file:
        _check_size(file.stream, max_pixels, path)
        seen = _survey(file, path)
        first = seen.first
        if first is None:
            raise NoFrameError(path, "probe", "no frame decodes; fetch or encode the file again")
        fps, real_fps, variable = _rates(file, seen, path)
        facts = colour.describe(first, file.stream)
        turned = colour.orientation(first)[0]
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        return VideoInfo(
            path=path,
            container=file.container.format.name,
            codec=file.stream.codec_context.name,
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
            counted=seen.counted,
        )


def seconds_between(before: av.VideoFrame, after: av.VideoFrame, info: VideoInfo) -> float:
    """Time between two frames that follow one another; one frame's where the clock is no help."""
    if before.pts is None or after.pts is None or not after.time_base:
        return 1 / info.real_fps
    gap = float((after.pts - before.pts) * after.time_base)
    return gap if 0 < gap <= _MAX_PAUSE else 1 / info.real_fps


@dataclasses.dataclass(frozen=True)
class _Survey:
    """What reading a file showed. `times`: seconds, ascending, empty if not all were seen."""

    first: av.VideoFrame | None
    num_frames: int
    times: np.ndarray
    counted: bool


def _check_size(stream: VideoStream, max_pixels: int, path: str) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if 0 < max_pixels < width * height:
        reason = f"frames of {width}x{height} exceed the limit of {max_pixels} pixels"
        raise MediaError(path, "limit", reason)


def _survey(file: media.Media, path: str) -> _Survey:
    """Reads as much of a file as it takes to know its frames."""
    stream = file.stream
    indexed = 1 if file.still else _indexed_frames(stream, os.path.getsize(path))
    lies = indexed is None and stream.frames > 0
    decode_all = lies or (indexed is None and stream.codec_context.name in _HIDDEN_FRAMES)
    read_all = indexed is None or (not file.still and _uneven(_index_times(stream)))
    first: av.VideoFrame | None = None
    packets = decoded = 0
    times: list[int] = []
    for packet in media.packets(file, path, "probe"):
        if packet.size and not packet.is_discard:
            packets += 1
            if packet.pts is not None and not decode_all:
                times.append(packet.pts)
        if first is None or decode_all:
            frames, _ = media.decoded(file, packet)
            decoded += len(frames)
            first = first or next(iter(frames), None)
            if decode_all:
                times.extend(frame.pts for frame in frames if frame.pts is not None)
        if first is not None and not read_all:
            break
    num_frames = indexed if indexed is not None else decoded if decode_all else max(packets, 1)
    seconds = np.unique(times if read_all else []) * float(stream.time_base or 0)
    return _Survey(first, num_frames, seconds, counted=lies)


def _index_times(stream: VideoStream) -> np.ndarray:
    """When the indexed frames are decoded, in seconds: in even steps if they are shown so."""
    ticks = [entry.timestamp for entry in stream.index_entries if not entry.is_discard]
    return np.unique(ticks) * float(stream.time_base or 0)


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


def _rates(file: media.Media, seen: _Survey, path: str) -> tuple[float, float, bool]:
    """(average rate, rate while frames follow one another, whether it varies)."""
    if file.still:
        return 1.0, 1.0, False
    gaps = _gaps(seen.times)
    if len(seen.times) == seen.num_frames and _uneven(seen.times):
        average, variable = float(min(1 / gaps.mean(), _MAX_FPS)), True
    else:
        average = _average_fps(file.stream, seen.num_frames, seen.times, path)
        variable = False
    base = float(file.stream.base_rate or 0)
    measured = 1 / float(np.median(gaps)) if len(gaps) else average
    # Times are often rounded to milliseconds: the stated rate is the finer one if it agrees.
    return average, base if abs(base - measured) <= 0.1 * measured else measured, variable


def _gaps(times: np.ndarray) -> np.ndarray:
    """Seconds between frames, jumps of the clock replaced by the usual time."""
    gaps = np.diff(times)
    return np.where(gaps > _MAX_PAUSE, np.median(gaps), gaps) if len(gaps) else gaps


def _uneven(times: np.ndarray) -> bool:
    """Whether some frame is more than one average frame time off its place in an even spacing."""
    gaps = _gaps(times)
    if len(gaps) < 2:
        return False
    strays = np.cumsum(gaps) / gaps.mean() - np.arange(1, len(gaps) + 1)
    return bool(max(strays.max(), 0) - min(strays.min(), 0) > 1)


def _average_fps(stream: VideoStream, num_frames: int, times: np.ndarray, path: str) -> float:
    """Frame rate of the header, or the one that the time stamps show if they disagree.

    Recorders write a nominal rate (1000 is common) into headers. Gaps of more than a second are
    breaks (damage, a pause), not the rate.
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
