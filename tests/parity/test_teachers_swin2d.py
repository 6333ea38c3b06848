"""Swin over frames, and the loading of MinimalisticVQA, against transformers' torch model."""

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.numpy import save_file
from transformers import SwinConfig, SwinModel

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers.neural import minimalistic
from vqa_jax.teachers.neural import weights as teachers
from vqa_jax.teachers.neural.minimalistic import MinimalisticConfig
from vqa_jax.teachers.neural.swin2d import Swin2dConfig

EXACT = TOLERANCES["teacher_maps"]
SMALL = Swin2dConfig(embed_dim=8, num_layers=(2, 1, 2, 1), num_heads=(1, 2, 4, 8))


def _reference(cfg: Swin2dConfig, side: int, seed: int) -> SwinModel:
    """Random model; biases and norms too, since they are constants in a fresh one."""
    torch.manual_seed(seed)
    reference = SwinModel(
        SwinConfig(
            image_size=side,
            patch_size=cfg.patch_size[0],
            embed_dim=cfg.embed_dim,
            depths=list(cfg.num_layers),
            num_heads=list(cfg.num_heads),
            window_size=cfg.window[0],
            initializer_range=0.08,
        )
    ).eval()
    with torch.no_grad():
        for name, value in reference.named_parameters():
            if value.ndim == 1 or "bias_table" in name:
                value.add_(0.3 * torch.randn_like(value))
    return reference


def _official(reference: SwinModel, cfg: Swin2dConfig) -> dict[str, np.ndarray]:
    """The reference's weights under torchvision's names, as the released files hold them."""
    old = {key: value.numpy() for key, value in reference.state_dict().items()}
    new = {}

    def take(theirs: str, ours: str, leaves=("weight", "bias")) -> None:
        for leaf in leaves:
            new[f"feature_extraction.{theirs}.{leaf}"] = old[f"{ours}.{leaf}"]

    take("features.0.0", "embeddings.patch_embeddings.projection")
    take("features.0.2", "embeddings.norm")
    take("norm", "layernorm")
    for stage, depth in enumerate(cfg.num_layers):
        for block in range(depth):
            theirs = f"features.{2 * stage + 1}.{block}"
            ours = f"encoder.layers.{stage}.blocks.{block}"
            take(f"{theirs}.norm1", f"{ours}.layernorm_before")
            take(f"{theirs}.norm2", f"{ours}.layernorm_after")
            take(f"{theirs}.attn.proj", f"{ours}.attention.o_proj")
            take(f"{theirs}.mlp.0", f"{ours}.mlp.fc1")
            take(f"{theirs}.mlp.3", f"{ours}.mlp.fc2")
            attention = f"{ours}.attention"
            for leaf in ("weight", "bias"):
                new[f"feature_extraction.{theirs}.attn.qkv.{leaf}"] = np.concatenate(
                    [old[f"{attention}.{part}_proj.{leaf}"] for part in "qkv"]
                )
            table = "relative_position_bias_table"
            bias = old[f"{attention}.relative_position_bias.{table}"]
            new[f"feature_extraction.{theirs}.attn.{table}"] = bias
            index = f"feature_extraction.{theirs}.attn.relative_position_index"
            new[index] = np.zeros(2401, np.int64)
        if stage < len(cfg.num_layers) - 1:
            theirs, ours = f"features.{2 * stage + 2}", f"encoder.layers.{stage}.downsample"
            take(f"{theirs}.norm", f"{ours}.norm")
            take(f"{theirs}.reduction", f"{ours}.reduction", ("weight",))
    return new


def _with_head(weights: dict, cfg: MinimalisticConfig, rng: np.random.Generator) -> dict:
    width = cfg.swin.feature_dim + cfg.motion_dim
    shapes = {"0.weight": (128, width), "0.bias": (128,), "1.weight": (1, 128), "1.bias": (1,)}
    head = {
        f"quality.{name}": rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    return weights | head


@pytest.mark.parametrize(
    ("cfg", "side", "motion_dim"),
    [
        pytest.param(SMALL, 224, 0, id="whole_windows", marks=pytest.mark.slow),
        pytest.param(SMALL, 384, 256, id="padded_windows"),
        pytest.param(Swin2dConfig(), 384, 0, id="swin_b", marks=pytest.mark.slow),
        pytest.param(Swin2dConfig(), 384, 256, id="swin_b_motion", marks=pytest.mark.slow),
    ],
)
def test_features_and_scores(cfg, side, motion_dim, tmp_path):
    reference = _reference(cfg, side, seed=3)
    rng = np.random.default_rng(5)
    whole = MinimalisticConfig(cfg, motion_dim)
    weights = _with_head(_official(reference, cfg), whole, rng)
    save_file(weights, tmp_path / "official.safetensors")
    model = teachers.load_minimalistic(tmp_path / "official.safetensors", whole)

    frames = rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    pixels = (frames / 255.0 - minimalistic.PIXEL_MEAN) / minimalistic.PIXEL_STD
    with torch.no_grad():
        out = reference(torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2))
    want_map, want = out.last_hidden_state.numpy(), out.pooler_output.numpy()
    motion = rng.normal(0, 1, (2, motion_dim)).astype(np.float32)
    got_map, got = nnx.jit(
        lambda model, frames, *motion: (
            model.backbone.feature_map(minimalistic.normalize(frames)),
            model(frames, *motion),
        )
    )(model, frames, *([motion] if motion_dim else []))
    np.testing.assert_allclose(got_map.reshape(want_map.shape), want_map, **EXACT)

    joined = np.concatenate([want, motion], -1)
    hidden = joined @ weights["quality.0.weight"].T + weights["quality.0.bias"]
    want = (hidden @ weights["quality.1.weight"].T + weights["quality.1.bias"])[:, 0]
    np.testing.assert_allclose(got, want, **EXACT)


def test_motion_must_fit():
    cfg = MinimalisticConfig(SMALL, 256)
    model = nnx.eval_shape(lambda: minimalistic.MinimalisticVqa(cfg, nnx.Rngs(0)))
    frames = jax.ShapeDtypeStruct((3, 384, 384, 3), np.uint8)
    for motion in (None, jax.ShapeDtypeStruct((2, 256), np.float32)):
        with pytest.raises(ValueError, match="motion of shape"):
            model(frames, motion)
