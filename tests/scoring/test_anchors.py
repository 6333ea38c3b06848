"""Anchors: storage, their scale, and their choice; the student is a stub of known qualities."""

import itertools
import shutil

import numpy as np
import pytest
from scipy import optimize, stats

from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.corpus.video_table import read_video_table, write_video_table
from vqa_jax.loop import anchors as anchor_choice
from vqa_jax.loop import anchors as anchors_lib
from vqa_jax.pairs import levels
from vqa_jax.scoring import anchors, thurstone
from vqa_jax.scoring import anchors as predictor
from vqa_jax.scoring import scale as scale_lib
from vqa_jax.scoring.engine import EncodedVideo, VideoInput


class StubEngine:
    """A student that knows a video's quality (kept in `visual`) and never errs.

    P(second preferred) is Phi(quality of second - quality of first): exactly the method's model.
    """

    def encode(self, videos):
        for video in videos:
            yield EncodedVideo(video.frames.astype(float), 1, 1)

    def compare(self, pairs):
        return np.array([self._logits(a, b) for a, b in pairs])

    def set_anchors(self, encoded):
        self._anchors = list(encoded)

    def against_anchors(self, video):
        return self.compare([(anchor, video) for anchor in self._anchors])

    def against(self, pairs):
        return self.compare([(self._anchors[i], video) for i, video in pairs])

    def _logits(self, first, second):
        p = stats.norm.cdf(second.visual.item() - first.visual.item())
        # All mass on "inferior" and "superior" has preference p.
        return np.array([np.log(1 - p), -1e9, -1e9, -1e9, np.log(p)])


def _video(quality):
    return EncodedVideo(np.array([quality]), 1, 1)


def _set(qualities, scores):
    inputs = [VideoInput(np.array([q]), np.zeros((1, 1))) for q in qualities]
    names = tuple(f"anchor {q}" for q in qualities)
    return anchors.AnchorSet(names, tuple(inputs), tuple(scores), "test scale", True)


QUALITIES, SCORES = (-1.0, -0.4, 0.1, 0.5, 1.1), (10.0, 30.0, 50.0, 70.0, 90.0)


@pytest.fixture(scope="module")
def scale():
    return scale_lib.Scale(StubEngine(), _set(QUALITIES, SCORES))


def test_matrix_holds_the_probability_that_the_row_is_preferred(scale):
    gaps = np.subtract.outer(QUALITIES, QUALITIES)
    np.testing.assert_allclose(scale.matrix, stats.norm.cdf(gaps), atol=1e-9)
    assert (np.diff(scale.anchor_q) > 0).all()


def test_better_videos_score_higher_and_ends_are_flagged(scale):
    qualities = np.linspace(-3, 3, 13)
    found = [scale.score(_video(q)) for q in qualities]
    assert (np.diff([s.score for s in found]) > 0).all()
    assert (np.diff([s.q for s in found]) > 0).all()
    assert all(s.std > 0 and s.q_std > 0 for s in found)
    assert found[0].extrapolated and found[-1].extrapolated and not found[6].extrapolated
    assert found[0].score < SCORES[0] and found[-1].score > SCORES[-1]
    middle = scale.score(_video(0.1))
    assert SCORES[1] < middle.score < SCORES[3]


def test_score_is_the_maximum_of_the_posterior_on_the_fitted_scale(scale):
    quality = 0.3
    matrix = np.full((6, 6), 0.5)
    matrix[:5, :5] = scale.matrix
    p = stats.norm.cdf(quality - np.array(QUALITIES))
    matrix[5, :5], matrix[:5, 5] = p, 1 - p

    def loss(q):
        gap = q[:, None] - q[None]
        return -(matrix * stats.norm.logcdf(gap)).sum() + 0.5 * (q**2).sum()

    q = optimize.minimize(loss, np.zeros(6), tol=1e-12).x[-1]
    found = scale.score(_video(quality))
    np.testing.assert_allclose(found.q, q, atol=1e-4)
    expected, _ = thurstone.anchor_scale(scale.anchor_q, SCORES).apply(found.q)
    np.testing.assert_allclose(found.score, expected, atol=1e-9)


