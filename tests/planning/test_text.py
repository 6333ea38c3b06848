"""Plans as text and as plain values: what fits, and the pace of a stage."""

import dataclasses
import json

import pytest

from vqa_jax.devices.topology import CHIPS, Topology
from vqa_jax.planning import text
from vqa_jax.planning.compiled import Memory, StepPlan

CHIPS_OF = Topology("v5e:2x2", (2, 2), tuple(range(4)), CHIPS["v5e"])


def _plan(step="train", spare=1e9, seconds=0.5):
    memory = Memory(1_000_000_000, 2, 3, 4, 5, 15_000_000_000, spare)
    paces = {"arithmetic": seconds, "hbm": 0.1, "step": seconds, "apart": seconds + 0.1}
    return StepPlan(step, 8, 99, memory, 2e12, 0, 0, 1e12, 1.0, 2.0, {}, (), paces, 0.25, 1, 0.2)


def test_hours_are_those_of_all_chips_for_all_pairs():
    wanted = text.STAGE_PAIRS / 8 * 0.5 * 4 / 3600
    assert text.chip_hours(_plan(), CHIPS_OF) == pytest.approx(wanted)
    assert text.chip_hours(_plan("encode"), CHIPS_OF) is None
    plain = json.loads(json.dumps(text.as_dict([_plan()], CHIPS_OF, (1, 4, 1))))
    assert plain["steps"]["train"]["stage_chip_hours"] == pytest.approx(wanted)
    assert (plain["chips"], plain["mesh"]) == (4, [1, 4, 1])
    apart = plain["steps"]["train"]["stage_chip_hours_apart"]
    assert apart == pytest.approx(wanted * 0.6 / 0.5)
    said = text.render([_plan()], CHIPS_OF, (1, 4, 1))
    assert "500 ms a step if all overlaps, 600 if nothing does" in said
    assert "0.250; 0.200 if nothing overlaps" in said
    assert "1.5 to 2.1 times" in said and plain["real_over_apart"] == [1.5, 2.1]


def test_a_batch_that_was_rounded_up_is_said():
    plan = dataclasses.replace(_plan(), asked=3)
    assert "3 pairs, which do not divide" in text.render([plan], CHIPS_OF, (1, 4, 1))
    assert text.as_dict([plan], CHIPS_OF, (1, 4, 1))["steps"]["train"]["asked"] == 3


def test_two_devices_of_a_chip_are_one_chip():
    chips = Topology("tpu7x:2x1x1", (2, 1, 1), tuple(range(4)), CHIPS["tpu7x"].of_device())
    assert chips.chips == 2 and chips.chip.memory == 96 * 2**30
    assert text.chip_hours(_plan(), chips) == text.chip_hours(_plan(), CHIPS_OF) / 2


def test_videos_of_a_chip_hour_are_encoded_and_compared():
    scoring = [_plan("encode"), _plan("suffix", seconds=1.5)]
    assert text.videos_an_hour(scoring, CHIPS_OF) == pytest.approx(3600 * 8 / 2.0 / 4)
    assert text.videos_an_hour(scoring[:1], CHIPS_OF) is None
    apart = 3600 * 8 / 2.2 / 4
    said = text.render(scoring, CHIPS_OF, (1, 4, 1))
    assert "at most 3,600 videos a chip hour" in said and "3,273 if nothing overlaps" in said
    plain = text.as_dict(scoring, CHIPS_OF, (1, 4, 1))
    assert plain["videos_a_chip_hour_apart"] == pytest.approx(apart)


@pytest.mark.parametrize(
    ("spare", "words", "fits"),
    [(1e9, "fits, 1.00 GB to spare", True), (-5e8, "DOES NOT FIT, 0.50 GB too much", False)],
)
def test_what_fits_is_said_in_both_forms(spare, words, fits):
    plan = _plan(spare=spare)
    assert words in (said := text.render([plan], CHIPS_OF, (1, 4, 1)))
    assert "while it starts 1.27 GB" in said  # parameters, and a block of them of 256 MiB
    assert text.as_dict([plan], CHIPS_OF, (1, 4, 1))["steps"]["train"]["fits"] is fits
