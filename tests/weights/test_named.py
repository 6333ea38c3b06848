"""Parameters by our own names: the same file gives the same network, another one is told."""

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from vqa_jax.models.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from vqa_jax.weights.named import load_efficientnet_lite, parameters
from vqa_jax.weights.reader import WeightsError


def _stored(size: int) -> dict[str, np.ndarray]:
    model = nnx.eval_shape(lambda: EfficientNetLite(EfficientNetLiteConfig(size), nnx.Rngs(0)))
    rng = np.random.default_rng(size)
    return {
        name: rng.normal(size=leaf.get_value().shape).astype(np.float16)
        for name, leaf in parameters(model).items()
    }


@pytest.mark.parametrize(
    "size", [0, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 2))]
)
def test_a_file_tells_its_size_and_gives_its_numbers(tmp_path, size):
    stored = _stored(size)
    save_file(stored, tmp_path / "tower.safetensors")
    model = load_efficientnet_lite(tmp_path / "tower.safetensors")
    assert model.cfg.size == size
    for name, leaf in parameters(model).items():
        assert isinstance(leaf.get_value(), jax.Array) and leaf.get_value().dtype == np.float32
        np.testing.assert_array_equal(leaf.get_value(), stored[name].astype(np.float32))


def test_a_file_of_something_else_lists_what_does_not_fit(tmp_path):
    stored = _stored(0)
    del stored["stem/bias"]
    stored["head/bias"] = stored["head/bias"][:-1]
    stored["classifier"] = np.zeros(3, np.float16)
    save_file(stored, tmp_path / "tower.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_efficientnet_lite(tmp_path / "tower.safetensors")
    assert caught.value.problems["missing"] == ["stem/bias"]
    assert caught.value.problems["unexpected"] == ["classifier"]
    assert "head/bias" in caught.value.problems["misshapen"][0]
