"""Real encodes and decodes of the clip: H.264 and H.265 of method 3.2, AV1 and VP9 beyond it.

The CRFs of AV1 and VP9 are on those encoders' own scale, 0 to 63. Their presets are speeds: 8 of
SVT-AV1's 0 to 13, and libvpx's `cpu-used` 4.
"""

from collections.abc import Iterator

import numpy as np

from data_prep.simulators import encode
from data_prep.simulators.base import Clip, Simulator

_PRESETS = {"h264": "fast", "h265": "veryslow", "av1": "8", "vp9": "4"}
_CRFS = {
    "h264": (24, 36, 48, 63),
    "h265": (36, 40, 44, 48),
    "av1": (35, 45, 55, 63),
    "vp9": (35, 45, 55, 63),
}


def _compress(
    frames: Iterator[np.ndarray],
    clip: Clip,
    crf: float,
    seed: int,
    codec: str,
    encoder: str,
    preset: str,
) -> Iterator[np.ndarray]:
    return encode.encode_decode(frames, clip.fps, encode.EncodeConfig(codec, crf, preset))


def _codec(name: str) -> Simulator:
    return Simulator(
        name,
        "streaming",
        "crf",
        _CRFS[name],
        _compress,
        effective=lambda crf, fps: min(crf, encode.MAX_CRF[name]),
        options={"codec": name, "encoder": encode.encoder(name), "preset": _PRESETS[name]},
    )


SIMULATORS = tuple(_codec(name) for name in _CRFS)
