"""The coding of views: exact whatever the pictures, each different one once, and small."""

import numpy as np
import pytest
import zstandard

from vqa_jax.corpus import clip_coding, view_coding

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (5, 24, 18, 3), np.uint8)


def _coded(pictures):
    coder = view_coding.Encoder()
    order = np.array([coder.add(picture) for picture in pictures], np.int32)
    return {"order": order, **coder.fields(), "coded": np.frombuffer(coder.taken(), np.uint8)}


@pytest.mark.parametrize(
    "pictures",
    [
        NOISE,
        NOISE[[0, 1, 1, 0, 4]],  # shown again
        NOISE[:1, :1, :1],
        NOISE[:, ::2, ::-1, ::-1],  # views
        np.zeros((2, 7, 5, 3), np.uint8),
        np.full((1, 32, 32, 3), 255, np.uint8),
    ],
)
def test_decoding_gives_the_same_bytes(pictures):
    record = _coded(pictures)
    assert len(record["sizes"]) == len({picture.tobytes() for picture in pictures})
    assert record["sizes"].sum() == len(record["coded"])
    got = view_coding.decode(record)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, pictures)


def test_the_same_pictures_are_the_same_bytes():
    first, again = _coded(NOISE), _coded(NOISE)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_grain_on_a_slope_takes_fewer_bytes_than_changes_between_frames():
    y, x = np.mgrid[:64, :64]
    grain = RNG.normal(0, 1.5, (8, 64, 64, 1))
    pictures = np.clip(np.rint((x + y)[None, ..., None] + grain), 0, 255).astype(np.uint8)
    pictures = pictures.repeat(3, 3)
    _, residuals = clip_coding.encode(pictures[None])
    other = zstandard.ZstdCompressor(level=1).compress(residuals.tobytes())
    assert len(_coded(pictures)["coded"]) < len(other)
