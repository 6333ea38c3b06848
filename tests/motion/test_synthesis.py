"""Synthetic clips: the severities that they carry are those that can be measured in them."""

import itertools

import numpy as np
import pytest

from vqa_jax.motion import synthesis

CONFIG = synthesis.SynthesisConfig(size=32, num_frames=12)


@pytest.fixture(scope="module")
def pyramids():
    train, _ = synthesis.photographs()
    return [synthesis.load_pyramid(path) for path in train[:2]]


def _severity(name, values):
    return values[synthesis.SEVERITIES.index(name)]


def test_pairs_are_reproducible_and_differ_by_seed(pyramids):
    draw = lambda seed: synthesis.synthetic_pair(pyramids, CONFIG, np.random.default_rng(seed))  # noqa: E731
    clips, severities = draw(0)
    assert clips.shape == (2, 12, 32, 32, 3) and clips.dtype == np.uint8
    assert severities.shape == (2, len(synthesis.SEVERITIES)) and severities.dtype == np.float32
    np.testing.assert_array_equal(clips, draw(0)[0])
    assert np.any(clips != draw(1)[0])


def test_severities_describe_the_clips(pyramids):
    """Exact repeats give the stutter rate; jitter moves every frame."""
    seen = {"stutter": 0, "jitter": 0, "source": 0}
    for seed in range(60):
        clips, severities = synthesis.synthetic_pair(pyramids, CONFIG, np.random.default_rng(seed))
        assert severities.min() >= 0 and severities.max() <= 1.1
        for clip, severity in zip(clips, severities, strict=True):
            repeated = np.mean([np.array_equal(a, b) for a, b in itertools.pairwise(clip)])
            stutter, jitter = _severity("stutter", severity), _severity("jitter", severity)
            if jitter > 0.5 and not stutter:
                seen["jitter"] += 1
                assert repeated < 0.2
            if stutter and not jitter and not _severity("noise", severity) and repeated:
                seen["stutter"] += 1
                assert repeated >= stutter - 1e-6
            seen["source"] += not stutter and not jitter
    assert min(seen.values()) >= 5


def test_squash_shifts_by_at_most_the_fraction():
    ramp = np.broadcast_to(np.linspace(0, 255, 200)[None, :, None], (100, 200, 3))
    frames = np.repeat(ramp.astype(np.uint8)[None], 40, axis=0)
    still = synthesis._squashed(frames, 40, 0.0, np.random.default_rng(0))
    assert np.ptp(still, axis=0).max() == 0
    shaken = synthesis._squashed(frames, 40, 0.05, np.random.default_rng(0)).astype(float)
    # The ramp's gray value is the horizontal position: 255 gray levels are one frame width.
    shift = (shaken - shaken.mean(0)).mean((1, 2, 3)) / 255
    assert 0.03 < np.abs(shift).max() < 0.06


def test_photographs_are_split_without_overlap():
    train, heldout = synthesis.photographs()
    assert len(heldout) == 3 and len(train) >= 10
    assert not set(train) & set(heldout)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no jpg or png"):
        synthesis.photographs([str(tmp_path)])
