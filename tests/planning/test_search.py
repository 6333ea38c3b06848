"""Choices of a run on chips: all that divide, what each takes by estimate, the best first."""

import dataclasses
import functools

import jax
import pytest

from tests.fixtures.planned_step import SPEC, micro_spec
from tests.fixtures.planned_step import config as config_of
from vqa_jax.devices import sharding, topology
from vqa_jax.devices.topology import CHIPS, GPUS, Topology
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.planning import search, shapes
from vqa_jax.settings import SettingsError


def _search(chip, pairs=16, slices=1):
    """With one kernel, which is both here."""
    spec, prompt = micro_spec(), shapes.prompt_size(SPEC)
    config = dataclasses.replace(config_of(prompt), attention="xla")
    chips = Topology("v5e:2x4", (2, 4), tuple(jax.devices()[:8]), chip, slices)
    student = FunctionalStudent(spec.student)
    return search.Search(student, config, spec, prompt, pairs, "level", None, chips)


def _by(found):
    return {(e.choice.mesh, e.choice.remat, e.choice.accumulate): e for e in found}


@pytest.fixture(scope="module")
def found():
    return _search(CHIPS["v5e"]).estimates()


def test_all_choices_divide_and_come_once(found):
    choices = [one.choice for one in found]
    assert len(set(choices)) == len(choices)
    wanted = {
        (d, f, t)
        for t in (1, 2, 4)  # of four heads
        for d in (1, 2, 4, 8)
        for f in (1, 2, 4, 8)
        if d * f * t == 8
    }
    assert {c.mesh for c in choices} == wanted
    for c in choices:
        assert 16 // (c.mesh[0] * c.mesh[1]) % c.accumulate == 0
    assert {c.mesh[0] % 2 for c in _choices_of_slices()} == {0}


def test_devices_that_share_sequences_are_taken_as_given(found):
    shared = dataclasses.replace(_search(CHIPS["v5e"]), context=2).estimates()
    assert {c.choice.mesh for c in shared} == {(1, 4, 1), (2, 2, 1), (4, 1, 1), (1, 2, 2)} | {
        *((2, 1, 2), (1, 1, 4))
    }
    alone, half = (
        _by(all_of_them)[mesh, "none", 1]
        for all_of_them, mesh in ((found, (1, 8, 1)), (shared, (1, 4, 1)))
    )
    # As many devices, and each has twice the rows, but half of their tokens.
    assert half.memory == pytest.approx(alone.memory, rel=0.05)
    assert half.seconds["arithmetic"] == alone.seconds["arithmetic"]
    assert half.seconds["interconnect"] > alone.seconds["interconnect"]
    assert not list(dataclasses.replace(_search(CHIPS["v5e"]), context=3)._meshes())


def _choices_of_slices():
    wanted = _search(CHIPS["v5e"], slices=2)
    return [c for sizes in wanted._meshes() for c in wanted._choices(sizes, ["xla"])]


def test_what_is_recomputed_is_not_kept_and_parts_keep_less(found):
    by, mesh = _by(found), (1, 8, 1)
    policies = ("none", "dots", "gate", "projections", "attention", "full")
    kept, done = (
        [by[mesh, remat, 1] for remat in policies],
        [by[mesh, "full", parts] for parts in (1, 2)],
    )
    memory = [one.memory for one in kept]
    assert memory == sorted(set(memory), reverse=True)
    work = [one.seconds["arithmetic"] for one in kept]
    assert work == sorted(set(work))
    assert done[0].memory > done[1].memory
    # Every part gathers the weights again.
    assert done[0].seconds["interconnect"] < done[1].seconds["interconnect"]
    alone = by[(8, 1, 1), "none", 1].memory - by[(1, 8, 1), "none", 1].memory
    assert alone > 0  # nothing is sharded along `data`


def test_what_does_not_fit_comes_last_and_it_is_told(found):
    small = dataclasses.replace(CHIPS["v5e"], memory=3e5)
    order = search.ranked(found, small.memory)
    fits = [one.memory <= 3e5 for one in order]
    assert fits == sorted(fits, reverse=True) and any(fits) and not all(fits)
    paces = [one.seconds["apart"] for one, here in zip(order, fits, strict=True) if here]
    assert paces == sorted(paces)
    chips = _search(small).topology
    said = search.render(search.Found(order, []), chips)
    assert f"{len(found)} choices, of which {sum(fits)} fit" in said
    assert len(search.as_dict(search.Found(order, []), chips)["estimates"]) == len(found)


