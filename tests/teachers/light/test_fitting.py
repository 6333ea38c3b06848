"""Regressions are fitted so that they hold on rows that they did not see."""

import numpy as np
from scipy import stats

from vqa_jax.teachers.light import fitting


def test_a_bent_relation_is_learnt_and_stored_numbers_are_the_fitted_ones():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)).astype(np.float32)
    scores = 50 + 10 * np.sin(2 * features[:, 0]) + 5 * features[:, 1] + rng.normal(size=300)
    fitted = fitting.fitted(features[:200], scores[:200], np.arange(200), seed=0)
    found = fitted(features[200:])
    assert stats.spearmanr(found, scores[200:]).statistic > 0.85
    assert fitted.landmarks.dtype == fitted.basis.dtype == np.float16
    again = fitting.fitted(features[:200], scores[:200], np.arange(200), seed=0)
    np.testing.assert_array_equal(again.weights, fitted.weights)


def test_many_features_are_turned_into_a_few_directions(monkeypatch):
    monkeypatch.setattr(fitting, "DIRECTIONS", 4)
    monkeypatch.setattr(fitting, "LANDMARKS", 30)
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(120, 3))
    features = (hidden @ rng.normal(size=(3, 40))).astype(np.float32)
    features[:, 7] = 3.0  # tells nothing, and must not blow up where it changes
    fitted = fitting.fitted(features[:90], hidden[:90, 0], np.arange(90), seed=0)
    assert fitted.basis.shape == (40, 4) and fitted.landmarks.shape == (30, 4)
    assert stats.spearmanr(fitted(features[90:]), hidden[90:, 0]).statistic > 0.95
