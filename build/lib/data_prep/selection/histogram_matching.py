"""Chooses n of N rows so that many histograms match their targets at once (method 2).

The programme of Vonikakis, Subramanian, Arnfred & Winkler 2017: x in {0, 1}^N, exactly q_s rows
of every source s, and the least

    L(x) = sum over metrics m and bins k of |c_mk(x) - n t_mk|,   c = A x,

which is 2 n times the sum of the metrics' total variation distances. Small N: HiGHS solves it as
it stands. Large N: with multipliers |l_mk| <= 1 for the bins, Lagrangian duality says

    L(x) >= g(l) = -l n t + sum over sources of the q_s smallest of (A' l)_i,

for every x, whole or fractional; and l comes from the relaxation to x in [0, 1] with an entropy,
min L(x) - H(x) / B, whose dual is smooth, has one multiplier for each bin and source, and costs one
pass over the rows a step (L-BFGS-B in the box |l| <= 1). Where every target can be met it finds
the fractional x of largest entropy that meets them all; else B grows until L(x) is close to its
bound. Fractions are rounded by seed, q_s rows in every source, and what rounding has spoilt is
repaired by swaps inside a source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import optimize, sparse, special

_EXACT_ROWS = 500  # up to here the whole programme goes to HiGHS
_EXACT_NODES = 200  # of its search; a limit of time would make the result depend on the machine
_BOXES = (8.0, 32.0, 128.0, 512.0)  # B, in turn
_CLOSE = 1e-3  # mean total variation above the bound at which a fractional x is good enough
_ITERATIONS = 300
_REPAIR_ROUNDS = 60
_CANDIDATES = 2000  # swaps tried in a round


@dataclasses.dataclass(frozen=True)
class Matching:
    """A selection and how good it is.

    Attributes:
      chosen: bool [N].
      distances: [M] total variation distance of each metric's histogram from its target, 0..1.
      bound: no selection with these quotas has a mean total variation distance below this.
      exact: whether HiGHS proved the selection to be the best there is.
    """

    chosen: np.ndarray
    distances: np.ndarray
    bound: float
    exact: bool

    @property
    def gap(self) -> float:
        """Mean total variation distance above the bound."""
        return max(0.0, float(self.distances.mean()) - self.bound)


def match_histograms(
    bins: np.ndarray,
    targets: np.ndarray,
    sources: np.ndarray,
    quotas: Sequence[int],
    seed: int,
) -> Matching:
    """Selects quotas[s] rows of each source s, all histograms as close to the targets as can be.

    Args:
      bins: integers [M, N], bin of row i by metric m, in [0, K).
      targets: [M, K] shares, each row sums to 1.
      sources: integers [N] in [0, S).
      quotas: rows to take of each source, no more than it has, at least one in all.
      seed: of the rounding and the repair.
    """
    problem = _Problem(bins, targets, sources, quotas)
    fractions, bound = _relax(problem)
    rng = np.random.default_rng(seed)
    chosen = _round(problem, fractions, rng)
    _repair(problem, chosen, rng)
    exact = False
    if bins.shape[1] <= _EXACT_ROWS:
        found, proven = _solve_exactly(problem)
        bound = max(bound, proven)
        if found is not None and problem.loss(found) < problem.loss(chosen):
            chosen = found
        exact = problem.loss(chosen) <= bound + 1e-6
    scale = 2 * problem.total * len(targets)
    return Matching(chosen, problem.distances(chosen), float(bound / scale), bool(exact))


class _Problem:
    """The programme in matrix form: one column for each bin of each metric, then each source."""

    def __init__(
        self, bins: np.ndarray, targets: np.ndarray, sources: np.ndarray, quotas: Sequence[int]
    ):
        self.num_metrics, self.num_bins = targets.shape
        num_rows = bins.shape[1]
        self.sources, self.quotas = sources, np.asarray(quotas, np.int64)
        self.total = int(self.quotas.sum())
        self.wanted = (targets * self.total).ravel()
        # columns[i]: the bins of row i.
        offsets = np.arange(self.num_metrics, dtype=np.int32) * self.num_bins
        self.columns = np.ascontiguousarray((bins + offsets[:, None]).T, np.int32)
        starts = np.arange(num_rows + 1, dtype=np.int64) * self.num_metrics
        shape = (num_rows, self.wanted.size)
        ones = np.ones(self.columns.size)
        self.matrix = sparse.csr_array((ones, self.columns.ravel(), starts), shape=shape)
        self.rows_of = [np.flatnonzero(sources == s) for s in range(self.quotas.size)]

    def loss(self, x: np.ndarray) -> float:
        return float(np.abs(self.matrix.T @ x.astype(np.float64) - self.wanted).sum())

    def distances(self, x: np.ndarray) -> np.ndarray:
        off = np.abs(self.matrix.T @ x.astype(np.float64) - self.wanted) / self.total
        return off.reshape(self.num_metrics, -1).sum(axis=1) / 2

    def bound(self, multipliers: np.ndarray) -> float:
        """g of the module's docstring for multipliers [M * K] in [-1, 1]."""
        prices = self.matrix @ multipliers
        value = -float(multipliers @ self.wanted)
        for rows, quota in zip(self.rows_of, self.quotas, strict=True):
            if quota:
                value += float(np.partition(prices[rows], quota - 1)[:quota].sum())
        return value


