"""Files that are written piece by piece."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from vqa_jax.weights.writer import write_safetensors


def test_written_file_is_what_safetensors_reads(tmp_path):
    rng = np.random.default_rng(3)
    want = {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "b/c": rng.normal(size=(5,)).astype(jnp.bfloat16),
    }
    specs = {name: (array.shape, array.dtype) for name, array in want.items()}
    write_safetensors(
        tmp_path / "w", specs, lambda name: (want[name][i : i + 2] for i in (0, 2, 4))
    )
    found = load_file(tmp_path / "w")
    assert list(found) == list(want)
    for name, array in want.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="a: 16 bytes, not 48"):
        write_safetensors(tmp_path / "v", specs, lambda name: iter([want[name][:1]]))
    assert sorted(os.listdir(tmp_path)) == ["w"]
