"""What is told of relabelled pairs."""

import numpy as np
import pytest
from scipy import stats

from vqa_jax.loop import facts


def test_agreement_and_entropy():
    old = ["worse", None, "similar", "better", "superior", "better"]
    new = ["worse", "better", "better", "inferior", "better", "better"]
    found = facts.label_agreement(old, new)
    assert found["pairs"] == 5 and found["same"] == pytest.approx(2 / 5)
    assert found["direction"] == pytest.approx(3 / 4)
    assert found["matrix"][3][0] == found["matrix"][2][3] == 1 and np.sum(found["matrix"]) == 5
    assert facts.label_agreement([None], ["worse"])["same"] is None
    probs = np.array([[0.2] * 5, [0, 0, 1, 0, 0], [0.1, 0.2, 0.3, 0.2, 0.2]])
    np.testing.assert_allclose(facts.entropy(probs), stats.entropy(probs, axis=1))
