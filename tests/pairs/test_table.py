"""Sampling and labelling of pairs; gMAD against brute force."""

import pytest

from tests.fixtures import simulated_sets
from vqa_jax.pairs import levels
from vqa_jax.pairs import simulators as simulator_pairs
from vqa_jax.pairs import table as pairs


def test_a_table_reads_as_pairs():
    table = simulator_pairs.sample_simulator_pairs(simulated_sets.table(), 4, seed=0)
    listed = list(table)
    assert len(table) == len(listed) == 16
    assert [table[k] for k in range(-3, 3)] == [*listed[-3:], *listed[:3]]
    assert list(table[2:9]) == listed[2:9]
    assert list(table[table.label == 0]) == [p for p in listed if p.label == "inferior"]
    assert pairs.PairTable.concatenate([table[:5], table[5:]]) == table != table[::-1]
    assert all(type(p.margin) is float and p.normalized_margin == 0 for p in listed)
    with pytest.raises(IndexError):
        table[16]


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
