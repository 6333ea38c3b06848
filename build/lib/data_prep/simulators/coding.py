"""Block edges, beyond the paper: coders that do not smooth them.

- jpeg: every frame by itself, at a quality of libjpeg's scale, with 4:2:0 chroma.
- mjpeg, mpeg2, mpeg4 (part 2): at one quantiser for all of a clip, 1 to 31.
- h264_blocks: x264 at one quantiser (0 to 51), its deblocking filter switched off.
"""

from collections.abc import Iterator

import av
import cv2
import numpy as np

from data_prep.simulators import elementary
from data_prep.simulators.base import Clip, Simulator

_QUANTISERS = (4, 8, 14, 22, 31)
_ENCODERS = {"mjpeg": "mjpeg", "mpeg2": "mpeg2video", "mpeg4": "mpeg4", "h264_blocks": "libx264"}


def _jpeg(
    frames: Iterator[np.ndarray], clip: Clip, quality: int, seed: int
) -> Iterator[np.ndarray]:
    for frame in frames:
        # OpenCV takes the channels as BGR: in and out must be turned, or chroma is another one.
        _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        yield cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def _coder(codec: str, quantiser: int) -> elementary.Coder:
    if codec == "h264_blocks":
        options = {"preset": "veryfast", "qp": str(quantiser), "x264-params": "no-deblock=1"}
        # One thread, or bytes differ from run to run; no tree of macroblocks: see `encode`.
        options["x264-params"] += ":bframes=0:threads=1:mbtree=0"
        return elementary.Coder(_ENCODERS[codec], "h264", options)
    # Exact transforms, or bytes differ from machine to machine.
    options = {"qmin": str(quantiser), "qmax": str(quantiser), "flags": "+bitexact"}
    return elementary.Coder(_ENCODERS[codec], _ENCODERS[codec], options, codec == "mjpeg")


def _block_code(
    frames: Iterator[np.ndarray], clip: Clip, quantiser: int, seed: int, codec: str, encoder: str
) -> Iterator[np.ndarray]:
    coder = _coder(codec, quantiser)
    return elementary.decode(elementary.code(frames, coder), coder, (clip.height, clip.width))


def _codec(name: str, quantisers: tuple[int, ...]) -> Simulator:
    return Simulator(
        *(name, "coding", "quantiser", quantisers, _block_code),
        options={"codec": name, "encoder": f"{_ENCODERS[name]} of PyAV {av.__version__}"},
    )


SIMULATORS = (
    Simulator("jpeg", "coding", "quality", (70, 40, 20, 10, 5), _jpeg, by_frame=True),
    *(_codec(name, _QUANTISERS) for name in ("mjpeg", "mpeg2", "mpeg4")),
    _codec("h264_blocks", (28, 33, 38, 43, 48)),
)
