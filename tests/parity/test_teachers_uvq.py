"""UVQ 1.5 with random weights, from the checkpoints' names to scores, against torch."""

import jax
import numpy as np
import pytest
import torch
from flax import nnx

from launch import convert_uvq
from tests.fixtures import torch_uvq
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models.efficientnet_lite import BlockConfig
from vqa_jax.teachers import looks
from vqa_jax.teachers.neural import uvq, weights
from vqa_jax.teachers.neural.uvq import UvqConfig

# Sides that leave something over at every stride, one block with everything and one with nothing.
SMALL = UvqConfig(
    blocks=(BlockConfig(3, 1, 1, 6, 4), BlockConfig(5, 2, 3, 4, 8), BlockConfig(3, 1, 2, 8, 8)),
    stem=6,
    channels=5,
    hidden=7,
    content_side=29,
    pool=(2, 5),
)


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """(torch's network, ours) of a config: three pickles, through the script."""

    def make(cfg: UvqConfig, seed: int) -> tuple[torch_uvq.Uvq, uvq.Uvq]:
        reference = torch_uvq.random(cfg, seed)
        reference.save(tmp_path)
        path = tmp_path / "uvq.safetensors"
        monkeypatch.setattr(uvq, "UvqConfig", lambda: cfg)
        load = weights.load_uvq
        monkeypatch.setattr(weights, "load_uvq", lambda path: load(path, cfg))
        assert convert_uvq.main([str(tmp_path), str(path)]) == 0
        return reference, weights.load_uvq(path)

    return make


@pytest.mark.parametrize(
    ("cfg", "size"),
    [
        pytest.param(SMALL, (3 * 19, 3 * 31), id="small"),
        pytest.param(UvqConfig(), looks.UVQ_FRAME, id="published", marks=pytest.mark.slow),
    ],
)
def test_maps_and_scores(cfg, size, converted):
    reference, model = converted(cfg, 3)
    # Blocks of 8 pixels and noise, so that a shifted frame or an exchanged part gives other maps.
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 224, (2, *(-(-x // 8) for x in size), 3), np.uint8)
    frames = coarse.repeat(8, 1).repeat(8, 2)[:, : size[0], : size[1]]
    frames = frames + rng.integers(0, 32, frames.shape, np.uint8)
    graph, state = nnx.split(model)

    @jax.jit
    def ours(state, frames):
        model = nnx.merge(graph, state)
        maps = model.maps(frames)
        return maps, model.aggregation(*maps)

    maps, found = ours(state, frames)
    with torch.inference_mode():
        wanted = reference.maps(torch.from_numpy(frames))
    for got, want in zip(maps, wanted, strict=True):
        want = want.permute(0, 2, 3, 1).numpy()
        assert np.abs(want[0] - want[1]).mean() > 0.05  # what is shown matters
        unit = want.std()  # of random maps: some 1 to 10
        np.testing.assert_allclose(got / unit, want / unit, **TOLERANCES["teacher_maps"])
    wanted = torch_uvq.scores(reference, frames)
    np.testing.assert_allclose(found, wanted, **TOLERANCES["teacher_maps"])
    assert wanted.min() > 1 and wanted.max() < 5 and np.ptp(wanted) > 1e-3


def test_torchs_sizes_are_the_published_ones():
    """Names of tensors as the checkpoints have them, and how many weights those are."""
    with torch.device("meta"):
        model = torch_uvq.Uvq(UvqConfig())
    tower = model.content.state_dict()
    for key, shape in (
        ("features.0.0.conv.weight", (32, 3, 3, 3)),
        ("features.1.block.0.0.conv.weight", (32, 1, 3, 3)),
        ("features.1.block.2.1.running_var", (16,)),
        ("features.6.block.2.fc1.weight", (10, 240, 1, 1)),
        ("features.16.block.3.0.conv.weight", (320, 1152, 1, 1)),
        ("features.17.conv.weight", (128, 320, 2, 2)),
    ):
        assert tuple(tower[key].shape) == shape
    shapes = {key: tuple(value.shape) for key, value in model.aggregation.state_dict().items()}
    assert shapes["conv1.weight"] == (256, 256, 1, 1) and shapes["linear1.weight"] == (1, 256)
    assert shapes["ln1.weight"] == (256, 4, 4)
    assert sum(value.numel() for value in model.parameters()) == 7_592_697  # 30 MB


def _without(path, key):
    tensors = torch.load(path, weights_only=True)
    del tensors[key]
    torch.save(tensors, path)


def test_other_files_are_told_and_nothing_is_written(tmp_path, capsys):
    reference = torch_uvq.random(SMALL, 0)
    out = tmp_path / "uvq.safetensors"
    assert convert_uvq.main([str(tmp_path), str(out)]) == 1
    assert "content_net.pth" in capsys.readouterr().err
    reference.save(tmp_path)  # too few blocks
    assert convert_uvq.main([str(tmp_path), str(out)]) == 1
    assert "features.4.block.0.0.conv.weight is missing" in capsys.readouterr().err
    tensors = reference.content.state_dict()
    parts = {"content": {k: v.numpy() for k, v in tensors.items()} | {"more": np.zeros(1)}}
    with pytest.raises(ValueError, match=r"content_net\.pth: more is not known"):
        convert_uvq.to_ours(parts, SMALL.blocks)
    assert not out.exists()
