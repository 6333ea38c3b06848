"""Anchor sets on disk, and what they say of themselves."""

import dataclasses

import numpy as np
import pytest

from tests.fixtures.known_qualities import anchors_of
from vqa_jax.jobs import files
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


def test_every_flipped_bit_of_a_set_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (1, 1, 4, 4, 3), np.uint8)
    video = VideoInput(frames, rng.normal(size=(2, 3)).astype(np.float32))
    AnchorSet(("a", "b"), (video, video), (5.0, 50.0), "MOS", False).save(str(tmp_path))
    path = tmp_path / "anchors.safetensors"
    whole = path.read_bytes()
    for place in rng.integers(0, len(whole), 20):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(AnchorError, match=r"anchors\.safetensors .*damaged .*vqa_jax anchors"):
            AnchorSet.load(str(tmp_path))
    path.unlink()
    with pytest.raises(AnchorError, match=r"anchors\.safetensors is missing"):
        AnchorSet.load(str(tmp_path))
    path.write_bytes(whole)
    facts = files.read_json(str(tmp_path / "anchors.json"))
    del facts["inputs_sha256"]  # as earlier versions wrote it
    files.write_json(str(tmp_path / "anchors.json"), facts)
    assert AnchorSet.load(str(tmp_path)).names == ("a", "b")


def test_the_description_tells_range_direction_and_who_scored():
    made = anchors_of()
    assert made.describe() == (
        "test scale; anchors span 10..90, higher is better; arbitrary units, no human scored them;"
        " std: of the posterior, not calibrated"
    )
    assert "human scores" in dataclasses.replace(made, arbitrary=False).describe()
