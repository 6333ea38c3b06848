"""The extractor: batches, fingerprint, missing weights, what the shipped one sees."""

import dataclasses

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.motion import extractor as motion


def test_extractor_batches_and_repeats_give_the_same_features(tensors, tmp_path):
    save_file(tensors, tmp_path / "w.safetensors")
    extractor = motion.load_extractor(tmp_path / "w.safetensors", batch_size=2)
    rng = np.random.default_rng(4)
    clips = rng.integers(0, 256, (3, 4, 16, 16, 3), dtype=np.uint8)
    features = extractor(clips[[0, 1, 1, 2, 1]])
    assert features.shape == (5, extractor.motion_dim) and features.dtype == np.float32
    np.testing.assert_array_equal(features[1], features[4])
    # Each clip alone, padded with zeros to the same batch: neighbours have no influence.
    alone = np.concatenate([extractor(clip[None]) for clip in clips])
    np.testing.assert_allclose(features[[0, 1, 3]], alone, **TOLERANCES["motion"])
    assert np.ptp(alone, axis=0).max() > 0.01
    assert extractor(clips[:0]).shape == (0, extractor.motion_dim)


def test_fingerprint_follows_weights_and_clip_geometry(tensors, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(
        tensors | {"blocks.0.multipathway_blocks.1.norm.bias": np.ones(1, np.float32)},
        tmp_path / "b.safetensors",
    )
    a, b = (motion.load_extractor(tmp_path / f"{name}.safetensors") for name in "ab")
    pre = Preprocess(motion_size=56)
    other_size = dataclasses.replace(pre, motion_size=64)
    other_frames = dataclasses.replace(pre, max_key_frames=4)
    assert len({a.fingerprint(pre), b.fingerprint(pre), a.fingerprint(other_size)}) == 3
    assert a.fingerprint(pre) == a.fingerprint(other_frames)


def test_missing_weights_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no motion weights"):
        motion.load_extractor(tmp_path / "none.safetensors")


@pytest.mark.slow  # what trained weights say, which no other test may depend on
def test_shipped_extractor_sees_jitter():
    """Features of shaken clips of one scene lie on a line from still to strongly shaken."""
    rng = np.random.default_rng(5)
    scene = np.kron(rng.integers(0, 256, (24, 24, 3)), np.ones((6, 6, 1))).astype(np.uint8)
    strengths = (0, 2, 8)
    clips = np.zeros((3, 32, 56, 56, 3), np.uint8)
    for clip, strength in zip(clips, strengths, strict=True):
        for frame in clip:
            y, x = rng.integers(0, strength + 1, 2)
            frame[:] = scene[y : y + 112 : 2, x : x + 112 : 2]
    still, mild, strong = motion.load_extractor(batch_size=3)(clips)
    direction = (strong - still) / np.linalg.norm(strong - still)
    assert 0.1 < (mild - still) @ direction < (strong - still) @ direction


def test_several_devices_give_the_bits_of_one(tensors, tmp_path):
    save_file(tensors, tmp_path / "w.safetensors")
    clips = np.random.default_rng(0).integers(0, 256, (5, 4, 16, 16, 3), np.uint8)
    devices = jax.local_devices()[:2]
    assert len(devices) == 2
    one = motion.load_extractor(tmp_path / "w.safetensors", 2, devices[:1])(clips)
    two = motion.load_extractor(tmp_path / "w.safetensors", 2, devices)(clips)
    np.testing.assert_array_equal(one, two)
    assert np.ptp(one, axis=0).max() > 0
