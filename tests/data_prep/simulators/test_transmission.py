"""Lost packets, freezes and bursts: what is lost, and what stands in its place."""

import itertools

import numpy as np
import pytest

from data_prep.simulators import SIMULATORS, elementary, expand, transmission
from tests.fixtures.simulated import levels_of, run


@pytest.fixture(scope="module")
def second(clip) -> np.ndarray:
    """A second at 30 frames a second of a clip that pans there and back."""
    return np.concatenate([clip, clip[::-1], clip])[:30]


@pytest.mark.parametrize("name", expand(("transmission",)))
@pytest.mark.parametrize("seed", [1, 2])
def test_every_level_strays_further_from_the_source(second, name, seed):
    errors = [
        np.mean((run(second, name, level, seed).astype(float) - second) ** 2)
        for level in levels_of(name)
    ]
    assert errors[0] > 0 and np.all(np.diff(errors) > 0), errors


def test_losses_nest_and_leave_every_frame_a_slice():
    counts = [9, 1, 2, 0, 5]
    for seed in range(50):
        lost = [transmission.lost_slices(counts, share, seed) for share in (0.02, 0.3, 1.0)]
        assert [sum(map(len, each)) for each in lost] == [1, 6, 13]
        for mild, severe in itertools.pairwise(lost):
            assert all(a <= b for a, b in zip(mild, severe, strict=True))
        for count, gone in zip(counts, lost[-1], strict=True):
            assert len(gone) == max(count - 1, 0)


def test_what_arrives_is_shown_as_it_was_sent(second):
    """A lost packet of a picture changes the rows that it held, and no others."""
    coder = transmission._CODER
    packets = list(elementary.code(second[:1], coder))
    units = transmission.nal_units(bytes(packets[0]))
    whole = next(elementary.decode(packets, coder, second.shape[1:3]))
    damaged = run(second[:1], "packet_loss", 1)[0]
    rows = (damaged != whole).any(axis=(1, 2))
    assert sum(unit[0] & 31 == 5 for unit in units) > 2
    assert 0 < rows.sum() < len(rows)


@pytest.mark.parametrize("name", ["freeze", "burst_drop"])
def test_a_hold_shows_the_last_frame_before_it_and_then_goes_on(second, name):
    moving = np.arange(1, 91, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    held = []
    for level, seconds in enumerate(SIMULATORS[name].parameters, start=1):
        shown = run(moving, name, level)[:, 0, 0, 0].astype(int) - 1
        late = shown != np.arange(90)
        expected = np.maximum.accumulate(np.where(late, 0, np.arange(90)))
        np.testing.assert_array_equal(shown, expected)
        held.append(set(np.flatnonzero(late)))
        period = SIMULATORS[name].options["every"]
        assert late[:60].mean() == pytest.approx(seconds / period, abs=0.07)
    assert all(a < b for a, b in itertools.pairwise(held))


def test_a_freeze_holds_longer_than_bursts_do(second):
    def longest(name):
        still = (run(second, name, 2)[1:] == run(second, name, 2)[:-1]).all(axis=(1, 2, 3))
        return max(map(len, "".join(".x"[int(s)] for s in still).split(".")))

    assert longest("freeze") >= 10 > 5 >= longest("burst_drop") >= 2


@pytest.mark.parametrize("name", ["freeze", "burst_drop"])
def test_one_frame_has_nothing_to_hold(second, name):
    np.testing.assert_array_equal(run(second[:1], name, 3), second[:1])
