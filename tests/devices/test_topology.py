"""Topologies: names that are refused, pretended devices that are too many."""

import types

import pytest

from vqa_jax.devices import topology as topology_lib
from vqa_jax.devices.topology import TopologyError


@pytest.mark.parametrize("name", ["v5x:8x8", "v5e:8y8", "v5e", "cpu:", "v5e:8x8*0", "v5e:8x8*b"])
def test_unknown_topologies_are_refused(name):
    with pytest.raises(TopologyError, match="write GENERATION"):
        topology_lib.open_topology(name)


def test_too_many_pretended_devices_are_refused():
    assert len(topology_lib.open_topology("cpu:2x2").devices) == 4
    with pytest.raises(TopologyError, match="8 CPU devices"):
        topology_lib.open_topology("cpu:64")


@pytest.mark.parametrize(
    ("name", "asked", "options", "slices"),
    [
        ("trillium:2x4", "v6e:2x4", {}, 1),
        ("v5litepod:16x16*2", "v5e:16x16", {"num_slices": 2}, 2),
        ("v4:2x2x1", "v4:2x2x1", {"chip_config_name": "megacore"}, 1),
        ("Ironwood:2x2x1", "tpu7x:2x2x1", {}, 1),
    ],
)
def test_names_as_people_write_them(monkeypatch, name, asked, options, slices):
    calls = []

    def described(name, **given):
        calls.append((name, given))
        return types.SimpleNamespace(devices=list(range(8)))

    monkeypatch.setattr(topology_lib.topologies, "get_topology_desc", described)
    found = topology_lib.open_topology(name)
    assert calls == [(asked, {"platform": "tpu", **options})]
    assert (found.name, found.slices) == (name, slices)
    assert found.chips == (4 if asked.startswith("tpu7x") else 8)
