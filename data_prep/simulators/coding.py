"""Block edges, beyond the paper: coders without a deblocking filter.

jpeg codes every frame by itself at a quality of libjpeg's scale, with 4:2:0 chroma.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from data_prep.simulators.base import Simulator, frame_by_frame


def _jpeg(
    frames: Iterator[np.ndarray], fps: float, quality: int, seed: int
) -> Iterator[np.ndarray]:
    for frame in frames:
        # OpenCV takes the channels as BGR: in and out must be turned, or chroma is another one.
        _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        yield cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


SIMULATORS = (Simulator("jpeg", "coding", "quality", (70, 40, 20, 10, 5), frame_by_frame(_jpeg)),)
