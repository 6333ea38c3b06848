"""The authors' rule, against the optimum that its fifty steps are meant for."""

import numpy as np
from scipy import stats

from tests.fixtures.known_qualities import QUALITIES
from vqa_jax.scoring import thurstone, w2s


def test_w2s_is_the_authors_rule():
    matrix = stats.norm.cdf(np.subtract.outer(QUALITIES, QUALITIES))
    preferred = stats.norm.cdf(np.subtract.outer(np.linspace(-2.0, 2.0, 41), QUALITIES))
    found = w2s.w2s_scores(preferred, matrix)
    assert found[-1] == 100 and found[0] == 0  # what lies beyond the anchors is clipped
    np.testing.assert_array_equal(found, w2s.w2s_scores(preferred, matrix))
    # 50 steps come near the optimum that they are meant for.
    q, _ = thurstone.map_scores(thurstone.preference_matrix(preferred, matrix), "logistic")
    np.testing.assert_allclose(found, thurstone.minmax_score(q), atol=10)
