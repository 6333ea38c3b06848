"""Distortions of motion (method 3.2, and frame rates beyond it). A one-frame clip has none.

- jitter: the visible window is (1 - 2m) of the frame, shifted anew for every frame by up to m of
  the sides: m = 1%, 2.5%, 5%. The random directions are the same at every level.
- stutter: p_d = 0.1, 0.3, 0.6; a replaced frame repeats the *shown* previous one. The same
  uniforms serve every level, so a milder level's repeats are a subset of a severer one's.
- frame_drop, frame_blend: 30, 24 or 15 frames a second. The clip keeps its rate and its number of
  frames, so it stays aligned in time with its source: frames between two kept ones repeat the
  first (drop), or show the mean of their time slot (blend, a camera with an open shutter).
"""

import itertools
from collections.abc import Iterator

import cv2
import numpy as np

from data_prep.simulators.base import Clip, Simulator, random_stream

JITTER_FRACTIONS = (0.01, 0.025, 0.05)
STUTTER_PROBABILITIES = (0.1, 0.3, 0.6)
FRAME_RATES = (30, 24, 15)
# Shortest clip for which every stutter level has more repeats than the one before.
_STUTTER_MIN_FRAMES = 8


def jitter_directions(num_frames: int, seed: int) -> np.ndarray:
    """Shift of every frame in units of the level's largest, float64 [T, 2] (x, y) in [-1, 1]."""
    return random_stream(seed, "jitter").uniform(-1, 1, (num_frames, 2))


def _jitter(
    frames: Iterator[np.ndarray], clip: Clip, fraction: float, seed: int
) -> Iterator[np.ndarray]:
    if clip.num_frames == 1:
        yield from frames
        return
    size = clip.width, clip.height
    window = 1 - 2 * fraction
    for frame, direction in zip(frames, jitter_directions(clip.num_frames, seed), strict=True):
        # Output pixel x shows source position window * (x + 0.5) + left - 0.5 (pixel centres).
        left, top = fraction * (1 + direction) * size
        matrix = np.array(
            [
                [window, 0, left + 0.5 * window - 0.5],
                [0, window, top + 0.5 * window - 0.5],
            ]
        )
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        yield cv2.warpAffine(frame, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def stutter_sources(num_frames: int, probability: float, seed: int) -> np.ndarray:
    """Which source frame each output frame shows, int64 [T]; frame 0 shows itself.

    With at least 8 frames, every level of `STUTTER_PROBABILITIES` has at least one repeat more
    than the level before (a draw that would not is corrected).
    """
    uniforms = random_stream(seed, "stutter").uniform(size=num_frames - 1)
    if num_frames >= _STUTTER_MIN_FRAMES:
        _spread(uniforms)
    sources = np.arange(num_frames)
    sources[1:][uniforms < probability] = 0
    return np.maximum.accumulate(sources)


def _spread(uniforms: np.ndarray) -> None:
    """Moves values, in place, until every interval between two probabilities holds one."""
    edges = (0.0, *STUTTER_PROBABILITIES)
    for index in range(len(STUTTER_PROBABILITIES)):
        bins = np.searchsorted(STUTTER_PROBABILITIES, uniforms, side="right")
        if np.any(bins == index):
            continue
        middle = (edges[index] + edges[index + 1]) / 2
        # Only a bin with a value to spare gives one; the last bin (never repeated) may be emptied.
        spare = np.bincount(bins, minlength=len(edges))[bins] > 1
        spare |= bins == len(STUTTER_PROBABILITIES)
        distance = np.where(spare, np.abs(uniforms - middle), np.inf)
        uniforms[np.argmin(distance)] = middle


def _stutter(
    frames: Iterator[np.ndarray], clip: Clip, probability: float, seed: int
) -> Iterator[np.ndarray]:
    sources = stutter_sources(clip.num_frames, probability, seed)
    for index, frame in enumerate(frames):
        if sources[index] == index:
            shown = frame
        yield shown


def frame_slots(num_frames: int, fps: float, rate: int) -> np.ndarray:
    """Which frame of a clip of the lower rate is on screen at every frame, int64 [T] from 0.

    Frame k falls into slot floor(k * rate / round(fps)): whole numbers, so that 59.94 frames a
    second become 29.97 without a beat. A rate of the source or above gives every frame a slot.
    """
    frames = np.arange(num_frames)
    base = max(1, round(fps))
    return frames if rate >= base else frames * rate // base


def effective_rate(rate: float, fps: float) -> float:
    """Frames a second that `rate` really leaves of a clip of `fps`."""
    return fps * min(1.0, rate / max(1, round(fps)))


def _frame_drop(
    frames: Iterator[np.ndarray], clip: Clip, rate: int, seed: int
) -> Iterator[np.ndarray]:
    for slot in _by_slot(frames, clip, rate):
        first = next(slot)
        yield first
        yield from (first for _ in slot)


def _frame_blend(
    frames: Iterator[np.ndarray], clip: Clip, rate: int, seed: int
) -> Iterator[np.ndarray]:
    for slot in _by_slot(frames, clip, rate):
        count, total = 1, next(slot)
        for frame in slot:
            count, total = count + 1, np.add(total, frame, dtype=np.uint32)
        mean = ((total + count // 2) // count).astype(np.uint8) if count > 1 else total
        yield from itertools.repeat(mean, count)


def _by_slot(frames: Iterator[np.ndarray], clip: Clip, rate: int) -> Iterator[Iterator[np.ndarray]]:
    """The frames of each slot, one slot after the other."""
    numbers = zip(frame_slots(clip.num_frames, clip.fps, rate).tolist(), frames, strict=True)
    for _, slot in itertools.groupby(numbers, key=lambda pair: pair[0]):
        yield (frame for _, frame in slot)


SIMULATORS = (
    Simulator("jitter", "temporal", "fraction", JITTER_FRACTIONS, _jitter, random=True),
    Simulator(
        *("stutter", "temporal", "probability", STUTTER_PROBABILITIES, _stutter),
        random=True,
        of_motion=True,
    ),
    *(
        Simulator(name, "temporal", "fps", FRAME_RATES, apply, effective_rate, of_motion=True)
        for name, apply in (("frame_drop", _frame_drop), ("frame_blend", _frame_blend))
    ),
)
