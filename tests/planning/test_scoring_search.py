"""Scoring by estimate: rates by hand, and what meshes and batches change."""

import dataclasses

import pytest

from tests.fixtures.planned_step import big_spec, micro_spec
from vqa_jax.devices import topology
from vqa_jax.devices.topology import CHIPS, GPUS, Topology
from vqa_jax.models import flops
from vqa_jax.planning import scoring, scoring_search
from vqa_jax.settings import SettingsError


@pytest.fixture(scope="module")
def found():
    spec = big_spec()
    return _estimates(spec, "h100:8")


def _estimates(spec, name, dtype=None, cache_dtype=None):
    cfg = scoring.scoring_config(spec.student, dtype)
    return scoring_search.estimates(cfg, spec, topology.open_topology(name), cache_dtype)


def test_rates_are_bound_by_model_flops(found):
    spec, best = big_spec(), found[0]
    assert best.mesh == (8, 1, 1) and best.look["interconnect"] == 0
    video, prefix = spec.bank.stride, spec.bank.stride + 78 // 2
    model = flops.encoding_flops(spec.student, 1, 10, 10).total
    model += 5 * flops.suffix_flops(spec.student, 1, video + 78 - 39, prefix).total
    # Padding of heads and of sequences to whole blocks is computed too.
    least = 3600 * GPUS["h100"].peak / model
    assert 0.8 * least < best.videos_an_hour("step") <= least
    assert best.videos_an_hour("apart") < best.videos_an_hour("step")


def test_relabelling_by_hand():
    look, pairs = {"step": 2.0, "apart": 3.0}, {"step": 1.0, "apart": 1.5}
    one = scoring_search.Estimate((2, 2, 1), 8, 1e9, look, pairs, 4)
    assert one.videos_an_hour("step") == 3600 * 8 / 2 / 4
    seconds = 200_000 / 8 * 2.0 + 2 * 1.9 * 200_000 / (5 * 8) * 1.0
    assert one.relabel_hours("step") == pytest.approx(seconds * 4 / 3600)
    assert one.relabel_hours("apart") == pytest.approx(1.5 * seconds * 4 / 3600)


def test_memory_falls_as_weights_are_shared_and_rises_with_the_batch(found):
    by = {(e.mesh, e.videos): e for e in found}
    alone, shared = by[(8, 1, 1), 8], by[(1, 8, 1), 8]
    assert alone.memory - shared.memory > 0.8 * 7 / 8 * 16e9
    assert shared.look["interconnect"] > alone.look["interconnect"] == 0
    assert by[(8, 1, 1), 16].memory > alone.memory
    assert by[(8, 1, 1), 16].look["hbm"] < 2 * alone.look["hbm"]  # weights are read once
    assert by[(2, 1, 4), 8].look["interconnect"] > 0


def test_int8_is_faster_where_it_has_a_peak_of_its_own(found):
    whole = _estimates(big_spec(), "h100:8", "int8")[0]
    assert 1.2 < whole.videos_an_hour("step") / found[0].videos_an_hour("step") < 2
    assert whole.memory < found[0].memory


def test_anchors_in_int8_leave_memory_and_cost_no_products(found):
    small = {(e.mesh, e.videos): e for e in _estimates(big_spec(), "h100:8", cache_dtype="int8")}
    for one in found:
        other = small[one.mesh, one.videos]
        assert other.memory < one.memory
        assert other.look["arithmetic"] == one.look["arithmetic"]


def test_what_is_said_and_what_is_refused():
    spec = micro_spec()
    found, chips = _estimates(spec, "a100:8"), topology.open_topology("a100:8")
    said = scoring_search.render(found, chips)
    assert "relabelling of 200,000 videos" in said and said.count("\n") == 4 + 12
    rows = scoring_search.as_dict(found, chips)["estimates"]
    assert rows[0]["fits"] and len(rows) == len(found)
    small = dataclasses.replace(chips, chip=dataclasses.replace(CHIPS["v5e"], memory=1.0))
    rows = scoring_search.as_dict(found, small)["estimates"]
    assert not any(row["fits"] for row in rows)
    with pytest.raises(SettingsError, match="peaks are known"):
        _estimates(spec, "cpu:8")
    unseen = dataclasses.replace(spec.student, vision=object())
    with pytest.raises(SettingsError, match="SigLIP"):
        scoring_search.estimates(unseen, spec, Topology("v5e:1x1", (1, 1), (0,), CHIPS["v5e"]))
