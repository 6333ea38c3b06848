"""Topologies: names that are refused, pretended devices that are too many."""

import pytest

from vqa_jax.devices import topology as topology_lib
from vqa_jax.devices.topology import TopologyError


@pytest.mark.parametrize("name", ["v5x:8x8", "v5e:8y8", "v5e", "cpu:"])
def test_unknown_topologies_are_refused(name):
    with pytest.raises(TopologyError, match="write GENERATION"):
        topology_lib.open_topology(name)


def test_too_many_pretended_devices_are_refused():
    assert len(topology_lib.open_topology("cpu:2x2").devices) == 4
    with pytest.raises(TopologyError, match="8 CPU devices"):
        topology_lib.open_topology("cpu:64")
