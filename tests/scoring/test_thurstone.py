"""MAP scores against goldens, a general optimizer and properties."""

import json

import numpy as np
import pytest
from scipy import optimize, stats

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.scoring import thurstone


def _matrix(seed, n=6, batch=()):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.uniform(size=(*batch, n, n)), 1)
    return upper + np.tril(1 - np.swapaxes(upper, -1, -2), -1) + 0.5 * np.eye(n)


@pytest.mark.parametrize(("link", "key"), [("normal", "thurstone"), ("logistic", "logistic")])
def test_matches_goldens_in_one_batch(shared, link, key):
    cases = json.loads((shared / "golden/math/map_scores.json").read_text())
    cases = [c for c in cases if len(c["matrix"]) == len(cases[0]["matrix"])]
    matrix = np.array([c["matrix"] for c in cases])
    scores, std = thurstone.map_scores(matrix, link)
    want = np.array([c[key] for c in cases])
    np.testing.assert_allclose(scores, want, **TOLERANCES["scores_and_losses"])
    objective = -thurstone.log_posterior(matrix, scores, link)
    np.testing.assert_allclose(objective, [c[f"{key}_objective"] for c in cases], rtol=1e-9)
    assert std.shape == scores.shape


@pytest.mark.parametrize("link", ["normal", "logistic"])
def test_scores_and_std_match_a_general_optimizer(link):
    matrix = _matrix(0, n=5)

    def objective(q):
        return -thurstone.log_posterior(matrix, q, link)

    best = optimize.minimize(objective, np.zeros(5), tol=1e-12).x
    h = 1e-4
    eye = h * np.eye(5)
    hessian = np.array(
        [
            [
                objective(best + a + b)
                - objective(best + a - b)
                - objective(best - a + b)
                + objective(best - a - b)
                for b in eye
            ]
            for a in eye
        ]
    ) / (4 * h * h)
    scores, std = thurstone.map_scores(matrix, link)
    np.testing.assert_allclose(scores, best, atol=1e-5)
    np.testing.assert_allclose(std, np.sqrt(np.diag(np.linalg.inv(hessian))), rtol=1e-4)


@pytest.mark.parametrize("link", ["normal", "logistic"])
def test_separable_matrices_stay_finite_and_ordered(link):
    n = 40
    matrix = np.triu(np.zeros((n, n)), 1) + np.tril(np.ones((n, n)), -1) + 0.5 * np.eye(n)
    scores, std = thurstone.map_scores(matrix, link)
    assert np.isfinite(scores).all() and np.isfinite(std).all()
    assert (np.diff(scores) > 0).all()
    assert abs(scores.sum()) < 1e-8


def test_batch_equals_singles_and_transpose_turns_the_sign():
    matrix = _matrix(1, batch=(2, 3))
    scores, std = thurstone.map_scores(matrix)
    one, one_std = thurstone.map_scores(matrix[1, 2])
    np.testing.assert_allclose(scores[1, 2], one, atol=1e-9)
    np.testing.assert_allclose(std[1, 2], one_std, rtol=1e-9)
    turned, _ = thurstone.map_scores(np.swapaxes(matrix, -1, -2))
    np.testing.assert_allclose(turned, -scores, atol=1e-9)
    empty, _ = thurstone.map_scores(np.zeros((0, 6, 6)))
    assert empty.shape == (0, 6)


def test_preferred_test_video_scores_higher():
    anchors = thurstone.average_orders(np.array([[0, 0.8, 0.9], [0.3, 0, 0.7], [0.1, 0.2, 0]]))
    np.testing.assert_allclose(anchors[0, 1], 0.5 * (0.3 + 1 - 0.8))  # 1 is better than 0
    probs = np.array([[0.1, 0.1, 0.1], [0.6, 0.5, 0.4], [0.95, 0.9, 0.9]])
    matrix = thurstone.preference_matrix(probs, anchors)
    assert matrix.shape == (3, 4, 4)
    np.testing.assert_allclose(matrix + np.swapaxes(matrix, -1, -2), 1)
    np.testing.assert_allclose(matrix[:, 3, :3], probs)
    scores, _ = thurstone.map_scores(matrix)
    assert scores[0, 3] < scores[1, 3] < scores[2, 3]
    assert (scores[:, 2] > scores[:, 0]).all()
    np.testing.assert_allclose(thurstone.minmax_score(scores)[[0, 2]], [0, 100])


