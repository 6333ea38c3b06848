"""Built-in measures against by-hand values and distortions; the registry."""

import cv2
import numpy as np
import pytest

from vqa_jax.teachers import measures


@pytest.fixture(scope="module")
def clip():
    """A panned photograph, 320 x 240, 24 frames."""
    from skimage import data

    picture = cv2.resize(data.coffee(), (400, 260), interpolation=cv2.INTER_AREA)
    return np.stack([picture[10 : 10 + 240, 2 * t : 2 * t + 320] for t in range(24)])


def _worse(name, good, bad):
    teacher = measures.get(name)
    gap = teacher.score(bad) - teacher.score(good)
    return gap < 0 if teacher.higher_is_better else gap > 0


def _blur(frames, sigma):
    return np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in frames])


def _noise(frames, deviation):
    rng = np.random.default_rng(0)
    return np.clip(frames + rng.normal(0, deviation, frames.shape), 0, 255).astype(np.uint8)


def _jpeg(frames):
    return np.stack(
        [cv2.imdecode(cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, 8])[1], 1) for f in frames]
    )


def _jitter(frames):
    rng = np.random.default_rng(0)
    return np.stack([np.roll(f, tuple(rng.integers(-3, 4, 2)), (0, 1)) for f in frames])


def _stutter(frames):
    frames = frames.copy()
    for t in (4, 5, 9, 15, 16, 17):
        frames[t] = frames[t - 1]
    return frames


CASES = {
    "niqe": (lambda f: _blur(f, 2), lambda f: _noise(f, 20)),
    "brisque_distance": (lambda f: _blur(f, 4), lambda f: _noise(f, 20)),
    "sharpness": (lambda f: _blur(f, 1), lambda f: _blur(f, 3)),
    "blockiness": (_jpeg,),
    "noise": (lambda f: _noise(f, 4), lambda f: _noise(f, 20)),
    "exposure": (lambda f: f // 4, lambda f: 255 - (255 - f) // 6),
    "temporal_smoothness": (_jitter, _stutter),
}


def test_every_builtin_notices_its_flaw(clip):
    assert set(CASES) == set(measures.names())
    for name, flaws in CASES.items():
        for k, flaw in enumerate(flaws):
            assert _worse(name, clip, flaw(clip)), (name, k)


@pytest.mark.parametrize("name", list(CASES))
def test_odd_clips_get_a_finite_score(name):
    teacher = measures.get(name)
    assert isinstance(teacher, measures.Teacher)
    assert "Weak" in teacher.measure.__doc__
    rng = np.random.default_rng(0)
    for shape in ((1, 240, 320, 3), (5, 33, 47, 3), (2, 1, 1, 3), (3, 2, 200, 3)):
        for frames in (
            np.zeros(shape, np.uint8),
            np.full(shape, 255, np.uint8),
            rng.integers(0, 256, shape, dtype=np.uint8),
        ):
            assert np.isfinite(teacher.score(frames)), shape
    with pytest.raises(ValueError, match=name):
        teacher.score(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=name):
        teacher.score(np.zeros((1, 4, 4, 3), np.float32))


def test_measures_are_repeatable(clip):
    for name in measures.names():
        teacher = measures.get(name)
        assert teacher.score(clip) == teacher.score(clip), name


def test_noise_measure_gives_the_deviation():
    flat = np.full((2, 128, 128, 3), 128.0)
    grain = np.random.default_rng(0).normal(0, 6, (2, 128, 128, 1))
    frames = np.round(flat + grain).astype(np.uint8)
    assert measures.get("noise").score(frames) == pytest.approx(6, rel=0.12)


def test_blockiness_by_hand():
    blocks = np.kron(np.arange(16).reshape(4, 4) % 5 * 40, np.ones((8, 8)))
    frames = np.repeat(blocks[None, :, :, None], 3, axis=3).astype(np.uint8)
    assert measures.get("blockiness").score(frames) < 0.01
    shifted = np.roll(frames, 4, axis=(1, 2))
    assert measures.get("blockiness").score(shifted) > 1


def test_registry():
    class Mine:
        name = "mine"
        higher_is_better = True

        def score(self, frames):
            return 1.0

    try:
        assert measures.register(Mine()) is measures.get("mine")
        with pytest.raises(ValueError, match="already"):
            measures.register(Mine())
    finally:
        measures._REGISTRY.pop("mine", None)
    with pytest.raises(KeyError, match="niqe"):
        measures.get("vmaf")
