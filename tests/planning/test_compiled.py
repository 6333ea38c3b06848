"""One compiled step: its figures by hand, and what a compiler says that does not fit."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.fixtures.planned_step import mesh as mesh_of
from vqa_jax.devices.topology import CHIPS, Topology
from vqa_jax.models.flops import PairShape
from vqa_jax.planning import compiled


@pytest.fixture(scope="module")
def summed():
    """A product over rows that eight devices share, summed over them, three times."""
    mesh = mesh_of(1, 8, 1)

    def local(w, x):
        def body(carry, _):
            return carry + jax.lax.psum(x.T @ (x @ w + carry), "fsdp"), None

        return jax.lax.scan(body, jnp.zeros((64, 64)), length=3)[0]

    rows, whole = PartitionSpec("fsdp"), PartitionSpec()
    step = jax.jit(
        jax.shard_map(local, mesh=mesh, in_specs=(whole, rows), out_specs=whole, check_vma=False)
    )
    given = [
        jax.ShapeDtypeStruct(dims, jnp.float32, sharding=NamedSharding(mesh, spec))
        for dims, spec in (((64, 64), whole), ((8 * 64, 64), rows))
    ]
    chips = Topology("v5e:2x4", (2, 4), tuple(mesh.devices.flat), CHIPS["v5e"])
    sizes = (64 * 64 * 4, 0, 64 * 64 * 4)
    return compiled.compile_step("train", PairShape(8, 1, 1, 9, 1), step, given, sizes, 1e6, chips)


def test_collectives_operations_and_memory_by_hand(summed):
    assert summed.executed == 8 * 3 * 2 * 2 * 64**3
    (row,) = summed.collectives.values()
    assert summed.collectives.keys() == {"all-reduce"} and row["count"] == 3
    sent = 3 * 2 * 7 / 8 * 64 * 64 * 4
    assert row["gigabytes"] == pytest.approx(sent / 1e9)
    assert summed.interconnect == pytest.approx(sent)
    # Two inputs and one result, and at least a product and its sum on their way.
    assert summed.memory.total >= 4 * 64 * 64 * 4
    assert summed.memory.spare == 16e9 - summed.memory.total


def test_what_does_not_fit_is_read_from_the_compilers_message():
    message = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space "
        "hbm. Used 21.90G of 15.75G hbm. Exceeded hbm capacity by 6.15G."
    )
    assert compiled._needed_bytes(message) == int(21.9 * 2**30)
    newer = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (22.37G) exceeds available HBM (15.75G)."
    )
    assert compiled._needed_bytes(newer) == int(22.37 * 2**30)
    assert compiled._needed_bytes("INTERNAL: something else") is None
