"""Plans of scoring: its mesh; what its steps take is in test_plan.py."""

import jax
import pytest

from tests.fixtures.planned_step import big_spec
from vqa_jax.devices.topology import CHIPS, Topology
from vqa_jax.planning import scoring


@pytest.mark.parametrize(
    ("chip", "dtype", "cache_dtype", "sizes"),
    [
        ("v5e", None, None, (4, 2, 1)),
        ("v6e", None, None, (8, 1, 1)),
        ("v5e", "int8", None, (4, 2, 1)),  # 9.7 GB with the anchors, of 9.6
        ("v5e", "int8", "int8", (8, 1, 1)),
        ("v6e", "int8", None, (8, 1, 1)),
    ],
)
def test_scoring_is_planned_on_the_mesh_that_it_takes_itself(chip, dtype, cache_dtype, sizes):
    chips = Topology(f"{chip}:2x4", (2, 4), tuple(jax.devices()[:8]), CHIPS[chip])
    mesh = scoring.scoring_mesh(big_spec(), chips, dtype, cache_dtype)
    assert tuple(mesh.shape.values()) == sizes
