"""Rings of a mesh on a torus."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqa_jax.devices import sharding


class _Placed:
    """A device that says where it is on a torus."""

    def __init__(self, coords):
        self.coords = coords


@pytest.mark.parametrize(
    ("shape", "torus", "lengths"),
    [((1, 64, 1), (8, 8), [8, 8]), ((1, 64, 1), (4, 4, 4), [4, 4, 4]), ((8, 8, 1), (8, 8), None)],
)
def test_every_group_of_a_gather_lies_on_one_torus_axis(shape, torus, lengths):
    devices = np.empty(64, object)
    devices[:] = [_Placed(coords) for coords in np.ndindex(*torus)]
    mesh = jax.sharding.AbstractMesh(shape, sharding.MESH_AXES)
    placed = types.SimpleNamespace(
        axis_names=mesh.axis_names, shape=mesh.shape, devices=devices.reshape(shape)
    )
    steps = sharding.ring_groups(placed, "fsdp")
    assert [groups and len(groups[0]) for groups in steps] == (lengths or [None])
    for groups in filter(None, steps):
        assert sorted(np.ravel(groups)) == list(range(64))
        for group in groups:
            places = np.array([devices[i].coords for i in group])
            assert (np.ptp(places, axis=0) > 0).sum() == 1


def test_batches_must_divide_and_meshes_must_fit():
    mesh = sharding.make_mesh((2, 2, -1))
    assert mesh.shape == {"data": 2, "fsdp": 2, "tensor": 2}
    with pytest.raises(ValueError, match="change batch_size"):
        sharding.put_batch({"x": np.zeros((6, 1))}, mesh)
    with pytest.raises(ValueError, match="devices"):
        sharding.make_mesh((3, 1, 1))


@dataclasses.dataclass(frozen=True)
class _OfSlice:
    """A device of one of several slices."""

    id: int
    slice_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"
    process_index: int = 0


def test_slices_are_parts_of_the_data_axis():
    devices = [_OfSlice(number, number % 2) for number in range(8)]  # in no order of theirs
    for shape in ((2, 4, 1), (4, 1, 2), (-1, 2, 1)):
        mesh = sharding.make_mesh(shape, devices)
        of_slice = np.vectorize(lambda device: device.slice_index)(mesh.devices)
        half = len(of_slice) // 2
        assert (of_slice[:half] == 0).all() and (of_slice[half:] == 1).all(), shape
        assert len(set(mesh.devices.flat)) == 8
    with pytest.raises(ValueError, match=r"over 2 slices: .* as in 2,-1,1"):
        sharding.make_mesh((1, -1, 1), devices)


def test_placed_tells_shape_dtype_and_shard_of_every_leaf():
    mesh = sharding.make_mesh((2, 2, 2), jax.devices())
    tree = {"a": np.zeros((4, 6), np.float32), "b": jnp.zeros(3, jnp.bfloat16)}
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp", "tensor"))
    found = sharding.placed(tree, {"a": split, "b": sharding.replicated(mesh)})
    assert found["a"].shape == (4, 6) and found["a"].sharding.shard_shape((4, 6)) == (2, 3)
    assert (found["a"].dtype, found["b"].dtype) == (np.float32, jnp.bfloat16)
    alike = sharding.placed(tree, sharding.replicated(mesh), jnp.bfloat16)
    assert {x.dtype for x in alike.values()} == {jnp.dtype(jnp.bfloat16)}
