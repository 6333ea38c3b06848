"""Our fast pathway against pytorchvideo's SlowFast-R50 (numbers made by torch)."""

import jax
import numpy as np

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.motion import weights


def test_stages_and_motion_equal_the_reference(shared):
    folder = shared / "golden" / "slowfast"
    io = np.load(folder / "io.npz")
    model = weights.load_features(folder / "slowfast.safetensors").model
    outputs = jax.jit(model.stage_outputs)(io["clips"])
    for stage, output in enumerate(outputs):
        want = io[f"stage{stage}_fast_mean"]
        np.testing.assert_allclose(output.mean((1, 2, 3)), want, **TOLERANCES["motion"])


def test_loaded_callable_gives_the_motion_feature(shared):
    folder = shared / "golden" / "slowfast"
    io = np.load(folder / "io.npz")
    features = weights.load_features(folder / "slowfast.safetensors")(io["clips"])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, io["motion"], **TOLERANCES["motion"])
