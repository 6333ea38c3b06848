"""What neural teachers see of a video: fragments, resized frames, centre crops, whole frames.

Pure functions of (frames, seed). Where the official programs draw at random, a counter-based hash
of the seed decides. All arithmetic is on integers, with operators that NumPy and JAX share: given
NumPy arrays a function works on the host, given JAX arrays (traced ones too; this module does not
import JAX) on the device, and both give the same bits. `jax.jit(views.fragments)` is the device's.

Fragments need native resolution. They are cut while a file is decoded (`read_views`) or, of the
distorted versions, which are no files, while a corpus is prepared: a clip of DOVER's is 4.8 MB
whatever the video's size. From the key frames of a corpus they cannot be had again.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from vqa_jax.jobs.files import key_hash
from vqa_jax.media.container import TruncatedVideoError
from vqa_jax.media.decode import isolated_frames
from vqa_jax.media.probe import VideoInfo
from vqa_jax.settings import DEFAULT_LIMITS, DecodeLimits

Array = Any  # of NumPy or JAX

_BITS = 22  # of a resampling weight: PIL's, and 255 * 2^22 fits into int32
# Streams of chance, so that choices of one seed do not depend on each other.
_CORNERS, _STARTS = 0x10000, 0x20000


@dataclasses.dataclass(frozen=True)
class Grid:
    """Fragments of a frame: `cells` x `cells` patches of `patch` pixels, one from each cell."""

    cells: int = 7
    patch: int = 32

    @property
    def side(self) -> int:
        """Pixels of the spliced picture's side."""
        return self.cells * self.patch


@dataclasses.dataclass(frozen=True)
class View:
    """Which frames a teacher wants and what it makes of each.

    Attributes:
      numbers: int64 [N] frame numbers, in the order of the view; repeats are allowed.
      cut: (place in the view, native frame uint8 [H, W, 3]) -> uint8 [h, w, 3].
    """

    numbers: np.ndarray
    cut: Callable[[int, np.ndarray], np.ndarray]


def video_seed(seed: int, key: str, draw: int = 0) -> int:
    """Seed of a draw of one video, 0 <= seed < 2^32: whichever others are scored."""
    return key_hash(f"{seed}:{draw}:{key}") & 0xFFFFFFFF


