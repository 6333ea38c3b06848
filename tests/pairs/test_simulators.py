"""Pairs within simulated sets: sampling, labels, what a student misorders."""

import collections

import numpy as np
import pytest

from tests.fixtures import simulated_sets
from vqa_jax.pairs import levels
from vqa_jax.pairs import simulators as simulator_pairs


def _severity(video_id):
    return int(video_id.split("-")[2]) if "-" in video_id else 0


def test_simulator_pairs_fill_their_quota_within_one_set():
    found = simulator_pairs.sample_simulator_pairs(simulated_sets.table(), 15, seed=1)
    assert collections.Counter(p.label for p in found) == dict.fromkeys(
        ("inferior", "worse", "better", "superior"), 15
    )
    assert len(set(simulated_sets.unordered(found))) == len(found)
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
    table = simulated_sets.table()
    found = simulator_pairs.sample_simulator_pairs(table, 10, seed=1)
    assert found == simulator_pairs.sample_simulator_pairs(table[::-1], 10, seed=1)
    assert found != simulator_pairs.sample_simulator_pairs(table, 10, seed=2)


def test_sets_as_columns_read_as_sets():
    table = simulated_sets.table()
    sets = simulator_pairs.SimulatedSets.of(table[::-1])
    assert list(sets) == sorted(table, key=lambda g: (g.simulator, g.source_id))
    assert list(sets[sets.simulator == "blur"]) == [g for g in sets if g.simulator == "blur"]
    assert list(sets[1:3]) == [sets[1], sets[2]]
    twice = simulator_pairs.SimulatedSet("s", "blur", ((0, "s"), (1, "a"), (1, "b")))
    with pytest.raises(ValueError, match="s blur: a severity number occurs twice"):
        simulator_pairs.all_simulator_pairs([twice])


def test_short_table_gives_each_pair_once():
    found = simulator_pairs.sample_simulator_pairs(simulated_sets.table(2, ("blur",)), 1000, seed=0)
    assert len(set(simulated_sets.unordered(found))) == len(found) == 2 * 6
    every = simulator_pairs.all_simulator_pairs(simulated_sets.table(2, ("blur",)))
    assert set(simulated_sets.unordered(every)) == set(simulated_sets.unordered(found))
    with pytest.raises(ValueError, match="similar"):
        simulator_pairs.sample_simulator_pairs(simulated_sets.table(), {"similar": 3}, seed=0)


def test_a_short_table_is_cut_in_proportion():
    found = simulator_pairs.sample_simulator_pairs(
        simulated_sets.table(4), {"worse": 300, "better": 100}, seed=0
    )
    count = 4 * 3 * 2  # levels 0, 1, 2, 4: two pairs one apart
    assert collections.Counter(p.label for p in found) == {
        "worse": 3 * count // 4,
        "better": count // 4,
    }


def test_misordered_keeps_labels_and_counts_ties_as_wrong():
    group = simulated_sets.table(1, ("blur",))[0]
    table = [
        simulator_pairs.simulator_pair(group, *x) for x in ((0, 1), (1, 0), (0, 4), (4, 0), (2, 1))
    ]
    found = simulator_pairs.misordered(table, [0.4, 0.4, 0.9, 0.5, 0.7])
    assert found == [table[2], table[1], table[3]]
    assert [p.label for p in found] == ["inferior", "better", "superior"]
    assert len(simulator_pairs.misordered(table, [0.4, 0.4, 0.9, 0.5, 0.7], quota=1)) == 1
    with pytest.raises(ValueError, match="finite"):
        simulator_pairs.misordered(table, [np.nan] * 5)
