"""Curves of quality over bitrate: how many bits one saves against another, and where it bends.

Bjontegaard, VCEG-M33 (2001): the mean difference of the logarithm of the rate over the qualities
that both curves reach. Between their points the curves are monotone cubics (PCHIP) of log rate by
quality, as the common test conditions of HEVC and VVC have it (JCTVC-L1100), not one polynomial.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import interpolate, optimize

_LEAST_KNEE = 3  # points that have one between two others


def bd_rate(
    rates: Sequence[float],
    qualities: Sequence[float],
    other_rates: Sequence[float],
    other_qualities: Sequence[float],
) -> float | None:
    """Mean difference of the bitrate at equal quality, of the other curve against the first.

    Points that are worse than ones of fewer bits are pooled with them (isotonic regression), so
    that either curve rises.

    Args:
      rates, qualities: [n] of the first curve, in any order; rates above 0, higher is better.
      other_rates, other_qualities: [m] of the other curve.

    Returns:
      -0.3 where the other one needs 30% fewer bits; None where no stretch of quality is common to
      both or a curve has fewer than two qualities.
    """
    curves = [rising(rates, qualities), rising(other_rates, other_qualities)]
    if any(len(quality) < 2 for _, quality in curves):
        return None
    low, high = max(q[0] for _, q in curves), min(q[-1] for _, q in curves)
    if low >= high:
        return None
    first, other = (interpolate.PchipInterpolator(q, rate) for rate, q in curves)
    return float(np.expm1((other.integrate(low, high) - first.integrate(low, high)) / (high - low)))


def rising(rates: Sequence[float], qualities: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Log rates and qualities of a curve's points, both increasing; what does not rise is pooled.

    Raises:
      ValueError: no points, rates that are not above 0, or what is not finite.
    """
    rate, quality = np.asarray(rates, float), np.asarray(qualities, float)
    if rate.ndim != 1 or rate.shape != quality.shape or not rate.size:
        raise ValueError(f"a curve is points (rate, quality), got {rate.shape}, {quality.shape}")
    if not (np.isfinite(rate).all() and np.isfinite(quality).all() and (rate > 0).all()):
        raise ValueError("rates must be above 0, rates and qualities finite")
    order = np.lexsort((quality, rate))
    fitted = optimize.isotonic_regression(quality[order]).x
    pooled = [(q, fitted == q) for q in np.unique(fitted)]
    return (
        np.array([np.log(rate[order][same]).mean() for _, same in pooled]),
        np.array([q for q, _ in pooled]),
    )


def knee(rates: Sequence[float], qualities: Sequence[float]) -> int | None:
    """Number of the point after which more bits bring little.

    It is the one farthest above the line between the cheapest and the dearest point, logarithm of
    the rate and quality both scaled to 0..1 (Satopaa et al. 2011); None where there is none above
    it, or there are fewer than three points.
    """
    if len(rates) < _LEAST_KNEE:
        return None
    rate, quality = np.log(np.asarray(rates, float)), np.asarray(qualities, float)
    low, high = np.argmin(rate), np.argmax(rate)
    if rate[low] == rate[high] or quality[high] <= quality[low]:
        return None
    above = (quality - quality[low]) / (quality[high] - quality[low])
    above -= (rate - rate[low]) / (rate[high] - rate[low])
    best = int(np.argmax(above))
    return best if above[best] > 0 else None
