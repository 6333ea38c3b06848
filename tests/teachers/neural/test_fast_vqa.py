"""FAST-VQA: the scale of its score."""

import numpy as np

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers.neural import fast_vqa


def test_scales_of_scores():
    """At the mean and one std above it: the logistic function of 0 and 1."""
    found = fast_vqa.unit_score(np.array([-0.110198185, -0.06841253]))
    np.testing.assert_allclose(found, [0.5, 0.7310586], **TOLERANCES["scores_and_losses"])
