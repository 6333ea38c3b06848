"""gMAD over all teachers, and what is told of its pairs."""

import collections
import itertools

import numpy as np
import pytest
from scipy import stats

from vqa_jax.loop import facts
from vqa_jax.pairs import gmad, levels


def _case(seed=0, videos=200, teachers=4):
    rng = np.random.default_rng(seed)
    student = rng.normal(size=videos)
    weak = rng.uniform(0, 100, (videos, teachers))
    weak[rng.random(weak.shape) < 0.05] = np.nan
    return student, weak, [f"t{k}" for k in range(teachers)], [f"v{k:03d}" for k in range(videos)]


@pytest.mark.parametrize("xi", [1.0, 0.25])
def test_all_couples_share_quota_and_uses(xi):
    student, weak, names, ids = _case()
    banned = {frozenset((a, b)) for a, b in itertools.combinations(ids[:40], 2)}
    found = gmad.against_all(student, weak, names, ids, 110, 5, 3, xi, banned)
    assert len(found) == 110
    shares = collections.Counter((p.weak, p.attacker) for p in found)
    assert {p for p, _ in shares} == set(names)
    assert sorted(sum(shares[n, a] for a in ("student", "weak")) for n in names) == [27, 27, 28, 28]
    assert all(abs(shares[n, "student"] - shares[n, "weak"]) <= 1 for n in names)
    unordered = [frozenset((p.first_id, p.second_id)) for p in found]
    assert len(set(unordered)) == 110 and not banned & set(unordered)
    uses = collections.Counter(itertools.chain.from_iterable(unordered))
    assert max(uses.values()) <= 3
    row = {key: k for k, key in enumerate(ids)}
    for pair in found:
        a, b = row[pair.first_id], row[pair.second_id]
        column = weak[:, names.index(pair.weak)]
        attacker, defender = (student, column) if pair.attacker == "student" else (column, student)
        assert pair.gap == pytest.approx(abs(attacker[a] - attacker[b]))
        bins, width = gmad.quality_bins(defender, 5)
        assert bins[a] == bins[b] == pair.bin
        assert abs(defender[a] - defender[b]) <= xi * width


def test_what_one_teacher_cannot_fill_goes_to_the_others():
    student, weak, names, ids = _case()
    weak[:, 0] = np.nan
    found = gmad.against_all(student, weak, names, ids, 60, 5, 8)
    assert len(found) == 60
    assert collections.Counter(p.weak for p in found) == {"t1": 20, "t2": 20, "t3": 20}


def test_posterior_is_alike_in_both_orders():
    forward, backward = np.random.default_rng(0).normal(size=(2, 6, 5))
    found = levels.posterior(forward, backward)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, levels.posterior(backward, forward)[:, ::-1])


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
