"""Sampling and labelling of pairs; gMAD against brute force."""

import collections
import itertools

import numpy as np
import pytest

from vqa_jax.corpus import video_table
from vqa_jax.jobs.files import CorpusError
from vqa_jax.loop import labels
from vqa_jax.pairs import gmad, levels
from vqa_jax.pairs import simulators as simulator_pairs
from vqa_jax.pairs import table as pairs


def _table(sources=12, simulators=("blur", "noise", "resize")):
    return [
        simulator_pairs.SimulatedSet(
            f"s{s}", name, tuple((k, f"s{s}-{name}-{k}" if k else f"s{s}") for k in (0, 1, 2, 4))
        )
        for s in range(sources)
        for name in simulators
    ]


def _unordered(found):
    return [tuple(sorted((p.first_id, p.second_id))) for p in found]


def _severity(video_id):
    return int(video_id.split("-")[2]) if "-" in video_id else 0


def test_simulator_pairs_fill_their_quota_within_one_set():
    found = simulator_pairs.sample_simulator_pairs(_table(), 15, seed=1)
    assert collections.Counter(p.label for p in found) == dict.fromkeys(
        ("inferior", "worse", "better", "superior"), 15
    )
    assert len(set(_unordered(found))) == len(found)
    kinds = collections.Counter()
    for pair in found:
        first, second = _severity(pair.first_id), _severity(pair.second_id)
        assert pair.first_id.split("-")[0] == pair.second_id.split("-")[0]
        assert pair.label == levels.label_from_severity(first, second)
        assert pair.margin == first - second == pair.second_mean - pair.first_mean
        assert pair.label_source == "simulator:" + max(pair.first_id, pair.second_id).split("-")[1]
        kinds[max(pair.first_id, pair.second_id).split("-")[1]] += 1
    assert set(kinds.values()) == {20}


def test_simulator_pairs_depend_on_the_seed_and_not_on_the_order_of_the_table():
    table = _table()
    found = simulator_pairs.sample_simulator_pairs(table, 10, seed=1)
    assert found == simulator_pairs.sample_simulator_pairs(table[::-1], 10, seed=1)
    assert found != simulator_pairs.sample_simulator_pairs(table, 10, seed=2)


def test_sets_as_columns_read_as_sets():
    table = _table()
    sets = simulator_pairs.SimulatedSets.of(table[::-1])
    assert list(sets) == sorted(table, key=lambda g: (g.simulator, g.source_id))
    assert list(sets[sets.simulator == "blur"]) == [g for g in sets if g.simulator == "blur"]
    assert list(sets[1:3]) == [sets[1], sets[2]]
    twice = simulator_pairs.SimulatedSet("s", "blur", ((0, "s"), (1, "a"), (1, "b")))
    with pytest.raises(ValueError, match="s blur: a severity number occurs twice"):
        simulator_pairs.all_simulator_pairs([twice])


def test_the_video_table_is_grouped_by_segment_and_simulator():
    fields = ("video_id", "source_id", "segment", "simulator", "level", "effective", "split")
    rows = [
        dict(zip(fields, row, strict=True))
        for row in (
            ("b2", "s", 0, "blur", 2, True, "train"),
            ("b1", "s", 0, "blur", 1, False, "train"),
            ("b0", "s", 0, "source", 0, True, "train"),
            ("c0", "s", 12, "source", 0, True, "train"),
            ("d0", "t", 0, "source", 0, True, "heldout"),
            ("n1", "s", 0, "noise", 1, True, "train"),
            ("c3", "s", 12, "blur", 3, True, "train"),
            ("c1", "s", 12, "blur", 1, True, "train"),
            ("d1", "t", 0, "blur", 1, True, "heldout"),
        )
    ]
    assert list(video_table.simulated_sets(rows, "train")) == [
        simulator_pairs.SimulatedSet("s-000", "blur", ((0, "b0"), (2, "b2"))),
        simulator_pairs.SimulatedSet("s-012", "blur", ((0, "c0"), (1, "c1"), (3, "c3"))),
        simulator_pairs.SimulatedSet("s-000", "noise", ((0, "b0"), (1, "n1"))),
    ]
    assert len(video_table.simulated_sets(rows, "other")) == 0
    with pytest.raises(CorpusError, match="segment s-012 has versions, but no source"):
        video_table.simulated_sets([r for r in rows if r["video_id"] != "c0"], "train")


