"""Which pairs the student is asked about, and what becomes of its answers; it is a stub."""

import numpy as np
import pytest
from scipy import stats

from launch.bench import adaptive
from tests.fixtures.known_qualities import (
    QUALITIES,
    BiasedEngine,
    KnowingEngine,
    anchors_of,
    judge_of,
    video_of,
)
from vqa_jax.pairs import levels
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.comparisons import Comparisons, in_rounds
from vqa_jax.settings import ScoreConfig

SEEN = np.linspace(-2.0, 2.0, 41)
VIDEOS = [video_of(q) for q in SEEN]


@pytest.fixture(scope="module")
def judge():
    return judge_of()


def _rounds(judge, qualities, **settings):
    def answer(anchors, rows):
        return stats.norm.cdf(np.array(qualities)[rows] - np.array(QUALITIES)[anchors])

    return in_rounds(answer, len(qualities), judge.scale, **settings)


def test_matrix_holds_the_probability_that_the_row_is_preferred(judge):
    gaps = np.subtract.outer(QUALITIES, QUALITIES)
    second_wins = judge.comparisons.among_anchors()
    np.testing.assert_allclose(second_wins, stats.norm.cdf(gaps.T), atol=1e-9)
    matrix = thurstone.average_orders(second_wins)
    np.testing.assert_allclose(matrix, stats.norm.cdf(gaps), atol=1e-9)


def test_every_anchor_is_met_by_every_video(judge):
    wanted = stats.norm.cdf(np.subtract.outer(SEEN, QUALITIES))
    np.testing.assert_allclose(judge.comparisons.every(VIDEOS), wanted, atol=1e-9)
    answers = judge.comparisons.ask(VIDEOS, ScoreConfig(), judge.scale)
    np.testing.assert_allclose(answers.preferred, wanted, atol=1e-9)
    assert answers.seen.all() and answers.contradicted is None
    assert answers.comparisons.tolist() == [5] * len(VIDEOS)


def test_temperature_divides_the_logits():
    warm = Comparisons(KnowingEngine(), anchors_of().inputs, tau=5.0)
    logits = KnowingEngine().compare([(video_of(QUALITIES[0]), video_of(QUALITIES[4]))])
    expected = levels.preference(logits, 5.0)[0]
    np.testing.assert_allclose(warm.among_anchors()[0, 4], expected, atol=1e-9)
    cold = Comparisons(KnowingEngine(), anchors_of().inputs)
    best = video_of(QUALITIES[4])
    np.testing.assert_allclose(cold.every([best], 5.0), warm.every([best]))
    assert cold.every([best], 5.0)[0, 0] < cold.every([best])[0, 0]


def test_both_orders_are_averaged_and_contradictions_marked():
    biased = judge_of(BiasedEngine())
    video = video_of(0.1)
    answers = biased.comparisons.ask([video], ScoreConfig(both_orders=True), biased.scale)
    gaps = 0.1 - np.array(QUALITIES)
    wanted = 0.5 * (stats.norm.cdf(gaps + 0.45) + stats.norm.cdf(gaps - 0.45))
    np.testing.assert_allclose(answers.preferred[0], wanted, atol=1e-9)
    np.testing.assert_array_equal(answers.contradicted[0], np.abs(gaps) < 0.45)
    assert answers.comparisons.tolist() == [10]


def test_adaptive_saves_comparisons_starts_in_the_middle_and_keeps_the_order(judge):
    first = _rounds(judge, SEEN, epsilon=0.0, most=1)
    assert first.seen[:, 2].all() and first.seen.sum() == len(VIDEOS)
    np.testing.assert_allclose(first.preferred[0, 2], judge.comparisons.every(VIDEOS[:1])[0, 2])
    assert (np.delete(first.preferred, 2, axis=1) == 0.5).all()
    found = judge.score(VIDEOS, ScoreConfig(epsilon=0.1))
    assert np.mean([f.comparisons for f in found]) < 4.5
    table = adaptive.modes_table(judge, VIDEOS, np.arange(len(VIDEOS)), [0.1])
    few = table.pop()
    assert [row["comparisons"] for row in table] == [1, 2, 3, 4, 5]
    assert table[-1]["srcc"] == pytest.approx(1) and table[-1]["srcc_full"] == pytest.approx(1)
    # The table's modes are those that ask the student themselves.
    assert few["comparisons"] == pytest.approx(np.mean([f.comparisons for f in found]))
    rank_correlation = stats.spearmanr([f.score.q for f in found], np.arange(len(VIDEOS)))[0]
    assert few["srcc"] == pytest.approx(rank_correlation)
    assert table[1]["srcc_full"] > 0.95


def test_the_next_anchor_is_the_nearest_to_the_estimate(judge):
    seen = _rounds(judge, [3.0, -3.0], epsilon=0.0, most=2).seen
    assert seen[0, 3:].any() and seen[1, :2].any()
