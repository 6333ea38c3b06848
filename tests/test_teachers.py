"""Built-in measures against by-hand values and distortions; score tables."""

import time

import cv2
import numpy as np
import pytest
from scipy import special, stats

from vqa_jax import nss, teachers


@pytest.fixture(scope="module")
def clip():
    """A panned photograph, 320 x 240, 24 frames."""
    from skimage import data

    picture = cv2.resize(data.coffee(), (400, 260), interpolation=cv2.INTER_AREA)
    return np.stack([picture[10 : 10 + 240, 2 * t : 2 * t + 320] for t in range(24)])


def _worse(name, good, bad):
    teacher = teachers.get(name)
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
    assert set(CASES) == set(teachers.names())
    for name, flaws in CASES.items():
        for k, flaw in enumerate(flaws):
            assert _worse(name, clip, flaw(clip)), (name, k)


@pytest.mark.parametrize("name", list(CASES))
def test_odd_clips_get_a_finite_score(name):
    teacher = teachers.get(name)
    assert isinstance(teacher, teachers.Teacher)
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


def test_measures_are_cheap_and_repeatable(clip):
    for name in teachers.names():
        teacher = teachers.get(name)
        first = teacher.score(clip)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            assert teacher.score(clip) == first
            times.append(time.perf_counter() - start)
        assert min(times) < 0.05, name  # 1 to 10 ms on an idle core


def test_noise_measure_gives_the_deviation():
    flat = np.full((2, 128, 128, 3), 128.0)
    grain = np.random.default_rng(0).normal(0, 6, (2, 128, 128, 1))
    frames = np.round(flat + grain).astype(np.uint8)
    assert teachers.get("noise").score(frames) == pytest.approx(6, rel=0.12)


def test_blockiness_by_hand():
    blocks = np.kron(np.arange(16).reshape(4, 4) % 5 * 40, np.ones((8, 8)))
    frames = np.repeat(blocks[None, :, :, None], 3, axis=3).astype(np.uint8)
    assert teachers.get("blockiness").score(frames) < 0.01
    shifted = np.roll(frames, 4, axis=(1, 2))
    assert teachers.get("blockiness").score(shifted) > 1


def test_generalized_gaussian_shape_is_found():
    rng = np.random.default_rng(0)
    for alpha in (0.7, 1.0, 2.0, 4.0):
        sample = stats.gennorm(alpha).rvs((1, 300, 300), random_state=rng)
        found = nss._shape_features(sample.astype(np.float32))[0]
        assert found[0] == pytest.approx(alpha, rel=0.05)
        variance = np.exp(special.gammaln(3 / alpha) - special.gammaln(1 / alpha))
        assert found[1] == pytest.approx(variance, rel=0.05)


def test_shipped_statistics_are_what_the_command_fits(tmp_path):
    fitted = nss.fit_pristine(nss.builtin_photographs())
    nss.save_pristine(fitted, tmp_path / "again.npz")
    again = nss.load_pristine(tmp_path / "again.npz")
    shipped = nss.load_pristine()
    for name in ("patch_mean", "patch_cov", "frame_mean", "frame_std"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(shipped, name), rtol=1e-2, atol=1e-4
        )
    assert np.linalg.eigvalsh(shipped.patch_cov).min() > 0


def test_registry():
    class Mine:
        name = "mine"
        higher_is_better = True

        def score(self, frames):
            return 1.0

    try:
        assert teachers.register(Mine()) is teachers.get("mine")
        with pytest.raises(ValueError, match="already"):
            teachers.register(Mine())
    finally:
        teachers._REGISTRY.pop("mine", None)
    with pytest.raises(KeyError, match="niqe"):
        teachers.get("vmaf")


def _csv(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


WIDE = "\ufeffpath,DOVER,qalign,error\na/x 1.mp4,0.5,3\nb/ü.mp4,,4,\nc.mp4,0.7,nan,failed\n"
LONG = """Video,teacher,score
a/x 1.mp4,DOVER,0.5\na/x 1.mp4,qalign,3\nb/ü.mp4,qalign,4\nc.mp4,DOVER,0.7\nc.mp4,qalign,
"""


@pytest.mark.parametrize("text", [WIDE, LONG])
def test_wide_and_long_tables_agree_and_name_missing_scores(tmp_path, text):
    tables = teachers.read_scores_csv(_csv(tmp_path, text))
    assert tables == {
        "DOVER": {"a/x 1.mp4": 0.5, "c.mp4": 0.7},
        "qalign": {"a/x 1.mp4": 3.0, "b/ü.mp4": 4.0},
    }
    scores, columns, missing = teachers.collect_scores(tables, ["/data/x 1.mp4", "ü", "c.mp4"])
    assert columns == ["DOVER", "qalign"]
    np.testing.assert_array_equal(scores, [[0.5, 3], [np.nan, 4], [0.7, np.nan]])
    assert missing == {"DOVER": ["ü"], "qalign": ["c.mp4"]}


def test_ambiguous_file_names_are_missing_and_not_guessed():
    tables = {"t": {"a/1.mp4": 1.0, "b/1.mp4": 2.0}}
    scores, _, missing = teachers.collect_scores(tables, ["b/1.mp4", "z/1.mp4"])
    assert scores[0, 0] == 2.0
    assert missing == {"t": ["z/1.mp4"]}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("clip,t\na,1\n", "names the video"),
        ("path,t\na,1\na,2\n", "listed twice"),
        ("path,t\na,1\nb,good\n", "row 3"),
        ("path,t\na,\n", "no scores"),
        ("path,t\n,1\n", "not named"),
        ("", "names the video"),
    ],
)
def test_bad_tables_are_refused_with_place(tmp_path, text, match):
    with pytest.raises(teachers.ScoresError, match=match):
        teachers.read_scores_csv(_csv(tmp_path, text))
    with pytest.raises(teachers.ScoresError, match="cannot be read"):
        teachers.read_scores_csv(tmp_path / "none.csv")


@pytest.mark.parametrize("method", ["rank", "logistic"])
def test_united_scores_share_scale_and_direction(method):
    rng = np.random.default_rng(0)
    quality = rng.normal(size=80)
    raw = np.stack(
        [quality, np.exp(-quality), 1e4 + 5 * quality + rng.normal(size=80), np.ones(80)], axis=1
    )
    raw[3, 0] = np.nan
    united = teachers.unite(raw, method, higher_is_better=[True, False, True, True])
    assert np.isnan(united[3, 0])
    assert np.nanmin(united) >= 0 and np.nanmax(united) <= 100
    rows = np.arange(80) != 3
    for column in range(3):
        assert stats.spearmanr(united[rows, column], quality[rows]).statistic > 0.95
    np.testing.assert_allclose(united[:, 3], 50)
    if method == "rank":
        np.testing.assert_allclose(np.sort(united[:, 1]), 100 * (np.arange(80) + 0.5) / 80)


def test_logistic_keeps_the_direction_of_a_teacher_that_disagrees():
    quality = np.linspace(0, 1, 50)
    raw = np.stack([quality, quality**2, -quality], axis=1)
    united = teachers.unite(raw, "logistic")
    assert (np.diff(united[:, 2]) < 0).all()
    with pytest.raises(ValueError, match="directions"):
        teachers.unite(raw, higher_is_better=[True])
    with pytest.raises(ValueError, match="method"):
        teachers.unite(raw, "mean")
