"""What a unit of work costs, as measured: the one place that all estimates follow from.

Every figure stands in launch/README.md ("What work costs") with its machine and command. CPU
seconds are those of one core of x86-64. They differ between machines and contents, x265's by more
than a factor of two: an estimate, not a promise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# --- preparation: CPU seconds a megapixel of frames -----------------------------------------------
_TEN = 300 * 1280 * 720 / 1e6  # megapixels of ten seconds of 720p, of which the seconds are told
PROBE, READ = 0.57 / _TEN, 4.31 / _TEN  # a source: decoded, kept, looked at, written
_VERSION = {
    **{"resize": 3.03, "gaussian_blur": 3.43, "gaussian_noise": 10.5},
    **{"darken": 3.09, "brighten": 2.98},
    **{"jitter": 5.15, "stutter": 2.05, "frame_drop": 2.15, "frame_blend": 3.0},
    **{"h264": 10.5, "h265": 140.0},
}
VERSION: Mapping[str, float] = {name: seconds / _TEN for name, seconds in _VERSION.items()}
H265: Mapping[str, float] = {"veryslow": 1.0, "fast": 0.125}  # share of a preset of its seconds
CHAINED = {"noise": "gaussian_noise", "blur": "gaussian_blur", "darken": "darken"}
METRICS = 0.1 / 0.9216  # a megapixel of the frames that are measured, one a second
# CPU seconds of a listed video, of a pair, and of a byte that is read and hashed.
SELECT, PAIR, VERIFY = 170 / 1_000_000, 134 / 700_000, 12 / 1e9

# --- bytes ----------------------------------------------------------------------------------------
PICTURES, CLIPS = 0.462, 0.32  # stored of a byte of frames: the student's, and of motion clips
TOKENS = 33_000  # of a frame behind the frozen tower
METRICS_ROW, LISTING_ROW, SCORES_ROW, PAIR_ROW = 100, 60, 60, 120


@dataclasses.dataclass(frozen=True)
class View:
    """What keeping a neural teacher's view of a version takes: CPU seconds and bytes."""

    seconds: float
    num_bytes: float


# Of any length; those that grow with it nobody has measured.
VIEWS: Mapping[str, View] = {
    "fragments_4": View(0.54, 4.95e6),
    "fragments_3": View(0.48, 3.72e6),
    "aesthetic": View(0.39, 1.69e6),
}


# --- networks -------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Student:
    """Seconds that a preset takes; None where nobody has measured it.

    Attributes:
      device: what they are seconds of; "" for CPU seconds of a core.
      pair: a pair of a training step.
      look: a video is encoded and compared with five anchors.
      compare: two encoded videos, in one order.
      motion_dim: numbers of a motion clip.
      motion: CPU seconds of a motion clip, whatever the device.
      tokens: CPU seconds of a key frame by its frozen tower; None where its tower is trained.
    """

    device: str = ""
    pair: float | None = None
    look: float | None = None
    compare: float | None = None
    motion_dim: int | None = None
    motion: float | None = None
    tokens: float | None = None


_SHIPPED, _SLOWFAST = (128, 0.014), (256, 0.31)
STUDENTS: Mapping[str, Student] = {
    "tiny": Student("", 2 / 53, 0.060, 0.011, *_SHIPPED),
    "small": Student("", 0.52 / 64, 0.060, 0.011, *_SHIPPED, tokens=0.085),
    "ov_0_5b": Student("H100", 0.149, 0.055, 0.0089, *_SLOWFAST),
    "ov_7b": Student("H200 and H100", 1.15, 0.38, 0.14, *_SLOWFAST),
}


@dataclasses.dataclass(frozen=True)
class Teacher:
    """CPU seconds of a neural teacher: of any video, and of each of its seconds."""

    video: float
    second: float = 0.0


_SWIN3D, _CONVNEXT, _SWIN2D, _UVQ = 3.63, 1.64, 2.02 / 2, 1.19  # a clip, a clip, a frame, a frame
_DOVER = Teacher(3 * _SWIN3D + _CONVNEXT)
TEACHERS: Mapping[str, Teacher] = {
    "fast_vqa": Teacher(4 * _SWIN3D),
    "dover": _DOVER,
    "dover_script": _DOVER,
    "dover_technical": Teacher(3 * _SWIN3D),
    "dover_aesthetic": Teacher(_CONVNEXT),
    "minimalistic_vii": Teacher(0.0, _SWIN2D),
    "minimalistic_ix": Teacher(0.0, _SWIN2D + _SLOWFAST[1]),
    "uvq": Teacher(0.0, _UVQ),
}
LIGHT = 2 / 92  # CPU seconds of a record by light teachers, from its tokens
