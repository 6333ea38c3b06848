"""Coders without deblocking: their block edges grow."""

import numpy as np
import pytest

from data_prep.simulators import expand
from tests.fixtures.simulated import levels_of, run, simulated


def _edges(frames: np.ndarray) -> float:
    """Mean luma step across the borders of 8x8 blocks over that inside them."""
    luma = frames.astype(float).mean(axis=-1)
    steps = np.abs(np.diff(luma, axis=2))
    borders = np.arange(steps.shape[2]) % 8 == 7
    return steps[..., borders].mean() / steps[..., ~borders].mean()


@pytest.mark.parametrize("name", expand(("coding",)))
def test_block_edges_grow(picture, name):
    edges = [_edges(x) for x in (picture, *(run(picture, name, k) for k in levels_of(name)))]
    assert np.all(np.diff(edges) > 0), edges


def test_jpeg_keeps_the_channels_in_place():
    colours = np.array([(200, 40, 40), (40, 180, 60), (30, 60, 210)], np.uint8)
    frames = np.repeat(np.repeat(colours[None, None], 16, axis=1), 16, axis=2)
    got = run(frames, "jpeg", 1)[0, 8, 8::16].astype(int)
    assert np.abs(got - colours).max() <= 6


@pytest.mark.parametrize("name", [name for name in expand(("coding",)) if name != "jpeg"])
def test_records_name_the_encoder(picture, name):
    _, record = simulated(picture[:1, :32, :32], 30, name, 1, 0)
    assert record["codec"] == name
    assert "PyAV" in record["encoder"]
