"""The torch twins that throughput is compared with give the official code's numbers."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.fixtures import torch_teachers
from tests.fixtures.tolerances import TOLERANCES
from tests.parity import teacher_throughput
from tests.parity import test_teachers_golden as golden
from tests.parity import test_teachers_swin2d as swin2d
from vqa_jax.teachers.neural import minimalistic


@pytest.mark.parametrize("name", [pytest.param("technical", marks=pytest.mark.slow), "aesthetic"])
def test_twin_reproduces_the_golden(shared, name):
    folder = shared / "golden" / "dover"
    cfg = golden.CONFIG
    backbone = (
        torch_teachers.Swin3d(cfg.technical)
        if name == "technical"
        else torch_teachers.ConvNext3d(cfg.aesthetic)
    )
    width = getattr(cfg, name).feature_dim
    state = load_file(folder / "model.safetensors")
    model = torch_teachers.branch(backbone, width, cfg.head_dim, name, state)
    io = np.load(folder / "io.npz")
    with torch.inference_mode():
        score_map = model.score_map(torch.from_numpy(io["clip"][None])).numpy()
    np.testing.assert_allclose(score_map[0], io[f"{name}_score_map"], **TOLERANCES["teacher_maps"])


@pytest.mark.slow
def test_throughput_is_measured_on_equal_outputs():
    whole = minimalistic.MinimalisticConfig(swin2d.SMALL)
    calls = teacher_throughput.minimalistic_vii(whole, 224)
    assert min(teacher_throughput.compare(*calls, (1, 224, 224, 3), repeats=1)) > 0
    with pytest.raises(AssertionError):
        teacher_throughput.compare(calls[0], np.ones_like, (1, 224, 224, 3), repeats=1)
