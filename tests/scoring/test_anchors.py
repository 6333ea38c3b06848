"""Anchor sets on disk, and what they say of themselves."""

import dataclasses

import numpy as np
import pytest

from tests.fixtures.known_qualities import anchors_of
from vqa_jax.scoring.anchors import AnchorError, AnchorSet
from vqa_jax.scoring.engine import VideoInput


def test_sets_survive_the_disk(tmp_path):
    rng = np.random.default_rng(0)
    inputs = tuple(
        VideoInput(
            rng.integers(0, 255, (2, 1, 4, 4, 3), np.uint8)[::-1],  # not contiguous
            rng.normal(size=(2, 3)).astype(np.float32),
        )
        for _ in range(2)
    )
    saved = AnchorSet(("a", "b"), inputs, (0.0, 100.0), "MOS", False)
    saved.save(str(tmp_path))
    loaded = AnchorSet.load(str(tmp_path))
    assert (loaded.names, loaded.scores) == (("a", "b"), (0.0, 100.0))
    assert (loaded.scale, loaded.arbitrary) == ("MOS", False)
    for one, other in zip(saved.inputs, loaded.inputs, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.motion, other.motion)
        assert other.frames.dtype == np.uint8
    with pytest.raises(AnchorError, match="vqa_jax anchors"):
        AnchorSet.load(str(tmp_path / "nowhere"))
    assert AnchorSet.beside(str(tmp_path)).names == ("a", "b")
    assert AnchorSet.beside(str(tmp_path / "nowhere")) is None


def test_the_description_tells_range_direction_and_who_scored():
    made = anchors_of()
    assert made.describe() == (
        "test scale; anchors span 10..90, higher is better; arbitrary units, no human scored them"
    )
    assert "human scores" in dataclasses.replace(made, arbitrary=False).describe()
