"""gMAD against brute force."""

import collections
import itertools

import numpy as np
import pytest

from tests.fixtures import simulated_sets
from vqa_jax.pairs import gmad
from vqa_jax.pairs import table as pairs


def _brute_force(student, weak, ids, quota, num_bins, max_per_video, xi):
    uses, taken, result = collections.Counter(), set(), []
    halves = ((quota + 1) // 2, quota // 2)
    for role, (attacker, defender) in enumerate(((student, weak), (weak, student))):
        low, high = np.percentile(defender, [1, 99])
        width = (high - low) / num_bins
        limit = width if xi[role] is None else xi[role]
        rank = {
            v: r
            for r, v in enumerate(
                sorted(range(len(ids)), key=lambda v: (attacker[v], pairs.order_key(ids[v])))
            )
        }
        lists = []
        for b in range(num_bins):
            members = [
                v
                for v in range(len(ids))
                if low <= defender[v] <= high
                and min(int((defender[v] - low) / width), num_bins - 1) == b
            ]
            candidates = []
            for v, w in itertools.combinations(members, 2):
                v, w = sorted((v, w), key=rank.get)
                gap = attacker[w] - attacker[v]
                if gap > 0 and abs(defender[v] - defender[w]) <= limit:
                    candidates.append((-gap, rank[v], -rank[w], v, w))
            chosen = []
            for negative, _, _, v, w in sorted(candidates):
                free = uses[v] < max_per_video and uses[w] < max_per_video
                if free and frozenset((v, w)) not in taken:
                    chosen.append((-negative, b, frozenset((ids[v], ids[w]))))
                    uses.update((v, w))
            lists.append(chosen)
        ranked = sorted(
            ((turn, -gap, b, key) for row in lists for turn, (gap, b, key) in enumerate(row)),
            key=lambda x: x[:3],
        )[: halves[role]]
        result += [(b, -gap, key) for _, gap, b, key in ranked]
        index = {x: k for k, x in enumerate(ids)}
        uses = collections.Counter(index[x] for *_, key in result for x in key)
        taken = {frozenset(index[x] for x in key) for *_, key in result}
    return result


@pytest.mark.parametrize("case", range(6))
def test_gmad_equals_brute_force(case):
    rng = np.random.default_rng(case)
    n = 90
    weak = rng.normal(size=n)
    student = 0.5 * weak + rng.normal(size=n)
    if case % 2:  # many ties
        student, weak = np.round(student, 0), np.round(weak, 1)
    xi = ((None, None), (0.05, 0.05), (None, 1.0))[case // 2]
    ids = [f"video {k}" for k in range(n)]
    arguments = dict(quota=(60, 400)[case % 2], num_bins=5, max_per_video=3, xi=xi)
    found = gmad.gmad_pairs(student, weak, ids, **arguments)
    want = _brute_force(student, weak, ids, **arguments)
    assert [(p.bin, p.gap, frozenset((p.first_id, p.second_id))) for p in found] == want
    assert {p.attacker for p in found} == {"student", "weak"}
    order = rng.permutation(n)
    assert found == gmad.gmad_pairs(
        student[order], weak[order], [ids[k] for k in order], **arguments
    )


@pytest.mark.parametrize("quota", [300, 4000])  # the larger one meets the bound of uses
def test_gmad_of_500_videos_with_the_method_s_settings_equals_brute_force(quota):
    rng = np.random.default_rng(7)
    student, weak = rng.normal(size=500) + rng.normal(0, 0.6, (2, 500))
    ids = [f"video {k}" for k in range(500)]
    found = gmad.gmad_pairs(student, weak, ids, quota)
    want = _brute_force(student, weak, ids, quota, 20, 8, (None, None))
    assert [(p.bin, p.gap, frozenset((p.first_id, p.second_id))) for p in found] == want


def test_gmad_limits_how_often_a_video_occurs():
    rng = np.random.default_rng(0)
    student, weak = rng.normal(size=(2, 3000))
    found = gmad.gmad_pairs(student, weak, [str(k) for k in range(3000)], quota=4000)
    uses = collections.Counter(x for p in found for x in (p.first_id, p.second_id))
    assert len(found) == 4000
    assert max(uses.values()) == 8
    assert len(set(simulated_sets.unordered(found))) == len(found)


def test_gmad_survives_equal_and_missing_scores():
    ids = [str(k) for k in range(6)]
    assert gmad.gmad_pairs(np.ones(6), np.ones(6), ids, quota=4) == []
    student = np.array([0, 1, 2, np.nan, 4, 5])
    found = gmad.gmad_pairs(student, np.ones(6), ids, quota=4)
    assert {x for p in found for x in (p.first_id, p.second_id)} <= set("01245")
    assert len(found) == 2  # the student's half; the weak model tells nothing apart
    assert gmad.gmad_pairs([], [], [], quota=3) == []


def test_gmad_leaves_out_what_is_excluded_and_takes_the_next_best():
    rng = np.random.default_rng(5)
    ids = [f"v{i:02d}" for i in range(30)]
    student, weak = rng.normal(size=(2, 30))
    plain = gmad.gmad_pairs(student, weak, ids, 8, num_bins=3)
    known = {frozenset((p.first_id, p.second_id)) for p in plain} | {frozenset(("v00", "gone"))}
    others = gmad.gmad_pairs(student, weak, ids, 8, num_bins=3, exclude=known)
    assert len(others) == 8
    assert not known & {frozenset((p.first_id, p.second_id)) for p in others}


def test_random_pairs_take_the_places_of_hard_ones():
    ids = [f"v{k}" for k in range(30)]
    scores = np.arange(30.0)
    scores[5] = np.nan
    found = [gmad.GmadPair("v1", "v2", "weak", 3, 1.0, "noise")] * 40
    exclude = {frozenset(("v0", f"v{k}")) for k in range(1, 30)}
    drawn = gmad.at_random(found, scores, ids, exclude, seed=2)
    ends = {frozenset((p.first_id, p.second_id)) for p in drawn}
    assert len(drawn) == len(ends) == 40 and not any({"v0", "v5"} & pair for pair in ends)
    assert {(p.attacker, p.weak, p.bin) for p in drawn} == {("weak", "noise", -1)}
    assert drawn == gmad.at_random(found, scores, ids, exclude, seed=2)
    assert len(gmad.at_random(found, scores[:3], ids[:3], (), seed=2)) == 3  # there are no more
