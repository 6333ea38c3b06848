"""Regressions are fitted so that they hold on rows that they did not see."""

import numpy as np
from scipy import stats

from vqa_jax.teachers.light import fitting, regression


def test_a_bent_relation_is_learnt_and_stored_numbers_are_the_fitted_ones():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)).astype(np.float32)
    scores = 50 + 10 * np.sin(2 * features[:, 0]) + 5 * features[:, 1] + rng.normal(size=300)
    ones, shown = np.ones(6, np.float32), (features[:200], scores[:200])
    shape = fitting.chosen_shape(*shown, ones, seed=0)
    fitted = fitting.fitted(*shown, ones, shape, fitting.SHIPPED, seed=0)
    found = fitted(features[200:])
    assert stats.spearmanr(found, scores[200:]).statistic > 0.85
    assert fitted.landmarks.dtype == fitted.basis.dtype == np.float16
    assert fitting.chosen_shape(*shown, ones, seed=0) == shape
    again = fitting.fitted(*shown, ones, shape, fitting.SHIPPED, seed=0)
    np.testing.assert_array_equal(again.weights, fitted.weights)


def test_weights_are_the_least_of_squared_errors_and_penalty():
    """By a general solver: the penalty's root as further rows of least squares."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    scores = features[:, 0] ** 2 + rng.normal(size=60)
    balance = np.array([1, 2, 1, 0.5], np.float32)
    shape, size = fitting.Shape(width=0.5, strength=0.3), fitting.Size(4, 20)
    found = fitting.fitted(features, scores, balance, shape, size, seed=0)
    np.testing.assert_allclose(np.diag(found.basis), balance)
    z = regression.projected(features, found.mean, found.scale, found.basis)
    columns = regression.design(z, found.landmarks, float(found.gamma))
    marks = found.landmarks.astype(np.float64)
    squared = ((marks[:, None] - marks) ** 2).sum(-1)
    penalty = np.zeros((24, 24))
    penalty[:20, :20] = np.exp(-float(found.gamma) * squared)
    penalty[range(20, 24), range(20, 24)] = np.mean((z.astype(np.float64) ** 2).sum(1)) / 0.1
    root = np.linalg.cholesky(penalty + 1e-6 * np.eye(24)).T * np.sqrt(shape.strength)
    rows = np.concatenate([columns, np.pad(root, ((0, 0), (0, 1)))])
    wanted = np.linalg.lstsq(rows, np.pad(scores, (0, 24)), rcond=None)[0]
    np.testing.assert_allclose(columns @ found.weights, columns @ wanted, atol=1e-3)


def test_many_features_are_turned_into_a_few_directions():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(120, 3))
    features = (hidden @ rng.normal(size=(3, 40))).astype(np.float32)
    features[:, 7] = 3.0  # tells nothing, and must not blow up where it changes
    shape, size = fitting.Shape(width=0.3, strength=0.1), fitting.Size(4, 30)
    ones = np.ones(40, np.float32)
    fitted = fitting.fitted(features[:90], hidden[:90, 0], ones, shape, size, seed=0)
    assert fitted.basis.shape == (40, 4) and fitted.landmarks.shape == (30, 4)
    assert stats.spearmanr(fitted(features[90:]), hidden[90:, 0]).statistic > 0.95


def test_errors_of_rows_left_out_are_those_of_fits_without_them():
    rng = np.random.default_rng(2)
    columns, scores = rng.normal(size=(12, 3)), rng.normal(size=12) + 5
    prior = np.array([[2.0, 0.5, 0], [0.5, 1, 0], [0, 0, 3]])
    found = fitting.left_out_errors(columns, prior, scores)
    for strength, error in zip(fitting._STRENGTHS, found, strict=True):
        squares = []
        for k in range(12):
            x, y = np.delete(columns, k, 0), np.delete(scores, k)
            centred = x - x.mean(0)
            weights = np.linalg.solve(centred.T @ centred + strength * prior, centred.T @ y)
            squares.append((scores[k] - y.mean() - (columns[k] - x.mean(0)) @ weights) ** 2)
        np.testing.assert_allclose(error, np.mean(squares))