def _relax(problem: _Problem) -> tuple[np.ndarray, float]:
    """(fractions [N] in [0, 1], lower bound of the loss)."""
    size = problem.wanted.size
    wanted = np.concatenate([problem.wanted, problem.quotas]) / problem.total
    point = np.zeros(wanted.size)
    sizes = np.array([max(1, len(rows)) for rows in problem.rows_of])
    share = np.clip(problem.quotas / sizes, 1e-9, 1 - 1e-9)
    point[size:] = np.log((1 - share) / share)  # without prices, every row with its source's share

    def fractions_at(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        price = problem.matrix @ z[:size] + z[size:][problem.sources]
        return price, special.expit(-price)

    def dual(z: np.ndarray) -> tuple[float, np.ndarray]:
        price, x = fractions_at(z)
        counts = np.concatenate(
            [problem.matrix.T @ x, np.bincount(problem.sources, x, problem.quotas.size)]
        )
        entropy = float(np.logaddexp(0, -price).sum())
        return float(z @ wanted) + entropy / problem.total, wanted - counts / problem.total

    bound, x = 0.0, None
    for box in _BOXES:
        limits = [(-box, box)] * size + [(None, None)] * problem.quotas.size
        found = optimize.minimize(
            dual,
            point,
            jac=True,
            method="L-BFGS-B",
            bounds=limits,
            options={"maxiter": _ITERATIONS, "gtol": 1e-6, "ftol": 1e-13, "maxcor": 30},
        )
        point = found.x
        x = fractions_at(point)[1]
        bound = max(bound, problem.bound(np.clip(point[:size] / box, -1, 1)))
        if problem.loss(x) - bound <= _CLOSE * 2 * problem.total * problem.num_metrics:
            break
    return x, bound


def _round(problem: _Problem, fractions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bool [N]: systematic sampling in random order; each row's chance is about its fraction."""
    chosen = np.zeros(fractions.size, bool)
    for rows, quota in zip(problem.rows_of, problem.quotas, strict=True):
        if not quota:
            continue
        rows = rng.permutation(rows)
        # Fractions add up to the quota but for the tolerance of the solver. With every row below 1
        # the points of a grid of step 1 fall on different rows.
        x = np.clip(fractions[rows], 1e-12, 1)
        x *= quota / x.sum()
        spill = np.clip(x, None, 1)
        room = 1 - spill
        if room.sum() > 0:
            spill += room * (quota - spill.sum()) / room.sum()
        edges = np.cumsum(spill)
        points = np.arange(quota) + rng.uniform()
        places = np.searchsorted(edges, points * (edges[-1] / quota), side="right")
        chosen[rows[np.unique(np.minimum(places, len(rows) - 1))]] = True
        missing = quota - np.count_nonzero(chosen[rows])
        if missing:  # rounding errors of the sums: a handful
            chosen[rows[~chosen[rows]][:missing]] = True
    return chosen


def _repair(problem: _Problem, chosen: np.ndarray, rng: np.random.Generator) -> None:
    """Swaps rows inside sources, in place, as long as that brings the histograms closer."""
    off = problem.matrix.T @ chosen.astype(np.float64) - problem.wanted
    for _ in range(_REPAIR_ROUNDS):
        # What leaving (or joining) would change, to first order; ties in random order.
        value = problem.matrix @ np.clip(off, -1, 1) + rng.uniform(0, 0.5, chosen.size)
        accepted = 0
        for rows, quota in zip(problem.rows_of, problem.quotas, strict=True):
            inside, outside = rows[chosen[rows]], rows[~chosen[rows]]
            count = int(min(_CANDIDATES * quota / problem.total + 1, len(inside), len(outside)))
            if not count:
                continue
            leaving = inside[_smallest(-value[inside], count)]
            joining = outside[_smallest(value[outside], count)]
            for i, j in zip(leaving, joining, strict=True):
                accepted += _swap_if_better(problem.columns, off, chosen, int(i), int(j))
        if not accepted:
            break


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` smallest values, in ascending order of value."""
    places = np.argpartition(values, count - 1)[:count]
    return places[np.argsort(values[places], kind="stable")]


def _swap_if_better(
    columns: np.ndarray, off: np.ndarray, chosen: np.ndarray, i: int, j: int
) -> bool:
    """Takes row j instead of row i if the loss falls; keeps `off` (counts - wanted) up to date."""
    left, joined = columns[i], columns[j]
    differ = left != joined
    left, joined = left[differ], joined[differ]
    change = (
        np.abs(off[left] - 1) - np.abs(off[left]) + np.abs(off[joined] + 1) - np.abs(off[joined])
    )
    if change.sum() >= -1e-9:
        return False
    off[left] -= 1
    off[joined] += 1
    chosen[i], chosen[j] = False, True
    return True


def _solve_exactly(problem: _Problem) -> tuple[np.ndarray | None, float]:
    """(best x found or None, proven lower bound of the loss), by HiGHS.

    Variables: x, then one deviation e_c >= |(A x)_c - wanted_c| for each bin.
    """
    num_rows, size = problem.matrix.shape
    counts, unit = problem.matrix.T, sparse.eye_array(size)
    membership = sparse.csr_array(
        (np.ones(num_rows), (problem.sources, np.arange(num_rows))),
        shape=(problem.quotas.size, num_rows),
    )
    none = sparse.csr_array((problem.quotas.size, size))
    constraints = [
        optimize.LinearConstraint(sparse.hstack([counts, -unit]), -np.inf, problem.wanted),
        optimize.LinearConstraint(sparse.hstack([counts, unit]), problem.wanted, np.inf),
        optimize.LinearConstraint(
            sparse.hstack([membership, none]), problem.quotas, problem.quotas
        ),
    ]
    is_choice = np.arange(num_rows + size) < num_rows
    result = optimize.milp(
        np.where(is_choice, 0.0, 1.0),
        integrality=is_choice.astype(int),
        bounds=optimize.Bounds(0, np.where(is_choice, 1.0, np.inf)),
        constraints=constraints,
        options={"node_limit": _EXACT_NODES, "mip_rel_gap": 0},
    )
    bound = result.mip_dual_bound
    found = None if result.x is None else result.x[:num_rows] > 0.5
    return found, 0.0 if bound is None or not np.isfinite(bound) else float(bound)
