"""The coding of motion clips: exact whatever the clips, and smaller where they resemble videos."""

import numpy as np
import pytest
import zstandard

from vqa_jax.corpus import clip_coding, shards, store

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (3, 4, 6, 5, 3), np.uint8)


@pytest.mark.parametrize(
    "clips",
    [
        NOISE,
        NOISE[[0, 1, 1, 1]],  # a short video repeats its last clip
        NOISE[:1, [0, 1, 1, 0, 2]],  # and a stutter its frames
        np.zeros((2, 3, 4, 4, 3), np.uint8),
        np.full((1, 2, 1, 1, 3), 255, np.uint8),
        np.zeros((0, 3, 4, 4, 3), np.uint8),
        NOISE[:, ::2, ::-1, :, ::-1],  # views
    ],
)
def test_decoding_gives_the_same_bytes(clips):
    order, residuals = clip_coding.encode(clips)
    assert order.shape == clips.shape[:2]
    assert len(residuals) == len({frame.tobytes() for frame in clips.reshape(-1, *clips.shape[2:])})
    got = clip_coding.decode(order, residuals)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, clips)


def test_changes_are_small_numbers():
    """Hand-made: a grey ramp that brightens by one level a frame."""
    ramp = np.arange(8, dtype=np.uint8)[None, :, None]
    clips = np.stack([np.broadcast_to(ramp + 250 + t, (2, 8, 3)) for t in range(4)])[None]
    order, residuals = clip_coding.encode(clips.astype(np.uint8))
    assert order.tolist() == [[0, 1, 2, 3]]
    np.testing.assert_array_equal(residuals[1:, 0], 1)
    np.testing.assert_array_equal(residuals[:, 1:], 0)


def test_a_shard_of_clips_is_smaller_than_zstd_alone_would_make_it(tmp_path):
    """A still, detailed scene with a little grain of every frame's own, in overlapping clips."""
    scene = RNG.integers(4, 252, (128, 128, 1)).repeat(3, axis=2)
    grain = RNG.integers(-1, 2, (24, 128, 128, 1))
    frames = (scene + grain).astype(np.uint8)
    clips = np.stack([frames[:16], frames[8:], frames[8:]])
    path = tmp_path / "clips"
    shards.write_shard(str(path), "vqa_clips", [{"video_id": "v", "clips": clips}])
    alone = len(zstandard.ZstdCompressor(level=1).compress(clips.tobytes()))
    assert path.stat().st_size < 0.5 * alone
    [record] = store.shard_records(str(path), "vqa_clips")
    np.testing.assert_array_equal(record["clips"], clips)