def test_anchor_scale_is_exact_at_anchors_linear_beyond_and_monotone():
    q, mos = [-0.8, -0.3, 0.0, 0.4, 0.7], [39.56, 50.23, 60.62, 69.43, 78.03]
    scale = thurstone.fit_score_map(q, mos)
    score, outside = scale.apply(q)
    np.testing.assert_allclose(score, mos)
    assert not outside.any()
    grid = np.linspace(-2, 2, 401)
    score, outside = scale.apply(grid)
    assert (np.diff(score) > 0).all()
    np.testing.assert_array_equal(outside, (grid < -0.8) | (grid > 0.7))
    np.testing.assert_allclose(np.diff(score[grid > 0.71], 2), 0, atol=1e-9)
    np.testing.assert_allclose(scale.slope(1.5), (78.03 - 69.43) / 0.3, rtol=1e-6)


def test_anchors_out_of_order_are_pooled():
    scale = thurstone.fit_score_map([-1, 0.2, 0.1, 1], [20, 40, 60, 80])
    assert scale.knots_score == (20, 50, 80)
    assert (np.diff(scale.apply(np.linspace(-2, 2, 99))[0]) > 0).all()
    with pytest.raises(ValueError, match="against their scores"):
        thurstone.fit_score_map([1, 0, -1], [1, 2, 3])


def test_a_map_through_many_anchors_has_no_steps():
    # People and student err by ten points about a straight scale; the straight line is the truth.
    grid = np.linspace(-1, 1, 201)
    steepest, error = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        q = np.linspace(-1.2, 1.2, 40)
        scale = thurstone.fit_score_map(q, 50 + 40 * q + rng.normal(0, 10, 40))
        score, outside = scale.apply(grid)
        assert not outside.any() and (np.diff(score) > 0).all()
        steepest.append(scale.slope(grid).max())
        error.append(np.abs(score - 50 - 40 * grid).mean())
    assert np.mean(steepest) < 3 * 40  # through each anchor: 4 times as steep as the truth
    assert np.mean(error) < 10 / np.sqrt(40 / 6)  # of the mean of a group


def test_few_anchors_keep_their_scores_each():
    q, mos = np.arange(11.0), np.arange(11.0) ** 2
    np.testing.assert_allclose(thurstone.fit_score_map(q, mos).apply(q)[0], mos)


@pytest.mark.parametrize(
    "call",
    [
        lambda: thurstone.map_scores(np.zeros((2, 3))),
        lambda: thurstone.map_scores(np.full((2, 2), np.nan)),
        lambda: thurstone.map_scores(np.full((2, 2), 1.5)),
        lambda: thurstone.map_scores(np.eye(2), link="probit"),
        lambda: thurstone.preference_matrix(np.zeros(4), np.eye(5)),
        lambda: thurstone.fit_score_map([1.0], [2.0]),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()


def test_blocks_of_many_problems_reach_the_optimum_whatever_their_company():
    matrix = _matrix(7, batch=(2500,))
    matrix[::7] = 0.5  # uninformative
    matrix[1::7] = np.tril(np.ones((6, 6)), -1) + 0.5 * np.eye(6)  # separable: many steps
    scores, std = thurstone.map_scores(matrix)
    gap = scores[:, :, None] - scores[:, None, :]
    pull = matrix * np.exp(stats.norm.logpdf(gap) - stats.norm.logcdf(gap))
    gradient = pull.sum(axis=2) - pull.sum(axis=1) - scores
    # The negative Hessian is at least 1, so this bounds the distance to the optimum.
    assert np.linalg.norm(gradient, axis=1).max() < 1e-9
    assert np.isfinite(std).all()
    np.testing.assert_allclose(scores[0], 0, atol=1e-12)
    np.testing.assert_array_equal(scores[8], scores[1])
