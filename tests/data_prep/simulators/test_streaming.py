"""Streaming simulators: the records tell the encode."""

import json

import pytest

from data_prep.simulators import (
    SIMULATORS,
    encode,
)
from tests.fixtures.simulated import simulated


def test_records_tell_what_was_done(clip):
    frames = clip[:2, :64, :64]
    _, h264 = simulated(frames, 30, "h264", 4, 0)
    assert (h264["value"], h264["effective"], h264["preset"]) == (63, 51, "fast")
    _, h265 = simulated(frames, 30, "h265", 1, 0, h265_preset="ultrafast")
    assert (h265["value"], h265["effective"], h265["preset"]) == (36, 36, "ultrafast")
    _, av1 = simulated(frames, 30, "av1", 4, 0, h265_preset="ultrafast")
    assert (av1["codec"], av1["effective"], av1["preset"]) == ("av1", 63, "8")
    assert av1["encoder"] == encode.encoder("av1")
    _, noise = simulated(frames, 30, "gaussian_noise", 5, 9)
    assert json.loads(json.dumps(noise)) == {
        "simulator": "gaussian_noise",
        "kind": "spatial",
        "level": 5,
        "parameter": "variance",
        "value": 0.01,
        "effective": 0.01,
        "seed": 9,
    }


@pytest.mark.parametrize("name", ["h264", "h265", "av1", "vp9"])
def test_higher_levels_take_fewer_bytes(clip, name):
    """The simulator decodes at once; here the encoded bytes themselves are counted."""
    frames = clip[:3, :64, :64]
    preset = "ultrafast" if name == "h265" else SIMULATORS[name].options["preset"]
    sizes = []
    for crf in SIMULATORS[name].parameters:
        config = encode.EncodeConfig(name, crf, preset)
        sizes.append(len(encode.encode_rgb(frames, 30, config)))
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]
