"""Calibrated deviations: the shares that lie within them, on errors of a known kind."""

import numpy as np
import pytest

from vqa_jax.scoring import calibration


def test_the_stated_share_of_human_scores_lies_within_one_deviation():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 100, 4000)
    width = np.where(scores < 50, 20.0, 5.0)
    mos = scores + rng.normal(size=len(scores)) * width
    knots = calibration.fit(scores[:2000], mos[:2000])
    std = np.array([calibration.deviation(knots, score) for score in scores[2000:]])
    inside = np.abs(scores - mos)[2000:] <= std
    assert abs(inside.mean() - calibration.SHARE) < 0.04
    low, high = (calibration.deviation(knots, score) for score in (10.0, 90.0))
    assert low > 3 * high


def test_beyond_the_knots_the_nearest_holds():
    knots = (calibration.Knot(20.0, 8.0), calibration.Knot(60.0, 4.0))
    assert calibration.deviation(knots, -50.0) == 8.0
    assert calibration.deviation(knots, 40.0) == 6.0
    assert calibration.deviation(knots, 400.0) == 4.0


@pytest.mark.parametrize(
    ("scores", "mos"), [([1.0] * 5, [2.0] * 5), ([1.0] * 30, [float("nan")] * 30)]
)
def test_too_few_or_broken_numbers_are_refused(scores, mos):
    with pytest.raises(ValueError, match=r"finite|least"):
        calibration.fit(scores, mos)
