"""Bounds by hand: int8's peak, the links of a group, the network between slices."""

import jax
import pytest

from vqa_jax.devices.topology import CHIPS, Topology
from vqa_jax.planning import flops as planning_flops
from vqa_jax.planning import hlo, roofline


def test_int8_has_its_own_peak():
    chips = Topology("v5e:1x1", (1, 1), tuple(jax.devices()[:1]), CHIPS["v5e"])
    codes = jax.ShapeDtypeStruct((8, 8), "int8")

    def product(a, b):
        return jax.numpy.einsum("ij,jk->ik", a, b, preferred_element_type="int32")

    count = planning_flops.count(product, codes, codes)
    assert count.int8 == count.total == 2 * 8**3
    wide = jax.ShapeDtypeStruct((8, 8), "bfloat16")
    assert planning_flops.count(product, wide, codes).int8 == 0
    bounds = roofline.bounds(count, hlo.Traffic(0.0, ()), chips)
    assert bounds["step"] == count.total / 393e12


def test_interconnect_time_follows_the_links_that_a_group_can_use():
    chips = Topology("v5e:8x8", (8, 8), tuple(range(64)), CHIPS["v5e"])
    assert chips.link_share(8) == 0.5 and chips.link_share(64) == 1.0
    gather = hlo.Collective("all-gather", 1.0, 8, 100, 2e9, "")
    bounds = roofline.bounds(planning_flops.Count(0.0, 0.0, 0), hlo.Traffic(0.0, (gather,)), chips)
    assert bounds["step"] == bounds["interconnect"] == pytest.approx(2e9 / 100e9)


def test_what_leaves_a_slice_goes_over_the_network():
    chips = Topology("v5e:2x4*2", (2, 4), tuple(range(16)), CHIPS["v5e"], 2)
    nothing = planning_flops.Count(0.0, 0.0, 0)
    bounds = roofline.bounds(nothing, hlo.Traffic(0.0, (), network=1e9), chips)
    assert bounds["network"] == pytest.approx(1e9 / (25e9 / 8)) == bounds["step"]
