"""Arrays from a file into the shards of a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import save_file

from vqa_jax.devices import sharding as parallel
from vqa_jax.weights import rules, stream
from vqa_jax.weights.reader import Checkpoint
from vqa_jax.weights.rules import Rule


@pytest.mark.parametrize("limit", [100, 2**28])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_arrays_arrive_in_the_shards_of_a_mesh(tmp_path, monkeypatch, limit, dtype):
    """By both ways: put together on the host, or grown on the devices where it is too large."""
    monkeypatch.setattr(rules, "BLOCK_BYTES", limit)
    mesh = parallel.make_mesh((2, 2, 2))
    rule, shape = Rule(("w",), "x.{layer}", "linear"), (2, 4, 6, 5)
    rng = np.random.default_rng(2)
    tensors = {key: rng.normal(size=(30, 4)).astype(np.float32) for key in rule.keys(shape)}
    save_file(tensors, tmp_path / "w.safetensors")
    want = np.stack([one.T.reshape(4, 6, 5) for one in tensors.values()])
    sharding = NamedSharding(mesh, PartitionSpec(None, "fsdp", "tensor", None))
    leaf = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=sharding)
    found = stream.load_array(Checkpoint(tmp_path / "w.safetensors"), rule, leaf)
    assert found.sharding == sharding and found.dtype == dtype
    assert {shard.data.shape for shard in found.addressable_shards} == {(2, 2, 3, 5)}
    np.testing.assert_array_equal(np.asarray(found), want.astype(leaf.dtype))


def test_replicas_do_not_share_memory(tmp_path):
    """On the CPU a shard may be the host's memory; a donated step must not change its replica."""
    save_file({"x": np.ones((4, 64), np.float32)}, tmp_path / "w.safetensors")
    sharding = NamedSharding(parallel.make_mesh((8, 1, 1)), PartitionSpec())
    leaf = jax.ShapeDtypeStruct((4, 64), jnp.dtype("float32"), sharding=sharding)
    found = stream.load_array(Checkpoint(tmp_path / "w.safetensors"), Rule((), "x", "same"), leaf)
    addresses = {shard.data.unsafe_buffer_pointer() for shard in found.addressable_shards}
    assert len(addresses) == 8


def test_a_part_of_a_file_is_read_without_the_rest(tmp_path, monkeypatch):
    """A process reads what its own devices need: here the first of two devices is not its own."""
    monkeypatch.setattr(rules, "BLOCK_BYTES", 64)
    save_file({"x": np.arange(64, dtype=np.float32).reshape(16, 4)}, tmp_path / "w.safetensors")
    checkpoint, read = Checkpoint(tmp_path / "w.safetensors"), []
    original = checkpoint.read
    monkeypatch.setattr(checkpoint, "read", lambda *a: read.append(a[1][0]) or original(*a))
    mesh = parallel.make_mesh((1, 2, 1), jax.devices()[:2])
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    monkeypatch.setattr(
        NamedSharding,
        "addressable_devices_indices_map",
        lambda self, shape: {jax.devices()[1]: (slice(8, 16), slice(None))},
    )
    monkeypatch.setattr(jax, "make_array_from_single_device_arrays", lambda s, sh, shards: shards)
    leaf = jax.ShapeDtypeStruct((16, 4), jnp.dtype("float32"), sharding=sharding)
    (shard,) = stream.load_array(checkpoint, Rule((), "x", "same"), leaf)
    assert read == [slice(8, 12), slice(12, 16)]
    np.testing.assert_array_equal(shard, np.arange(32, 64).reshape(8, 4))
