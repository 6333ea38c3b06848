"""Chains: their steps one after the other, levels that only add."""

import json

import numpy as np
import pytest

from data_prep.simulators import (
    SIMULATORS,
    encode,
    expand,
    mixed,
)
from data_prep.simulators.base import SimulatorError
from tests.fixtures.simulated import simulated


def test_a_chain_is_its_steps_one_after_the_other(clip):
    frames = clip[:3]
    got, record = simulated(frames, 30, "noise_h265", 2, 9, h265_preset="ultrafast")
    captured, _ = simulated(frames, 30, "gaussian_noise", 3, 9)  # the same variance and stream
    expected = list(
        encode.encode_decode(captured, 30, encode.EncodeConfig("h265", 42, "ultrafast"))
    )
    np.testing.assert_array_equal(got, expected)
    assert json.loads(json.dumps(record)) == {
        "simulator": "noise_h265",
        "kind": "mixed",
        "level": 2,
        "parameter": ["variance", "crf"],
        "value": [0.003, 42],
        "effective": [0.003, 42],
        "codec": "h265",
        "encoder": encode.encoder("h265"),
        "preset": "ultrafast",
        "seed": 9,
    }


def test_every_step_of_a_chain_only_adds():
    for name in expand(("mixed",)):
        steps = np.diff(SIMULATORS[name].parameters, axis=0)
        assert np.all(steps >= 0)
        assert np.all(steps.max(axis=1) > 0)
    parts = SIMULATORS["gaussian_noise"], SIMULATORS["h264"]
    assert mixed.chain("ok", *parts, [(0.1, 24), (0.1, 36), (0.2, 36)]).random
    for levels in ([(0.1, 36), (0.2, 24)], [(0.1, 36), (0.1, 36)]):
        with pytest.raises(SimulatorError, match="does not only add"):
            mixed.chain("unordered", *parts, levels)
