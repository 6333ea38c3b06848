"""Bits saved at equal quality: published examples, a closed formula, and curves that fall."""

import numpy as np
import pytest

from vqa_jax.benchmarks.bd_rate import bd_rate, knee, rising

# Sequences of JCT-VC's common test conditions, with the spreadsheet's BD-rate (as in the tests of
# Netflix's VMAF, bd_rate_calculator_test.py): kbit/s, dB.
PUBLISHED = [
    (
        [(108048.8736, 43.6471), (61279.976, 40.3953), (33905.6656, 37.247), (18883.6928, 34.2911)],
        [
            (108061.2784, 43.6768),
            (61299.9936, 40.4232),
            (33928.7472, 37.2761),
            (18910.912, 34.3147),
        ],
        -0.00465215420752807,
    ),
    (
        [(40433.8848, 37.5761), (7622.7456, 35.3756), (2394.488, 33.8977), (1017.6184, 32.0603)],
        [(40370.12, 37.5982), (7587.0024, 35.4025), (2390.0944, 33.9194), (1017.0984, 32.0822)],
        -0.018779823450567612,
    ),
]


@pytest.mark.parametrize(("first", "other", "saved"), PUBLISHED)
def test_published_examples(first, other, saved):
    curves = [list(zip(*curve, strict=True)) for curve in (first, other)]
    assert bd_rate(*curves[0], *curves[1]) == pytest.approx(saved, abs=5e-5)
    assert bd_rate(*curves[0], *curves[0]) == 0


def test_a_constant_share_of_bits_is_found_whatever_the_order_and_the_points():
    quality = np.array([30.0, 33.0, 35.0, 39.0])
    rates = np.exp(quality / 4)
    assert bd_rate(rates, quality, 0.7 * rates, quality) == pytest.approx(-0.3, abs=1e-12)
    assert bd_rate(rates, quality, 0.7 * rates[::-1], quality[::-1]) == pytest.approx(-0.3)
    # log rate is linear in quality, which a PCHIP meets exactly at other points too.
    other = np.array([31.0, 34.0, 38.0, 41.0])
    found = bd_rate(rates, quality, 1.25 * np.exp(other / 4), other)
    assert found == pytest.approx(0.25, abs=1e-12)


def test_what_cannot_be_compared_is_none():
    assert bd_rate([1, 2], [1, 2], [1, 2], [3, 4]) is None
    assert bd_rate([1, 2], [1, 2], [1], [1.5]) is None
    assert bd_rate([1, 2], [2, 1], [1, 2], [1, 2]) is None  # pooled to one point
    for rates, qualities in (([0, 1], [1, 2]), ([], []), ([1, 2], [np.nan, 1])):
        with pytest.raises(ValueError, match="rate"):
            rising(rates, qualities)


def test_a_fall_is_pooled_with_what_it_falls_from():
    rate, quality = rising([8, 1, 4, 2], [5, 1, 2, 3])
    np.testing.assert_allclose(quality, [1, 2.5, 5])
    np.testing.assert_allclose(rate, np.log([1, np.sqrt(8), 8]))


def test_the_knee_is_the_point_farthest_above_the_chord():
    rates = [100, 200, 400, 800, 1600]
    assert knee(rates, [0, 5, 8, 9, 10]) == 2
    assert knee(rates[::-1], [10, 9, 8, 5, 0]) == 2
    assert knee(rates, [0, 0, 1, 2, 10]) is None
    assert knee(rates[:2], [0, 1]) is None and knee([5, 5, 5], [0, 1, 2]) is None
