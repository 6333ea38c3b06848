"""Temporal simulators: jitter, stutter and lower frame rates against what they state."""

import numpy as np
import pytest

from data_prep.simulators import (
    expand,
    temporal,
)
from tests.fixtures.simulated import run, simulated
from tests.fixtures.tolerances import TOLERANCES

JITTER_SEED_5 = [[0.61259103, -0.44023158], [0.83082472, 0.95667363]]
STUTTER_SEED_5 = [0, 0, 2, 2, 2, 5, 5, 7, 8, 9]


def test_random_streams_are_pinned():
    """Frozen values: a change would make old records irreproducible."""
    np.testing.assert_allclose(
        temporal.jitter_directions(2, 5), JITTER_SEED_5, **TOLERANCES["pinned_random"]
    )
    assert temporal.stutter_sources(10, 0.6, 5).tolist() == STUTTER_SEED_5


def test_jitter_moves_further_in_the_same_directions():
    """Displacement of a blob, measured by centre of mass, against the stated directions."""
    rows, columns = np.mgrid[:200, :200] - 99.5
    blob = 255 * np.exp(-(rows**2 + columns**2) / (2 * 8**2))
    frames = np.repeat(np.repeat(blob[None, ..., None], 16, 0), 3, 3).astype(np.uint8)
    directions = temporal.jitter_directions(16, 5)
    means = []
    for level, fraction in enumerate(temporal.JITTER_FRACTIONS, start=1):
        got = run(frames, "jitter", level)[..., 0].astype(float)
        total = got.sum((1, 2))
        centres = np.stack([(got * axis).sum((1, 2)) / total for axis in (columns, rows)], 1)
        # Moving the window to the right moves what it shows to the left, enlarged.
        expected = -directions * fraction * 200 / (1 - 2 * fraction)
        np.testing.assert_allclose(centres, expected, **TOLERANCES["centre_of_mass"])
        means.append(np.linalg.norm(centres, axis=1).mean())
    assert means[0] > 0.5
    assert np.all(np.diff(means) > 0.5)


@pytest.mark.parametrize("count", [8, 9, 32])
def test_stutter_freezes_nest_and_every_level_adds_some(count):
    for seed in range(300):
        repeats = []
        for probability in temporal.STUTTER_PROBABILITIES:
            sources = temporal.stutter_sources(count, probability, seed)
            assert sources[0] == 0
            step = np.diff(sources)
            # A frame is itself or what was shown before it.
            assert np.all((step == 0) | (sources[1:] == np.arange(1, count)))
            repeats.append(set(np.flatnonzero(step == 0)))
        assert repeats[0] and repeats[0] < repeats[1] < repeats[2], seed


def test_stutter_rates_are_the_probabilities():
    for probability in temporal.STUTTER_PROBABILITIES:
        repeats = np.mean(np.diff(temporal.stutter_sources(20001, probability, 1)) == 0)
        assert repeats == pytest.approx(probability, abs=0.015)


def test_stutter_frames_are_what_the_sources_say(clip):
    got = run(clip, "stutter", 3)
    expected = [clip[0]]
    sources = temporal.stutter_sources(len(clip), 0.6, 5)
    for t in range(1, len(clip)):
        expected.append(clip[t] if sources[t] == t else expected[-1])
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("fps", "rate", "sources"),
    [
        (60, 30, [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10]),
        (60, 24, [0, 0, 0, 3, 3, 5, 5, 5, 8, 8, 10, 10]),  # held 3 and 2 times in turn
        (30, 24, [0, 0, 2, 3, 4, 5, 5, 7, 8, 9, 10, 10]),  # one in five is dropped
        (59.94, 15, [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8]),
        (24, 30, list(range(12))),
        (29.97, 30, list(range(12))),
    ],
)
def test_lower_frame_rates_hold_or_average_whole_slots(clip, fps, rate, sources):
    level = temporal.FRAME_RATES.index(rate) + 1
    dropped, record = simulated(clip, fps, "frame_drop", level, 0)
    np.testing.assert_array_equal(dropped, clip[sources])
    assert record["value"] == rate
    assert record["effective"] == pytest.approx(fps * min(1, rate / round(fps)))
    blended = simulated(clip, fps, "frame_blend", level, 0)[0]
    for t, first in enumerate(sources):
        slot = clip[np.equal(sources, first)].astype(float)
        assert np.abs(blended[t] - slot.mean(0)).max() <= 0.5


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 59.94, 120])
def test_a_second_keeps_as_many_frames_as_the_rate_says(fps):
    for rate in temporal.FRAME_RATES:
        slots = temporal.frame_slots(10 * round(fps), fps, rate)
        assert len(set(slots)) == 10 * min(rate, round(fps))


@pytest.mark.parametrize("name", expand(("temporal",)))
def test_one_frame_has_no_temporal_distortion(clip, name):
    np.testing.assert_array_equal(run(clip[:1], name, 3), clip[:1])
