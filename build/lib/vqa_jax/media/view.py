"""What the student sees of a video: key frames, motion clips, and their sizes (method 4).

One set of rules for training data and for scoring, so that there is no skew between the two. A
`Preprocess` states the view completely and is stored with records and models.
"""

import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vqa_jax.errors import VqaError
from vqa_jax.media.container import STILL_EXTENSIONS, TruncatedVideoError
from vqa_jax.media.decode import iter_frames
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.settings import DecodeLimits

# Powers of the plastic number's inverse: steps of the R2 low-discrepancy sequence (Roberts 2018).
_R2_STEPS = (0.7548776662466927, 0.5698402909980532)


def key_frame_indices(num_frames: int, fps: float) -> list[int]:
    """Every round(fps)-th frame from 0 (method 4).

    Raises:
      ValueError: no frame, or a frame rate that is not a positive number.
    """
    return list(range(0, num_frames, _frames_per_second(num_frames, fps)))


def motion_clip_indices(
    num_frames: int,
    fps: float,
    *,
    clip_len: int = 32,
    min_clips: int = 8,
    max_clips: int = 10,
    spread: bool = False,
) -> np.ndarray:
    """Frame numbers of the motion clips (method 4).

    Clip k is `clip_len` consecutive frames from k * round(fps), filled up with the last frame;
    there is one for each full second, at least one.

    Args:
      num_frames: frames of the video, at least 1.
      fps: average frame rate.
      clip_len: frames of a clip.
      min_clips: the last clip is repeated up to this many.
      max_clips: at most this many are returned.
      spread: of too many clips take evenly spread ones instead of the first.

    Returns:
      int64 [M, clip_len], min_clips <= M <= max_clips.
    """
    rate = _frames_per_second(num_frames, fps)
    starts = np.arange(max(1, num_frames // rate)) * rate
    if len(starts) > max_clips:
        starts = starts[_thinned(len(starts), max_clips)] if spread else starts[:max_clips]
    if 0 < len(starts) < min_clips:
        starts = np.concatenate([starts, np.repeat(starts[-1:], min_clips - len(starts))])
    return np.minimum(starts[:, None] + np.arange(clip_len), num_frames - 1)


def tile_positions(height: int, width: int, pre: Preprocess) -> list[tuple[int, int]]:
    """Top left corners (y, x) of the tiles in frames of one size, each side >= pre.tile_size.

    The R2 sequence from the centre: any first n cover the frame evenly. Frames of equal size
    always get the same positions, so that versions of one scene are compared on the same spots.
    """
    free_y, free_x = height - pre.tile_size + 1, width - pre.tile_size + 1
    return [
        (int((0.5 + i * _R2_STEPS[1]) % 1.0 * free_y), int((0.5 + i * _R2_STEPS[0]) % 1.0 * free_x))
        for i in range(pre.num_tiles)
    ]


def tile_frames(num_frames: int, fps: float, pre: Preprocess) -> list[int]:
    """Number of the frame that each tile of a video's crops view is cut from."""
    keys = key_frame_indices(num_frames, fps)
    keys = [keys[k] for k in _thinned(len(keys), pre.max_key_frames)]
    return [keys[i * len(keys) // pre.num_tiles] for i in range(pre.num_tiles)]


def view_frames(key_frames: np.ndarray, pre: Preprocess) -> np.ndarray:
    """The student's view of a video's key frames.

    squash: whole frames, PIL bicubic on uint8 (the resize that the vision tower was trained with).
    fit: whole frames by the same resize, up or down, to `Preprocess.fit_shape`.
    crops: tile i comes from key frame floor(i F / num_tiles); a frame smaller than a tile is
    first scaled up, bilinearly and just enough.

    Args:
      key_frames: uint8 RGB [F, H, W, 3], F >= 1; thinned first if more than max_key_frames.
      pre: settings.

    Returns:
      uint8 [F', H', W', 3]: F' = F (squash, fit) or num_tiles (crops); H' = W' = image_size or
      tile_size, or one of the shapes of "fit".
    """
    kept = _thinned(len(key_frames), pre.max_key_frames)
    views = [_views(key_frames[k], i, len(kept), pre) for i, k in enumerate(kept)]
    return np.stack([view for frame_views in views for view in frame_views])


def motion_clips(frames: np.ndarray, fps: float, pre: Preprocess) -> np.ndarray:
    """Motion clips of a whole video: uint8 RGB [T, H, W, 3] -> uint8 [M, clip_len, s, s, 3]."""
    indices = _clip_indices(len(frames), fps, pre)
    small = {int(i): _resized(frames[i], pre.motion_size) for i in np.unique(indices)}
    return _gathered(small, indices, pre)


def is_image(path: str, num_frames: int) -> bool:
    """Whether a record's video is a still picture rather than a video of one frame."""
    return num_frames == 1 and path.lower().endswith(STILL_EXTENSIONS)


def input_size(num_frames: int, fps: float, pre: Preprocess) -> tuple[int, int]:
    """How many frames and clips the student's input of a video has, as of `video_input`."""
    keys = key_frame_indices(num_frames, fps)
    views = pre.num_tiles if pre.view == "crops" else len(_thinned(len(keys), pre.max_key_frames))
    return views, len(_clip_indices(num_frames, fps, pre))


def video_input(
    path: str | os.PathLike[str], pre: Preprocess, max_pixels: int = DecodeLimits.pixels
) -> tuple[np.ndarray, np.ndarray, VideoInfo]:
    """Reads all that the student needs of a file, in one pass.

    Equal to `view_frames` and `motion_clips` of the decoded frames. Native frames are dropped as
    soon as they have been resized or cropped, so memory is the result's, however long the video
    (set max_key_frames where hours of squashed frames, 0.44 MB a second at 384, are too many).
    If fewer frames decode than the file promises, the rules are applied again to those that do.

    Args:
      path: a local file.
      pre: settings.
      max_pixels: of a frame, as of `probe`.

    Returns:
      (frames as of `view_frames`, clips as of `motion_clips`, info with the count that was used).

    Raises:
      MediaError: the file cannot be used; the message says why.
    """
    info = probe(path, max_pixels)
    try:
        return *_read_input(info, pre), info
    except TruncatedVideoError as error:
        info = info.with_frames(error.num_frames)
    return *_read_input(info, pre), info


class FramesError(VqaError, ValueError):
    """Frames given as an array cannot be a video; the message says what is asked for."""


def check_frames(frames: np.ndarray, fps: float | None) -> None:
    """Raises what `frames_input` would, and looks at no pixel."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise FramesError(
            f"frames are {frames.dtype} {list(frames.shape)}: give uint8 RGB [T, H, W, 3]"
        )
    if 0 in frames.shape:
        raise FramesError(f"frames are {list(frames.shape)}: give one at least, of one pixel")
    if fps is None or not (math.isfinite(fps) and fps > 0):
        raise FramesError(f"fps is {fps}: give the frames a second of the video, as fps=30.0")


def frames_input(
    frames: np.ndarray, fps: float | None, pre: Preprocess
) -> tuple[np.ndarray, np.ndarray]:
    """What the student needs of a video whose frames are at hand: as `video_input` of its file.

    Args:
      frames: uint8 RGB [T, H, W, 3], T >= 1, all frames of the video in order.
      fps: frames a second.
      pre: settings.

    Returns:
      (frames as of `view_frames`, clips as of `motion_clips`).

    Raises:
      FramesError: another type or shape, no frame, or no frame rate.
    """
    frames = np.asarray(frames)
    check_frames(frames, fps)
    collector = InputCollector(len(frames), fps, pre)
    for number in sorted(collector.keys.keys() | collector.moving):
        collector.add(number, frames[number])
    return collector.collected()


class InputCollector:
    """Puts one video's (or one passage's) input together from frames in order of showing.

    Attributes:
      keys: numbers of the frames that are seen as pictures.
      moving: numbers of the frames in motion clips.
      clip_indices: int64 [M, clip_len], the frame at every place of every clip.
    """

    def __init__(self, num_frames: int, fps: float, pre: Preprocess):
        numbers = key_frame_indices(num_frames, fps)
        numbers = [numbers[k] for k in _thinned(len(numbers), pre.max_key_frames)]
        self._pre, self._count = pre, len(numbers)
        self.keys = {frame: i for i, frame in enumerate(numbers) if _views_of(i, self._count, pre)}
        self.clip_indices = _clip_indices(num_frames, fps, pre)
        self.moving = set(self.clip_indices.ravel().tolist())
        self._views: list[np.ndarray] = []
        self._small: dict[int, np.ndarray] = {}

    def add(self, number: int, frame: np.ndarray, small: np.ndarray | None = None) -> None:
        """Takes what is needed of a frame uint8 RGB [H, W, 3].

        Args:
          number: of the frame, ascending; those that are in neither set are passed over.
          frame: at native size.
          small: the frame by `motion_picture`, if it is at hand.
        """
        self.add_picture(number, frame)
        if number in self.moving:
            self._small[number] = motion_picture(frame, self._pre) if small is None else small

    def add_picture(self, number: int, frame: np.ndarray) -> None:
        """As `add`, of the pictures alone."""
        if number in self.keys:
            self._views.extend(_views(frame, self.keys[number], self._count, self._pre))

    def pictures(self) -> np.ndarray:
        """Frames as of `view_frames`, once all were added."""
        return np.stack(self._views)

    def collected(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames as of `view_frames` and clips as of `motion_clips`, once all were added."""
        return self.pictures(), _gathered(self._small, self.clip_indices, self._pre)


def motion_picture(frame: np.ndarray, pre: Preprocess) -> np.ndarray:
    """A frame uint8 RGB [H, W, 3] as it is in motion clips: [s, s, 3], s = pre.motion_size."""
    return _resized(frame, pre.motion_size)


def _read_input(info: VideoInfo, pre: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    collector = InputCollector(info.num_frames, info.fps, pre)
    for number, frame in iter_frames(info.path, collector.keys.keys() | collector.moving, info):
        collector.add(number, frame)
    return collector.collected()


def _frames_per_second(num_frames: int, fps: float) -> int:
    if num_frames < 1 or not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"need num_frames >= 1 and fps > 0, got {num_frames} and {fps}")
    return max(1, round(fps))


def _thinned(count: int, limit: int) -> list[int]:
    """`limit` evenly spread numbers below `count`; all of them if limit is 0 or not exceeded."""
    if not 0 < limit < count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def _clip_indices(num_frames: int, fps: float, pre: Preprocess) -> np.ndarray:
    limits = {"clip_len": pre.clip_len, "min_clips": pre.min_clips, "max_clips": pre.max_clips}
    return motion_clip_indices(num_frames, fps, **limits, spread=pre.view != "squash")


def _views_of(ordinal: int, num_key_frames: int, pre: Preprocess) -> Sequence[int]:
    """Numbers of the views that key frame `ordinal` supplies."""
    if pre.view != "crops":
        return range(ordinal, ordinal + 1)
    # Tile i is taken from key frame floor(i F / num_tiles): solved for i.
    first, end = (-(-o * pre.num_tiles // num_key_frames) for o in (ordinal, ordinal + 1))
    return range(first, end)


def _views(
    frame: np.ndarray, ordinal: int, num_key_frames: int, pre: Preprocess
) -> list[np.ndarray]:
    """All views of one key frame, in their order."""
    numbers = _views_of(ordinal, num_key_frames, pre)
    if pre.view == "squash":
        return [squashed(frame, pre.image_size)]
    if pre.view == "fit":
        return [_scaled(frame, *pre.fit_shape(*frame.shape[:2]))]
    if not numbers:
        return []
    height, width = frame.shape[:2]
    scale = pre.tile_size / min(height, width)
    if scale > 1:
        size = (max(round(width * scale), pre.tile_size), max(round(height * scale), pre.tile_size))
        frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    corners = tile_positions(*frame.shape[:2], pre)
    side = pre.tile_size
    return [frame[y : y + side, x : x + side].copy() for y, x in (corners[i] for i in numbers)]


def squashed(frame: np.ndarray, size: int) -> np.ndarray:
    """uint8 RGB [H, W, 3] -> [size, size, 3], bicubic, aspect not kept: the view "squash"."""
    return _scaled(frame, size, size)


def _scaled(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def _resized(frame: np.ndarray, size: int) -> np.ndarray:
    """Bilinear to [size, size, 3], aspect not kept.

    PIL's, at every size: it is what the published motion features were made with (a resize of PIL
    images), and its triangle widens with the reduction, so that small sizes do not alias.
    """
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))


def _gathered(small: dict[int, np.ndarray], indices: np.ndarray, pre: Preprocess) -> np.ndarray:
    clips = np.empty((*indices.shape, pre.motion_size, pre.motion_size, 3), np.uint8)
    for place in np.ndindex(*indices.shape):
        clips[place] = small[int(indices[place])]
    return clips
