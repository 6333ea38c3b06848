"""Ask and solve together; the student is a stub of known qualities."""

import numpy as np
import pytest
from scipy import stats

from tests.fixtures.known_qualities import (
    QUALITIES,
    SCORES,
    BiasedEngine,
    KnowingEngine,
    judge_of,
    video_of,
)
from vqa_jax.scoring.anchors import AnchorError
from vqa_jax.scoring.scale import AnchorScale
from vqa_jax.settings import ScoreConfig

VIDEOS = [video_of(q) for q in np.linspace(-2.0, 2.0, 41)]


@pytest.fixture(scope="module")
def judge():
    return judge_of()


def _score(judge, video, config=ScoreConfig()):
    (found,) = judge.score([video], config)
    return found.score


def test_default_is_every_anchor_solved_exactly(judge):
    found = judge.score(VIDEOS[:3])
    preferred = stats.norm.cdf(np.subtract.outer([v.visual.item() for v in VIDEOS[:3]], QUALITIES))
    scale = AnchorScale(stats.norm.cdf(np.subtract.outer(QUALITIES, QUALITIES)), SCORES)
    wanted = [s.score for s in scale.solve(preferred)]
    np.testing.assert_allclose([f.score.score for f in found], wanted, atol=1e-9)
    alone = [_score(judge, v).score for v in VIDEOS[:3]]
    np.testing.assert_allclose([f.score.score for f in found], alone, atol=1e-9)
    assert [f.comparisons for f in found] == [5, 5, 5]
    assert [f.contradictions for f in found] == [None] * 3
    assert judge.score([]) == []


def test_a_tiny_epsilon_is_the_full_mode(judge):
    full = [f.score.q for f in judge.score(VIDEOS)]
    found = judge.score(VIDEOS, ScoreConfig(epsilon=1e-12))
    np.testing.assert_allclose([f.score.q for f in found], full, atol=1e-9)


def test_both_orders_cancel_a_bias_and_report_contradictions(judge):
    biased = judge_of(BiasedEngine())
    video = video_of(0.1)  # equals the third anchor: a biased student says "second" both times
    (found,) = biased.score([video], ScoreConfig(both_orders=True))
    one_order, wanted = _score(biased, video), _score(judge, video)
    assert found.comparisons == 10
    assert found.contradictions == pytest.approx(2 / 5)  # the anchors within 0.45 of it
    assert abs(found.score.q - wanted.q) < 0.05 < abs(one_order.q - wanted.q)
    (clean,) = judge.score([video_of(0.2)], ScoreConfig(both_orders=True))
    assert clean.contradictions == 0


def test_the_authors_rule_has_a_score_alone(judge):
    (one,) = judge.score([VIDEOS[30]], ScoreConfig(protocol="w2s"))
    assert 0 < one.score.score <= 100 and np.isnan([one.score.q, one.score.std]).all()
    assert one.comparisons == 5


def test_anchors_that_the_student_orders_against_their_scores_are_named():
    with pytest.raises(AnchorError, match=r"anchor -1\.0.*against their scores"):
        judge_of(scores=SCORES[::-1])


class SameEngine(KnowingEngine):
    """Answers alike whatever it is shown: the second video is superior."""

    def _logits(self, first, second):
        return np.array([-4.0, -3.0, -2.0, 0.0, 5.0])


class DamagedEngine(KnowingEngine):
    """Its weights are no numbers."""

    def _logits(self, first, second):
        return np.full(5, np.nan)


@pytest.mark.parametrize(
    ("engine", "qualities", "complaint"),
    [
        (SameEngine(), QUALITIES, r"apart.* 0\.500 and always prefers what is shown second"),
        (KnowingEngine(), np.linspace(0, 0.06, 5), r"apart.*more than 0\.52"),
        (DamagedEngine(), QUALITIES, "no numbers: its weights are damaged"),
    ],
)
def test_a_student_that_cannot_judge_is_refused(engine, qualities, complaint):
    with pytest.raises(AnchorError, match=complaint):
        judge_of(engine, qualities)


def test_a_student_that_contradicts_itself_is_marked_in_every_scale(judge):
    biased = judge_of(BiasedEngine(), QUALITIES * np.array(0.4))
    assert "DOUBTFUL" in biased.describe() and "70%" in biased.describe()
    assert judge.remark == "" and "DOUBTFUL" not in judge.describe()


def test_scores_beyond_any_sense_are_marked(judge):
    notes = [found.note for found in judge.score([video_of(q) for q in (-9.0, 0.0, 9.0)])]
    assert notes[1] == ""
    steep = judge_of(qualities=(-0.12, -0.1, 0.0, 0.05, 0.1))
    worse, fine, better = steep.score([video_of(q) for q in (-9.0, 0.0, 9.0)])
    assert "worse than every anchor" in worse.note and "better than every anchor" in better.note
    assert fine.note == "" and better.score.score > 90 + 80


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