def test_meshes_that_training_refuses_are_left_out(monkeypatch):
    def refuse(state, mesh, most=4):
        if mesh.shape["fsdp"] > most:
            raise sharding.ReplicationError(f"over {most}")

    monkeypatch.setattr(sharding, "check_replication", refuse)
    found = _search(CHIPS["v5e"]).estimates()
    assert {e.choice.mesh[1] for e in found} == {1, 2, 4}
    monkeypatch.setattr(sharding, "check_replication", functools.partial(refuse, most=0))
    with pytest.raises(sharding.ReplicationError, match="over 0"):
        _search(CHIPS["v5e"]).estimates()


def test_weights_move_once_a_part_and_rows_once(found):
    by = _by(found)
    # Half of a device's rows, in half as many parts, move half of everything but the optimizer.
    whole, parts = (by[(1, 8, 1), "none", parts].seconds["hbm"] for parts in (1, 2))
    pair = _search(CHIPS["v5e"])._pair("none", "xla")
    assert parts - whole == pytest.approx(pair.weights / CHIPS["v5e"].bandwidth)
    # Every weight matrix is read for the forward pass, and twice for the backward pass.
    matrices = sum(
        x.size for x in jax.tree.leaves(micro_student().abstract()["llm"]["layers"]) if x.ndim > 2
    )
    assert pair.weights > 3 * 4 * matrices and pair.moved > 0


def micro_student():
    return FunctionalStudent(micro_spec().student)


def test_batches_are_chosen_where_none_is_asked_for():
    wanted = _search(CHIPS["v5e"], pairs=None)
    choices = [c for mesh in ((1, 8, 1), (2, 1, 4)) for c in wanted._choices(mesh, ["xla"])]
    rows = [(c.pairs // (c.mesh[0] * c.mesh[1]), c.accumulate) for c in choices]
    assert {c.pairs for c in choices} == {2, 4, 8, 16, 32, 64}
    divisors = {(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 1), (8, 2), (8, 4), (8, 8)}
    assert set(rows) == divisors and len(rows) == 2 * 6 * len(divisors)
    # What is fastest a pair comes first, though a smaller batch takes a shorter step.
    one = search.Estimate(search.Choice((1, 8, 1), "full", 1, 8, "xla"), 1.0, {"apart": 1.0})
    more = search.Choice((1, 8, 1), "full", 1, 16, "xla")
    two = search.Estimate(more, 2.0, {"apart": 1.5})
    assert search.ranked([one, two], 3.0) == [two, one]
    assert search.ranked([one, two], 1.5) == [one, two]


def test_nodes_of_gpus_are_estimated_with_kernels_that_keep_scores_and_not():
    chips = topology.open_topology("h100:4*2")
    wanted = dataclasses.replace(_search(GPUS["h100"], slices=2), topology=chips, tokens=1024)
    auto = dataclasses.replace(wanted.config, attention="auto")
    found = dataclasses.replace(wanted, config=auto).best()
    assert found.plans == [] and found.fits(chips)
    assert {e.choice.mesh[0] % 2 for e in found.estimates} == {0}
    assert all(e.seconds["network"] > 0 for e in found.estimates)
    by_kind = {
        kind: [e for e in found.estimates if e.choice.attention == kind] for kind in ("auto", "xla")
    }
    assert len(by_kind["auto"]) == len(by_kind["xla"]) == len(found.estimates) / 2
    # Scores are moved, and kept where nothing is computed again.
    assert found.estimates[0].choice.attention == "auto"
    stored = wanted._pair("none", "xla").saved - wanted._pair("none", "auto").saved
    assert stored > 2 * 4 * 1024**2 * 4  # of two layers of four heads, in float32
    said = search.render(found, chips)
    assert "h100:4*2: estimates, nothing was compiled" in said and "nvidia.com" in said


def test_chips_of_which_nothing_is_known_and_odd_batches_are_refused():
    with pytest.raises(SettingsError, match="peaks are known"):
        _search(None).estimates()
    with pytest.raises(SettingsError, match="3 pairs divide over 8 devices in no way"):
        _search(CHIPS["v5e"], pairs=3).estimates()


@pytest.mark.slow  # compiles three steps; how a plan is made: test_plan
def test_the_best_are_compiled():
    wanted = _search(CHIPS["v5e"])
    found = wanted.best()
    assert len(found.plans) == 3 and all(p.memory.spare > 0 for p in found.plans)
    said = search.render(found, wanted.topology)
    assert said.count("roofline") == 3 and "accumulate 1, attention xla" in said
