"""What a simulator is: its kind, its levels, its random stream."""

import pytest

from data_prep.simulators.base import Simulator, SimulatorError, random_stream


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [("sonic", (1,), "sonic"), ("spatial", (), "0 levels"), ("spatial", range(6), "6 levels")],
)
def test_a_simulator_has_a_kind_and_one_to_five_levels(kind, parameters, message):
    with pytest.raises(SimulatorError, match=message):
        Simulator("new", kind, "x", tuple(parameters), lambda frames, *_: frames)


def test_streams_of_other_purposes_and_seeds_are_other_streams():
    drawn = {
        (seed, purpose): random_stream(seed, *purpose).random(8).tobytes()
        for seed in (0, 1)
        for purpose in ((), ("noise",), ("noise", "spatial"), ("spatial", "noise"))
    }
    assert len(set(drawn.values())) == len(drawn)
    assert drawn[1, ("noise",)] == random_stream(1, "noise").random(8).tobytes()
