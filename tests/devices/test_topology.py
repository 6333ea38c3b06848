"""Topologies: names that are refused, pretended devices that are too many."""

import types

import jax
import pytest

from vqa_jax.devices import topology as topology_lib
from vqa_jax.devices.topology import TopologyError


@pytest.fixture(autouse=True)
def made():
    """The suite's eight devices; a topology asked for first would make as many as it needs."""
    assert jax.device_count() == 8


@pytest.mark.parametrize(
    "name",
    [
        *("v5x:8x8", "v5e:8y8", "v5e", "cpu:", "v5e:8x8*0", "v5e:8x8*b", "v5e:0x8", "v5e:8x8-4"),
        *("v6e-100", "cpu-8", "h100:2x4", "h100-8", "b100:8"),
    ],
)
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
        ("v6e-256", "v6e:16x16", {}, 1),
        ("v5litepod-8*2", "v5e:2x4", {"num_slices": 2}, 2),
        ("v5p-128", "v5p:4x4x4", {}, 1),  # they count cores
        ("v4-8", "v4:2x2x1", {"chip_config_name": "megacore"}, 1),
        ("tpu7x-16", "tpu7x:2x2x2", {}, 1),
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


def test_nodes_of_gpus_are_slices_of_pretended_devices():
    found = topology_lib.open_topology("H100:4*2")
    assert (found.dims, found.slices, found.chips, found.stand_ins) == ((4,), 2, 8, True)
    assert found.chip is topology_lib.GPUS["h100"] and found.link_share(4) == 1.0
    assert topology_lib.open_topology("a100-80gb:8").chip is topology_lib.GPUS["a100"]
    with pytest.raises(TopologyError, match=r"h100:8\*NODES"):
        topology_lib.open_topology("h100:16")