def test_short_table_gives_each_pair_once():
    found = simulator_pairs.sample_simulator_pairs(_table(2, ("blur",)), 1000, seed=0)
    assert len(set(_unordered(found))) == len(found) == 2 * 6
    every = simulator_pairs.all_simulator_pairs(_table(2, ("blur",)))
    assert set(_unordered(every)) == set(_unordered(found))
    with pytest.raises(ValueError, match="similar"):
        simulator_pairs.sample_simulator_pairs(_table(), {"similar": 3}, seed=0)


def test_a_table_reads_as_pairs():
    table = simulator_pairs.sample_simulator_pairs(_table(), 4, seed=0)
    listed = list(table)
    assert len(table) == len(listed) == 16
    assert [table[k] for k in range(-3, 3)] == [*listed[-3:], *listed[:3]]
    assert list(table[2:9]) == listed[2:9]
    assert list(table[table.label == 0]) == [p for p in listed if p.label == "inferior"]
    assert pairs.PairTable.concatenate([table[:5], table[5:]]) == table != table[::-1]
    assert all(type(p.margin) is float and p.normalized_margin == 0 for p in listed)
    with pytest.raises(IndexError):
        table[16]


def test_a_short_table_is_cut_in_proportion():
    found = simulator_pairs.sample_simulator_pairs(_table(4), {"worse": 300, "better": 100}, seed=0)
    count = 4 * 3 * 2  # levels 0, 1, 2, 4: two pairs one apart
    assert collections.Counter(p.label for p in found) == {
        "worse": 3 * count // 4,
        "better": count // 4,
    }


def test_numbers_of_pairs():
    names = levels.LEVELS
    assert pairs.label_quota(7, names) == dict.fromkeys(names, 7)
    assert pairs.label_quota({"better": 3}, names) == {**dict.fromkeys(names, 0), "better": 3}
    equal = pairs.label_quota({"total": 250_000}, names)
    assert set(equal.values()) == {50_000}
    shares = pairs.label_quota({"total": 10, "similar": 1, "worse": 1, "better": 1}, names)
    assert sum(shares.values()) == 10 and sorted(shares.values()) == [0, 0, 3, 3, 4]
    tenths = {"total": 1000, "similar": 0.1, "worse": 0.2, "better": 0.2, "superior": 0.5}
    assert list(pairs.label_quota(tenths, names).values()) == [0, 200, 100, 200, 500]
    for wrong, words in (
        ({"best": 1}, "unknown level"),
        ({"better": -1}, "negative"),
        ({"better": 0.5}, "whole number"),
        ({"total": 10, "better": 0}, "some share"),
        ({"total": 2.5}, "some share"),
    ):
        with pytest.raises(ValueError, match=words):
            pairs.label_quota(wrong, names)


def test_misordered_keeps_labels_and_counts_ties_as_wrong():
    group = _table(1, ("blur",))[0]
    table = [
        simulator_pairs.simulator_pair(group, *x) for x in ((0, 1), (1, 0), (0, 4), (4, 0), (2, 1))
    ]
    found = simulator_pairs.misordered(table, [0.4, 0.4, 0.9, 0.5, 0.7])
    assert found == [table[2], table[1], table[3]]
    assert [p.label for p in found] == ["inferior", "better", "superior"]
    assert len(simulator_pairs.misordered(table, [0.4, 0.4, 0.9, 0.5, 0.7], quota=1)) == 1
    with pytest.raises(ValueError, match="finite"):
        simulator_pairs.misordered(table, [np.nan] * 5)


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
    assert len(set(_unordered(found))) == len(found)


def test_gmad_pairs_get_the_students_label():
    found = [gmad.GmadPair("a", "b", "weak", 0, 1.0)]
    probs = np.array([[0.1, 0.1, 0.2, 0.5, 0.1]])
    pair = labels.label_by_student(found, probs, {"a": (-0.5, 0.2), "b": (1.0, 0.3)})[0]
    assert (pair.label, pair.label_source, pair.margin) == ("better", "student", 1.5)
    assert pair.level_probs == (0.1, 0.1, 0.2, 0.5, 0.1)
    assert (pair.first_std, pair.second_mean) == (0.2, 1.0)


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
