"""Pairs across sources: who may be better, who worse, and how they are labelled."""

import numpy as np
import pytest

from vqa_jax.pairs.across import ACROSS, sample_across_pairs
from vqa_jax.pairs.simulators import SimulatedSet

SIMULATORS = {"blur": 4, "noise": 3}
SOURCES = [f"s{k}" for k in range(9)]
MEANS = {f"{source}-source": 10.0 * k for k, source in enumerate(SOURCES)}


def _table(missing=()):
    sets = []
    for source in SOURCES:
        for name, count in SIMULATORS.items():
            last = count - 1 if (source, name) in missing else count
            ids = [
                (0, f"{source}-source"),
                *((k, f"{source}-{name}{k}") for k in range(1, last + 1)),
            ]
            sets.append(SimulatedSet(source, name, tuple(ids)))
    return sets


def _drawn(table, wanted, seed=0, means=MEANS):
    return sample_across_pairs(table, [g.source_id for g in table], means, wanted, seed)


def test_a_good_source_beats_the_worst_version_of_one_that_is_no_better():
    pairs = list(_drawn(_table(missing={("s1", "blur")}), 36))
    assert len(pairs) == len({frozenset((p.first_id, p.second_id)) for p in pairs}) == 36
    assert {p.label_source for p in pairs} == {ACROSS}
    assert [p.label for p in pairs].count("superior") == 18
    for pair in pairs:
        better, worse = pair.second_id, pair.first_id
        if pair.label == "inferior":
            better, worse = worse, better
        assert pair.label in ("superior", "inferior")
        assert np.sign(pair.margin) == (1 if pair.label == "superior" else -1)
        assert pair.second_mean - pair.first_mean == pair.margin
        source, name = worse.split("-")
        assert name in ("blur4", "noise3")
        assert better in ("s6-source", "s7-source", "s8-source")  # the best third
        assert MEANS[better] >= MEANS[f"{source}-source"] and better != f"{source}-source"
    named = [p.first_id if p.label == "superior" else p.second_id for p in pairs]
    assert "s1-blur4" not in named and "s1-noise3" in named
    share = sum("blur" in name for name in named) / 36
    assert share == pytest.approx(0.5, abs=0.05)  # the simulators take turns


def test_what_is_drawn_depends_on_the_seed_alone():
    table = _table()
    assert _drawn(table, 15) == _drawn(table[::-1], 15)
    assert _drawn(table, 15) != _drawn(table, 15, seed=1)


def test_fewer_come_back_where_there_are_fewer():
    pairs = _drawn(_table(), 10_000)
    # Two simulators; nine sources against three good ones, less those above and the same one:
    # 6 * 3 for the ones below, then 2, 1 and 0.
    assert len(pairs) == 2 * (6 * 3 + 2 + 1)
    assert len(_drawn(_table(), 0)) == len(_drawn([], 5)) == len(_drawn(_table(), 5, means={})) == 0


def test_sets_of_one_content_are_not_paired():
    table = _table()
    assert len(sample_across_pairs(table, ["one"] * len(table), MEANS, 10, 0)) == 0
