"""Dead leaves: the law of their sizes."""

import numpy as np
import scipy.stats

from data_prep.scenes import dead_leaves


def test_radii_follow_the_cubic_law():
    radii = dead_leaves.sample_radii(np.random.default_rng(0), 4000, 5.0, 120.0)
    low, high = 5.0**-2, 120.0**-2
    result = scipy.stats.kstest(radii, lambda r: (low - r**-2.0) / (low - high))
    assert result.pvalue > 0.01
