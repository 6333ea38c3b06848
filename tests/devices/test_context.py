"""Parts of sequences: what each device holds, and what it is given back, with gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fixtures.planned_step import context_mesh
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import context, execution


def test_devices_hold_chunks_whose_causal_work_is_the_same():
    np.testing.assert_array_equal(context.order(8, 2), [0, 1, 6, 7, 2, 3, 4, 5])
    for devices, chunk in ((1, 3), (2, 5), (4, 1), (8, 2)):
        held = context.order(2 * devices * chunk, devices)
        np.testing.assert_array_equal(np.sort(held), np.arange(len(held)))
        work = held.reshape(devices, -1).sum(1)  # keys that a device's queries see, but for a sum
        assert (work == work[0]).all()


@pytest.mark.parametrize(("shape", "devices"), [((1, 1, 1), 8), ((2, 2, 1), 2), ((1, 2, 2), 2)])
def test_parts_come_together_and_gradients_go_back(shape, devices):
    run = execution.Execution(context_mesh(shape, devices))
    length = 44  # which 16 does not divide
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, 99, (4, length)), jnp.int32)
    wanted = jnp.asarray(rng.integers(0, length, (4, 3)), jnp.int32)
    table = jnp.asarray(rng.normal(size=(99, 6)), jnp.float32)

    def local(_, part, positions):
        return context.whole(part), context.taken(part, positions)

    def split(table):
        with execution.executing(run):
            stored = context.in_parts(tokens)
            assert stored.shape[1] % (2 * devices) == 0 and stored.shape[1] >= length
            np.testing.assert_array_equal(context.in_order(stored)[:, :length], tokens)
            rows = run.spec(("batch",), (4,))
            parts = run.spec(("batch", "sequence"), stored.shape)
            arrays = table[stored], wanted
            whole, taken = execution.on_shards(local, {}, {}, arrays, (parts, rows), (rows, rows))
        whole = whole[:, :length]
        return (jnp.sin(whole) * whole[:, ::-1]).sum() + (taken**3).sum(), (whole, taken)

    def plain(table):
        whole = table[tokens]
        taken = jnp.take_along_axis(whole, wanted[..., None], axis=1)
        return (jnp.sin(whole) * whole[:, ::-1]).sum() + (taken**3).sum(), (whole, taken)

    (_, found), gradient = jax.value_and_grad(split, has_aux=True)(table)
    (_, expected), wanted_gradient = jax.value_and_grad(plain, has_aux=True)(table)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(gradient, wanted_gradient, **TOLERANCES["direct_sum"])


def test_frames_are_shared_out_and_collected():
    frames = jnp.arange(2 * 5 * 3).reshape(2, 5, 3)
    np.testing.assert_array_equal(context.spread(frames), frames.reshape(10, 3))
    run = execution.Execution(context_mesh((1, 2, 1), 4))
    with execution.executing(run):
        spread = jax.jit(context.spread)(frames)
        # Five frames over four devices: three more, of zeros, and two of all for each.
        assert spread.shape == (16, 3)
        assert {shard.data.shape for shard in spread.addressable_shards} == {(2, 3)}
        again = jax.jit(context.collected, static_argnums=(1, 2))(spread, 2, 5)
    np.testing.assert_array_equal(again, frames)