def test_many_videos_are_solved_as_one_by_one(scale):
    probabilities = np.stack([scale.probabilities(_video(q)) for q in (-0.7, 0.0, 0.9)])
    together = scale.solve(probabilities)
    for row, found in zip(probabilities, together, strict=True):
        alone = scale.solve(row[None])[0]
        assert found.score == pytest.approx(alone.score, abs=1e-9)
        assert found.std == pytest.approx(alone.std, abs=1e-9)


def test_temperature_divides_the_logits():
    warm = scale_lib.Scale(StubEngine(), _set(QUALITIES, SCORES), tau=5.0)
    logits = StubEngine().compare([(_video(QUALITIES[0]), _video(QUALITIES[4]))])
    expected = levels.preference(logits, 5.0)[0]
    np.testing.assert_allclose(warm.matrix[4, 0], expected, atol=1e-9)


def test_sets_survive_the_disk(tmp_path):
    rng = np.random.default_rng(0)
    inputs = tuple(
        VideoInput(
            rng.integers(0, 255, (2, 1, 4, 4, 3), np.uint8)[::-1],  # not contiguous
            rng.normal(size=(2, 3)).astype(np.float32),
        )
        for _ in range(2)
    )
    saved = anchors.AnchorSet(("a", "b"), inputs, (0.0, 100.0), "MOS", False)
    saved.save(str(tmp_path))
    loaded = anchors.AnchorSet.load(str(tmp_path))
    assert (loaded.names, loaded.scores) == (("a", "b"), (0.0, 100.0))
    assert (loaded.scale, loaded.arbitrary) == ("MOS", False)
    for one, other in zip(saved.inputs, loaded.inputs, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.motion, other.motion)
        assert other.frames.dtype == np.uint8
    with pytest.raises(anchors.AnchorError, match="vqa_jax anchors"):
        anchors.AnchorSet.load(str(tmp_path / "nowhere"))


def test_choice_spreads_anchors_evenly_over_what_the_student_sees():
    qualities = [[-1.5, -1.0, 0.9], [-0.5, 0.6, 0.0], [1.0, 0.2, 1.4]]
    chosen = anchors_lib.choose(StubEngine(), [[_video(q) for q in step] for step in qualities])
    everything = np.concatenate(qualities)
    gaps = np.subtract.outer(everything, everything)
    q, _ = thurstone.map_scores(stats.norm.cdf(gaps))
    low, high = np.percentile(q, [10, 90])
    best = min(
        itertools.product(range(3), repeat=3),
        key=lambda picks: sum(
            abs(q[3 * k + i] - (low + (high - low) * k / 2)) for k, i in enumerate(picks)
        ),
    )
    assert tuple(chosen) == best


def test_chosen_anchors_are_training_videos_of_all_severities(trained, corpus):
    found = anchors.AnchorSet.load(trained)
    rows = {r["video_id"]: r for r in read_video_table(corpus)}
    assert found.scores == (0.0, 25.0, 50.0, 75.0, 100.0) and found.arbitrary
    assert [rows[name]["split"] for name in found.names] == ["train"] * 5
    severities = [rows[name]["level"] for name in found.names]
    assert severities == [3, 2, 2, 1, 0]  # 1, .75, .5, .25, 0 of three levels, rounded
    sentence = predictor.describe(found)
    assert "arbitrary" in sentence and "higher is better" in sentence


def test_existing_anchors_are_kept_and_missing_severities_named(trained, corpus, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "student")
    before = (folder / anchors.ANCHOR_FILE).stat().st_mtime_ns
    anchor_choice.make_anchors(None, str(folder), corpus)
    assert (folder / anchors.ANCHOR_FILE).stat().st_mtime_ns == before
    (folder / anchors.ANCHOR_FILE).unlink()
    data = tmp_path / "data"
    data.mkdir()
    table = read_video_table(corpus)
    write_video_table(str(data), [r for r in table if r["level"] == 0])
    with pytest.raises(anchors.AnchorError, match="prepare more simulators"):
        anchor_choice.make_anchors(loading.load(trained), str(folder), str(data))
    assert tiny_corpus.SIMULATOR in {r["simulator"] for r in table}
