"""Scoring with fewer anchors, in both orders, and by the authors' rule; the student is a stub."""

import numpy as np
import pytest
from scipy import stats

from tests.scoring.test_anchors import QUALITIES, SCORES, StubEngine, _set, _video
from vqa_jax.scoring import comparisons, predictor, thurstone, w2s
from vqa_jax.scoring import scale as anchors
from vqa_jax.settings import ScoreConfig


@pytest.fixture(scope="module")
def scale():
    return anchors.Scale(StubEngine(), _set(QUALITIES, SCORES))


VIDEOS = [_video(q) for q in np.linspace(-2.0, 2.0, 41)]


def test_default_is_every_anchor_solved_exactly(scale):
    found = predictor.score_videos(scale, VIDEOS[:3])
    alone = [scale.score(v).score for v in VIDEOS[:3]]
    np.testing.assert_allclose([f.score.score for f in found], alone, atol=1e-9)
    assert [f.comparisons for f in found] == [5, 5, 5]
    assert predictor.score_videos(scale, []) == []


def test_adaptive_saves_comparisons_starts_in_the_middle_and_keeps_the_order(scale):
    probs, seen = comparisons.adaptive(scale, VIDEOS, 0.0, most=1)
    assert seen[:, 2].all() and seen.sum() == len(VIDEOS)
    np.testing.assert_allclose(probs[0, 2], scale.probabilities(VIDEOS[0])[2])
    found = predictor.score_videos(scale, VIDEOS, ScoreConfig(epsilon=0.1))
    assert np.mean([f.comparisons for f in found]) < 4.5
    table = comparisons.comparisons_table(scale, VIDEOS, np.arange(len(VIDEOS)), [0.1])
    few = table.pop()
    assert [row["comparisons"] for row in table] == [1, 2, 3, 4, 5]
    assert table[-1]["srcc"] == pytest.approx(1) and table[-1]["srcc_full"] == pytest.approx(1)
    # The table's modes are those that ask the student themselves.
    assert few["comparisons"] == pytest.approx(np.mean([f.comparisons for f in found]))
    rank_correlation = stats.spearmanr([f.score.q for f in found], np.arange(len(VIDEOS)))[0]
    assert few["srcc"] == pytest.approx(rank_correlation)
    assert table[1]["srcc_full"] > 0.95


def test_a_tiny_epsilon_is_the_full_mode(scale):
    full = scale.solve(scale.preferences(scale.logits(VIDEOS)))
    found = predictor.score_videos(scale, VIDEOS, ScoreConfig(epsilon=1e-12))
    np.testing.assert_allclose([f.score.q for f in found], [s.q for s in full], atol=1e-9)


def test_the_next_anchor_is_the_nearest_to_the_estimate(scale):
    best, worst = _video(3.0), _video(-3.0)
    _, seen = comparisons.adaptive(scale, [best, worst], 0.0, most=2)
    estimate = scale.solve_q(np.full((1, 5), 0.5), np.zeros((1, 5), bool))[0]
    np.testing.assert_allclose(estimate, 0, atol=1e-9)  # nothing was compared
    assert seen[0, 3:].any() and seen[1, :2].any()


class Biased(StubEngine):
    """Prefers whatever it sees second."""

    def _logits(self, first, second):
        return super()._logits(first, _video(second.visual.item() + 0.45))


def test_both_orders_cancel_a_bias_and_report_contradictions():
    fair = anchors.Scale(StubEngine(), _set(QUALITIES, SCORES))
    biased = anchors.Scale(Biased(), _set(QUALITIES, SCORES))
    video = _video(0.1)  # equals the third anchor: a biased student says "second" both times
    (found,) = predictor.score_videos(biased, [video], ScoreConfig(both_orders=True))
    one_order = biased.score(video)
    wanted = fair.score(video)
    assert found.comparisons == 10
    assert found.contradictions == pytest.approx(2 / 5)  # the anchors within 0.45 of it
    assert abs(found.score.q - wanted.q) < 0.05 < abs(one_order.q - wanted.q)
    (clean,) = predictor.score_videos(fair, [_video(0.2)], ScoreConfig(both_orders=True))
    assert clean.contradictions == 0


def test_w2s_is_the_authors_rule(scale):
    probs = scale.preferences(scale.logits(VIDEOS))
    found = w2s.w2s_scores(probs, scale.matrix)
    assert found[-1] == 100 and found[0] == 0  # what lies beyond the anchors is clipped
    np.testing.assert_array_equal(found, w2s.w2s_scores(probs, scale.matrix))
    # 50 steps come near the optimum that they are meant for.
    q, _ = thurstone.map_scores(thurstone.preference_matrix(probs, scale.matrix), "logistic")
    np.testing.assert_allclose(found, thurstone.minmax_score(q), atol=10)
    (one,) = predictor.score_videos(scale, [VIDEOS[30]], ScoreConfig(protocol="w2s"))
    assert 0 < one.score.score <= 100 and np.isnan(one.score.q)


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "best"},
        {"epsilon": -1.0},
        {"epsilon": 0.1, "both_orders": True},
        {"protocol": "w2s", "both_orders": True},
    ],
)
def test_settings_that_do_not_fit_are_refused(fields):
    with pytest.raises(ValueError):
        ScoreConfig(**fields)
