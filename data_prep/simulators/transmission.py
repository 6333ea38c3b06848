"""What is lost on the way, beyond the paper: packets, and frames that come too late.

- packet_loss: an H.264 stream in packets of 700 bytes, of which a share never arrives; FFmpeg's
  decoder conceals them, and what it makes up is shown until the next key frame.
- freeze: a long hold every two seconds. burst_drop: a short one every quarter of a second. Between
  two holds the clip goes on where it would be without them, so it stays aligned with its source;
  `frame_drop` is the even loss of a lower frame rate, `stutter` that of single frames.

What a mild level loses is lost at every severer one. One frame has nothing to hold.
"""

import math
import tempfile
from collections.abc import Iterator

import av
import numpy as np

from data_prep.simulators import elementary
from data_prep.simulators.base import Clip, Simulator, random_stream

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
    order = np.argsort(np.concatenate(draws), kind="stable")
    frames = np.repeat(np.arange(len(counts)), counts)
    indices = np.concatenate([np.arange(count) for count in counts])
    kept = np.concatenate([np.arange(len(d)) == np.argmax(d) for d in draws if len(d)])
    order = order[~kept[order]][: math.ceil(share * sum(counts))]
    lost: list[set[int]] = [set() for _ in counts]
    for frame, index in zip(frames[order].tolist(), indices[order].tolist(), strict=True):
        lost[frame].add(index)
    return lost


def _packet_loss(
    frames: Iterator[np.ndarray], clip: Clip, share: float, seed: int, encoder: str
) -> Iterator[np.ndarray]:
    sizes, counts = [], []
    # Which packets are lost is known once all are made: a file keeps them, whatever the length.
    with tempfile.TemporaryFile() as sent:
        for packet in elementary.code(frames, _CODER):
            sizes.append(sent.write(packet))
            counts.append(sum(map(_is_slice, nal_units(bytes(packet)))))
        sent.seek(0)
        lost = lost_slices(counts, share, seed)
        arrived = (
            av.Packet(_without(sent.read(size), gone))
            for size, gone in zip(sizes, lost, strict=True)
        )
        yield from elementary.decode(arrived, _CODER, (clip.height, clip.width))


def _without(packet: bytes, gone: set[int]) -> bytes:
    """A packet less some of its slices."""
    index, kept = -1, []
    for unit in nal_units(packet):
        index += _is_slice(unit)
        if not (_is_slice(unit) and index in gone):
            kept.append(b"\0\0\0\1" + unit)
    return b"".join(kept)


def _is_slice(unit: bytes) -> bool:
    return unit[0] & 31 in _SLICE_TYPES


def held(index: int, fps: float, period: float, start: float, seconds: float) -> bool:
    """Whether frame `index` comes too late: a hold begins `start` into every period."""
    return index > 0 and start <= index / fps % period < start + seconds


def _hold(
    frames: Iterator[np.ndarray], clip: Clip, seconds: float, seed: int, every: float
) -> Iterator[np.ndarray]:
    # Early in a period, so that a second shows most of a freeze.
    start = random_stream(seed, "hold").uniform(0, every / 8)
    for index, frame in enumerate(frames):
        if not held(index, clip.fps, every, start, seconds):
            shown = frame
        yield shown


SIMULATORS = (
    Simulator(
        *("packet_loss", "transmission", "share", _LOST, _packet_loss),
        options={"encoder": f"libx264 of PyAV {av.__version__}"},
        random=True,
    ),
    *(
        Simulator(
            *(name, "transmission", "seconds", lengths, _hold),
            options={"every": period},
            random=True,
            of_motion=True,
        )
        for name, (period, lengths) in _HOLDS.items()
    ),
)