def fragment_corners(
    height: int, width: int, seed: Array, clip: int = 0, grid: Grid = Grid()
) -> Array:
    """Top left corners of the patches, even over all places inside each cell.

    A cell is floor(height / cells) x floor(width / cells) pixels, as in the official code; what
    the division leaves over, at the bottom and right, is not seen.

    Args:
      height, width: of the frames, each at least `grid.side`.
      seed: 0 <= seed < 2^32, an int or a JAX uint32.
      clip: number of the clip; each has its own places.
      grid: cells and patch size.

    Returns:
      int32 [2, cells, cells]: y and x of each cell's patch.
    """
    cell = np.array([height // grid.cells, width // grid.cells])
    if cell.min() < grid.patch:
        raise ValueError(f"{height} x {width} pixels are too few for {grid}: scale up first")
    places = np.arange(2 * grid.cells**2, dtype=np.uint32) + np.uint32(
        _CORNERS + 2 * grid.cells**2 * clip
    )
    free = np.repeat(cell - grid.patch + 1, grid.cells**2).astype(np.uint32)
    inside = _draw(seed, places, free).reshape(2, grid.cells, grid.cells)
    starts = np.arange(grid.cells, dtype=np.int32)
    first = np.stack(np.broadcast_arrays(starts[:, None] * cell[0], starts[None] * cell[1]))
    return first.astype(np.int32) + inside.astype(np.int32)


def fragments(frames: Array, seed: Array, clip: int = 0, grid: Grid = Grid()) -> Array:
    """Technical view: one native patch from each cell, spliced; all frames are cut alike.

    Args:
      frames: uint8 [T, H, W, 3]; smaller ones than the splice are first scaled up (`enlarged`).
      seed, clip, grid: as of `fragment_corners`.

    Returns:
      uint8 [T, side, side, 3].
    """
    frames = enlarged(frames, grid.side)
    corners = fragment_corners(*frames.shape[1:3], seed, clip, grid)
    pixel = np.arange(grid.patch, dtype=np.int32)
    rows = corners[0][:, None, :, None] + pixel[None, :, None, None]
    columns = corners[1][:, None, :, None] + pixel[None, None, None, :]
    cut = frames[:, rows, columns]  # [T, cell y, pixel y, cell x, pixel x, 3]
    return cut.reshape(len(frames), grid.side, grid.side, 3)


def enlarged(frames: Array, side: int) -> Array:
    """Frames scaled up, bilinearly and just enough, until both sides are at least `side`."""
    height, width = frames.shape[1:3]
    short = min(height, width)
    if short >= side:
        return frames
    size = [max(side, (x * side + short // 2) // short) for x in (height, width)]
    return resized(frames, *size, antialias=False)


def centre_crop(frames: Array, side: int) -> Array:
    """Key-frame view: shorter side scaled to `side`, then the middle [T, side, side, 3] of it.

    As torchvision's Resize and CenterCrop of PIL images: bilinear with antialiasing.
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    size = [side * x // short for x in (height, width)]
    frames = resized(frames, *size, antialias=True)
    top, left = (round((x - side) / 2) for x in size)
    return frames[:, top : top + side, left : left + side]


def resized(frames: Array, height: int, width: int, antialias: bool) -> Array:
    """Bilinear resize of uint8 [T, H, W, 3] to [T, height, width, 3], aspect not kept.

    Args:
      frames: uint8.
      height, width: pixels to give.
      antialias: True: PIL's bilinear, to the bit; its triangle widens with the reduction. False:
        two neighbours a side, as tensors were resized when DOVER was trained; rounded after each
        axis. Both are the same when enlarging.
    """
    if antialias and isinstance(frames, np.ndarray):
        images = [Image.fromarray(f).resize((width, height), Image.BILINEAR) for f in frames]
        return np.stack([np.asarray(image) for image in images])
    for axis, size in ((2, width), (1, height)):
        if frames.shape[axis] != size:
            frames = _resampled(frames, axis, *_taps(frames.shape[axis], size, antialias))
    return frames


def clip_numbers(
    num_frames: int, parts: int, length: int, interval: int, seed: int, stream: int = 0
) -> np.ndarray:
    """Frame numbers of clips: one from each of `parts` equal parts, at a random place inside it.

    DOVER's technical view is 3 parts of 32 frames at interval 2 (FAST-VQA's 4), its aesthetic one
    32 parts of one frame. A clip longer than its part starts with it; numbers beyond the end
    start over.

    Returns:
      int64 [parts, length].
    """
    starts = np.arange(parts) * num_frames // parts
    span = (length - 1) * interval + 1
    free = max(num_frames // parts - span + 1, 1)
    counters = np.arange(parts, dtype=np.uint32) + np.uint32(_STARTS + 0x1000 * stream)
    # Beyond 65,536 places the draw is in steps: the hash has 16 bits to give.
    step = -(-free // 0xFFFF)
    offsets = _draw(seed, counters, np.full(parts, -(-free // step), np.uint32)).astype(np.int64)
    first = starts + np.minimum(offsets * step, free - 1)
    return (first[:, None] + np.arange(length) * interval) % num_frames


def second_numbers(num_frames: int, fps: float, clip: int = 1, at_least: int = 8) -> np.ndarray:
    """Frame numbers of MinimalisticVQA: the middle of every full second.

    Args:
      num_frames, fps: of the video; a shorter one counts as one second.
      clip: frames a second; 1 gives the frame at half a second, more the middle ones of the
        second, its last frame repeated where it has fewer.
      at_least: the last second is repeated up to this many.

    Returns:
      int64 [seconds, clip].
    """
    rate = max(1, round(fps))
    starts = np.arange(max(1, num_frames // rate)) * rate
    starts = np.concatenate([starts, np.repeat(starts[-1:], max(0, at_least - len(starts)))])
    if clip == 1:
        inside = np.array([rate // 2])
    else:
        inside = np.minimum(max(0, (rate - clip) // 2) + np.arange(clip), rate - 1)
    return np.minimum(starts[:, None] + inside, num_frames - 1)


def fragment_view(info: VideoInfo, seed: int, clips: int, grid: Grid = Grid()) -> View:
    """Technical view of a video: `clips` clips of 32 frames, as uint8 [clips * 32, side, side, 3].

    Args:
      info: of the video.
      seed: of this video, see `video_seed`.
      clips: 3 for DOVER, 4 for FAST-VQA.
      grid: cells and patch size.
    """
    numbers = clip_numbers(info.num_frames, clips, 32, 2, seed)
    return View(
        numbers.ravel(),
        lambda place, frame: fragments(frame[None], seed, place // 32, grid)[0],
    )


def aesthetic_view(info: VideoInfo, seed: int, side: int = 224) -> View:
    """Aesthetic view: 32 frames spread over the video, resized: uint8 [32, side, side, 3]."""
    numbers = clip_numbers(info.num_frames, 32, 1, 2, seed, stream=1)
    return View(
        numbers.ravel(), lambda place, frame: resized(frame[None], side, side, antialias=False)[0]
    )


def key_frame_view(info: VideoInfo, side: int = 384) -> View:
    """MinimalisticVQA's key frames: uint8 [seconds, side, side, 3]."""
    numbers = second_numbers(info.num_frames, info.fps)
    return View(numbers.ravel(), lambda place, frame: centre_crop(frame[None], side)[0])


def motion_view(info: VideoInfo, side: int = 224) -> View:
    """Motion clips of MinimalisticVQA IX: uint8 [seconds * 32, side, side, 3]."""
    numbers = second_numbers(info.num_frames, info.fps, clip=32)
    return View(
        numbers.ravel(), lambda place, frame: resized(frame[None], side, side, antialias=True)[0]
    )


def sampled_numbers(num_frames: int, fps: float) -> np.ndarray:
    """Frame numbers that FFmpeg's `-r 1` keeps, as many as there are seconds, the last one begun.

    Its rule is that of constant rates: a frame is left out while it ends 1.1 s or more before the
    next one is due. So the first two frames come one upon the other, and those of later seconds a
    little before the second that ends there: 0, 1, 26, 56, 86 ... at 30 frames a second.

    Returns:
      int64 [seconds].
    """
    due = np.arange(math.ceil(num_frames / fps))
    slack = 1e-6  # frames; at whole rates the bound is met exactly
    numbers = np.maximum(due, np.ceil((due - 1.1) * fps - 1 - slack).astype(np.int64))
    return numbers[numbers < num_frames]


def sampled_view(info: VideoInfo, size: tuple[int, int], at_most: int = 30) -> View:
    """UVQ 1.5's frames, one a second: uint8 [seconds, *size, 3].

    Upright videos are turned counter-clockwise to lie, as the official program does with lists of
    videos. The aspect is not kept; frames of that size stay as they are. Others are resized by
    PIL's bicubic kernel, FFmpeg's being a little steeper (within 3 levels of 255). Of a video
    longer than `at_most` seconds, that many are seen, spread evenly; there all are.

    Args:
      info: of the video.
      size: height and width to give.
      at_most: frames; one of 1080x1920 takes 6.2 MB.
    """
    numbers = sampled_numbers(info.num_frames, info.fps)
    if len(numbers) > at_most:
        numbers = numbers[np.arange(at_most) * len(numbers) // at_most]

    def cut(place: int, frame: np.ndarray) -> np.ndarray:
        lying = np.rot90(frame) if frame.shape[0] > frame.shape[1] else frame
        if lying.shape[:2] == size:
            return lying
        return np.asarray(Image.fromarray(lying).resize(size[::-1], Image.BICUBIC))

    return View(numbers, cut)


def read_views(
    info: VideoInfo,
    plan: Callable[[VideoInfo], Mapping[str, View]],
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> tuple[dict[str, np.ndarray], VideoInfo]:
    """Cuts all views of a file in one pass; native frames are dropped as soon as they are cut.

    Args:
      info: what `probe` said of the file.
      plan: views by name; asked again if fewer frames decode than the file promises.
      limits: of the file, which is decoded in a child process.

    Returns:
      name -> uint8 [N, h, w, 3], and info with the count that was used.

    Raises:
      MediaError: the file cannot be used.
    """
    try:
        return _cut(info, plan(info), limits), info
    except TruncatedVideoError as error:
        info = info.with_frames(error.num_frames)
    return _cut(info, plan(info), limits), info


def _cut(info: VideoInfo, views: Mapping[str, View], limits: DecodeLimits) -> dict[str, np.ndarray]:
    places: dict[int, list[tuple[str, int]]] = {}
    for name, view in views.items():
        for place, number in enumerate(view.numbers.tolist()):
            places.setdefault(number, []).append((name, place))
    cuts: dict[str, list[Any]] = {name: [None] * len(v.numbers) for name, v in views.items()}
    for number, frame in isolated_frames(info, [*places], limits):
        for name, place in places[number]:
            cuts[name][place] = views[name].cut(place, frame)
    return {name: np.stack(pictures) for name, pictures in cuts.items()}


def _mixed(x: Array) -> Array:
    """A bijection of uint32 whose every output bit depends on every input bit (lowbias32)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _draw(seed: Array, counters: np.ndarray, limits: np.ndarray) -> Array:
    """Random uint32 [n], 0 <= x < limits; limits are below 2^16, where the bias is too."""
    start = _mixed((seed + np.zeros(1, np.uint32)).astype(np.uint32))
    return (_mixed(_mixed(counters) ^ start) >> 16) * limits >> 16


@functools.lru_cache(maxsize=256)
def _taps(size: int, out: int, antialias: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where each output pixel looks and how much it takes: int32 [out, taps] twice.

    Weights are those of PIL's triangle filter, in units of 2^-22; their support is one input
    pixel or, with antialiasing, one output pixel to either side.
    """
    scale = size / out
    support = max(scale, 1.0) if antialias else 1.0
    centre = (np.arange(out) + 0.5) * scale
    low = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + support + 0.5).astype(np.int64), size)
    index = low[:, None] + np.arange(int((high - low).max()))
    distance = np.abs((index - centre[:, None] + 0.5) * (1 / support))
    weight = np.where(index < high[:, None], np.maximum(1.0 - distance, 0.0), 0.0)
    total = np.zeros(out)
    for tap in weight.T:
        total = total + tap
    weight = (weight / total[:, None] * (1 << _BITS) + 0.5).astype(np.int32)
    return np.minimum(index, size - 1).astype(np.int32), weight


def _resampled(frames: Array, axis: int, index: np.ndarray, weight: np.ndarray) -> Array:
    """One pass of a resize along axis 1 or 2, rounded to uint8."""
    shape = [1, 1, 1, 1]
    shape[axis] = len(index)
    total = np.int32(1 << (_BITS - 1))
    for tap in range(index.shape[1]):
        taken = frames[:, index[:, tap]] if axis == 1 else frames[:, :, index[:, tap]]
        total = total + taken.astype(np.int32) * weight[:, tap].reshape(shape)
    return (total >> _BITS).astype(np.uint8)
