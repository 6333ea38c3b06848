"""What is lost on the way, beyond the paper: packets, and frames that come too late.

- packet_loss: an H.264 stream in packets of 700 bytes, of which a share never arrives; FFmpeg's
  decoder conceals them, and what it makes up is shown until the next key frame.
- freeze: a long hold every two seconds. burst_drop: a short one every quarter of a second. Between
  two holds the clip goes on where it would be without them, so it stays aligned with its source;
  `frame_drop` is the even loss of a lower frame rate, `stutter` that of single frames.

What a mild level loses is lost at every severer one. One frame has nothing to hold.
"""

import math
from collections.abc import Iterator

import av
import numpy as np

from data_prep.simulators import elementary
from data_prep.simulators.base import Simulator, first_shape, frame_by_frame, random_stream

_LOST = (0.02, 0.05, 0.12, 0.3)
_SLICE_TYPES = (1, 5)  # NAL units that hold a part of a picture
_CODER = elementary.Coder(
    "libx264",
    "h264",
    {
        "preset": "veryfast",
        "crf": "20",
        "g": "50",  # two seconds between key frames
        "x264-params": "slice-max-size=700:bframes=0:scenecut=0:threads=1:mbtree=0",
    },
)
# {simulator: (seconds from one hold to the next, seconds held at every level)}
_HOLDS = {"freeze": (2.0, (0.2, 0.4, 0.7, 1.4)), "burst_drop": (0.25, (0.07, 0.12, 0.18))}


def nal_units(data: bytes) -> list[bytes]:
    """The units of an H.264 byte stream (Annex B), without their start codes."""
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]


def lost_slices(counts: list[int], share: float, seed: int) -> list[set[int]]:
    """Which slices of each frame never arrive; one of each always does.

    Args:
      counts: slices of every frame.
      share: of all slices, in (0, 1]; at least one is lost where a frame has two.
      seed: the same at every share: a smaller share's losses are among a larger one's.
    """
    rng = random_stream(seed, "packet_loss")
    draws = [rng.uniform(size=count) for count in counts]
    candidates = sorted(
        (draw, frame, index)
        for frame, values in enumerate(draws)
        for index, draw in enumerate(values)
        if index != np.argmax(values)
    )
    lost: list[set[int]] = [set() for _ in counts]
    for _, frame, index in candidates[: math.ceil(share * sum(counts))]:
        lost[frame].add(index)
    return lost


def _packet_loss(
    frames: Iterator[np.ndarray], fps: float, share: float, seed: int, encoder: str
) -> Iterator[np.ndarray]:
    shape, frames = first_shape(frames)
    sent = [nal_units(bytes(packet)) for packet in elementary.code(frames, _CODER)]
    slices = [[k for k, unit in enumerate(units) if _is_slice(unit)] for units in sent]
    lost = lost_slices([len(found) for found in slices], share, seed)
    arrived = []
    for units, found, gone in zip(sent, slices, lost, strict=True):
        missing = {found[index] for index in gone}
        kept = (b"\0\0\0\1" + unit for k, unit in enumerate(units) if k not in missing)
        arrived.append(av.Packet(b"".join(kept)))
    yield from elementary.decode(arrived, _CODER, shape[:2])


def _is_slice(unit: bytes) -> bool:
    return unit[0] & 31 in _SLICE_TYPES


def held(index: int, fps: float, period: float, start: float, seconds: float) -> bool:
    """Whether frame `index` comes too late: a hold begins `start` into every period."""
    return index > 0 and start <= index / fps % period < start + seconds


def _hold(
    frames: Iterator[np.ndarray], fps: float, seconds: float, seed: int, every: float
) -> Iterator[np.ndarray]:
    # Early in a period, so that a second shows most of a freeze.
    start = random_stream(seed, "hold").uniform(0, every / 8)
    for index, frame in enumerate(frames):
        if not held(index, fps, every, start, seconds):
            shown = frame
        yield shown


SIMULATORS = (
    Simulator(
        *("packet_loss", "transmission", "share", _LOST, frame_by_frame(_packet_loss)),
        options={"encoder": f"libx264 of PyAV {av.__version__}"},
        random=True,
    ),
    *(
        Simulator(
            *(name, "transmission", "seconds", lengths, frame_by_frame(_hold)),
            options={"every": period},
            random=True,
        )
        for name, (period, lengths) in _HOLDS.items()
    ),
)
