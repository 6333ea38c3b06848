"""Streams without a container: frames come back, in order and in size, from equal bytes."""

import numpy as np
import pytest

from data_prep.simulators import elementary
from data_prep.simulators.encode import EncodeError
from tests.fixtures.tolerances import TOLERANCES

CODERS = [
    elementary.Coder("mpeg2video", "mpeg2video", {"qmin": "2", "qmax": "2"}),
    elementary.Coder("mpeg4", "mpeg4", {"qmin": "2", "qmax": "2"}),
    elementary.Coder("mjpeg", "mjpeg", {"qmin": "2", "qmax": "2"}, full_range=True),
    elementary.Coder("libx264", "h264", {"qp": "4", "preset": "veryfast"}),
]


@pytest.mark.parametrize("coder", CODERS, ids=lambda coder: coder.encoder)
@pytest.mark.parametrize("shape", [(6, 33, 50, 3), (1, 9, 7, 3)])
def test_flat_frames_come_back_in_order(coder, shape):
    frames = np.empty(shape, np.uint8)
    for index, frame in enumerate(frames):
        frame[:] = (200, 60 + 20 * index, 90)
    packets = list(elementary.code(frames, coder))
    assert [bytes(p) for p in packets] == [bytes(p) for p in elementary.code(frames, coder)]
    got = np.stack(list(elementary.decode(packets, coder, shape[1:3])))
    np.testing.assert_allclose(
        got.astype(float), frames.astype(float), **TOLERANCES["encoded_flat_colour"]
    )


def test_a_size_that_a_coder_refuses_is_an_error():
    wide = np.zeros((1, 16, 70_000, 3), np.uint8)
    with pytest.raises(EncodeError, match="mpeg2video"):
        list(elementary.code(wide, CODERS[0]))
