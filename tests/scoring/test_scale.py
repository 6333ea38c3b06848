"""The anchors' scale: probabilities of known qualities become scores; no student is asked."""

import numpy as np
import pytest
from scipy import optimize, stats

from tests.fixtures.known_qualities import QUALITIES, SCORES
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.scale import AnchorScale


def _preferred(qualities):
    """[n, 5] probability that videos of these qualities are preferred to the anchors."""
    return stats.norm.cdf(np.subtract.outer(qualities, QUALITIES))


@pytest.fixture(scope="module")
def scale():
    return AnchorScale(_preferred(QUALITIES), SCORES)


def test_better_videos_score_higher_and_ends_are_flagged(scale):
    found = scale.solve(_preferred(np.linspace(-3, 3, 13)))
    assert (np.diff(scale.anchor_q) > 0).all()
    assert (np.diff([s.score for s in found]) > 0).all()
    assert (np.diff([s.q for s in found]) > 0).all()
    assert all(s.std > 0 and s.q_std > 0 for s in found)
    assert found[0].extrapolated and found[-1].extrapolated and not found[6].extrapolated
    assert found[0].score < SCORES[0] and found[-1].score > SCORES[-1]
    (middle,) = scale.solve(_preferred([0.1]))
    assert SCORES[1] < middle.score < SCORES[3]


def test_score_is_the_maximum_of_the_posterior_on_the_fitted_scale(scale):
    matrix = np.full((6, 6), 0.5)
    matrix[:5, :5] = scale.matrix
    p = _preferred([0.3])[0]
    matrix[5, :5], matrix[:5, 5] = p, 1 - p

    def loss(q):
        gap = q[:, None] - q[None]
        return -(matrix * stats.norm.logcdf(gap)).sum() + 0.5 * (q**2).sum()

    q = optimize.minimize(loss, np.zeros(6), tol=1e-12).x[-1]
    (found,) = scale.solve(p[None])
    np.testing.assert_allclose(found.q, q, atol=1e-4)
    expected, _ = thurstone.fit_score_map(scale.anchor_q, SCORES).apply(found.q)
    np.testing.assert_allclose(found.score, expected, atol=1e-9)


def test_many_videos_are_solved_as_one_by_one(scale):
    preferred = _preferred([-0.7, 0.0, 0.9])
    for row, found in zip(preferred, scale.solve(preferred), strict=True):
        (alone,) = scale.solve(row[None])
        assert found.score == pytest.approx(alone.score, abs=1e-9)
        assert found.std == pytest.approx(alone.std, abs=1e-9)


def test_what_was_not_seen_says_nothing(scale):
    q, std = scale.solve_q(np.full((1, 5), 0.9), np.zeros((1, 5), bool))
    np.testing.assert_allclose((q, std), [[0], [1]], atol=1e-9)  # the prior alone
    one = np.array([[False, False, True, False, False]])
    others = [_preferred([0.6]) * one + noise * ~one for noise in (0.1, 0.9)]
    np.testing.assert_allclose(*(scale.solve_q(p, one)[0] for p in others), atol=1e-9)


def test_anchors_in_no_order_are_refused():
    with pytest.raises(ValueError, match="against their scores"):
        AnchorScale(_preferred(QUALITIES), SCORES[::-1])
