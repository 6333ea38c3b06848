"""The student's sizes by name: `tiny`, `small` for one small machine, `ov_*` as published."""

from vqa_jax.models.cell_tower import CellTowerConfig
from vqa_jax.models.prompt import tiny_vocabulary
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig

# SigLIP-so400m-patch14-384: 26 of its 27 layers are computed (method 4).
SO400M = SiglipConfig(
    image_size=384, patch_size=14, embed_dim=1152, mlp_dim=4304, num_heads=16, num_layers=26
)
# Rounded up, so that the vocabulary axis splits over devices.
_OWN_VOCABULARY = -(-len(tiny_vocabulary()) // 64) * 64


def _own_decoder(num_layers: int) -> Qwen2Config:
    """The decoder of the students whose vocabulary is that of the prompt alone."""
    return Qwen2Config(
        num_layers=num_layers,
        embed_dim=96,
        mlp_dim=256,
        num_heads=4,
        num_kv_heads=2,
        head_dim=24,
        vocab_size=_OWN_VOCABULARY,
        rope_theta=1e4,
        unroll=num_layers,
    )


PRESETS: dict[str, StudentConfig] = {
    "tiny": StudentConfig(
        vision=SiglipConfig(
            image_size=64,
            patch_size=8,
            embed_dim=96,
            mlp_dim=384,
            num_heads=3,
            num_layers=4,
            unroll=4,
        ),
        llm=_own_decoder(3),
        motion_dim=128,
        motion_scale=8.0,
    ),
    "small": StudentConfig(
        vision=CellTowerConfig(),
        llm=_own_decoder(2),
        motion_dim=128,
        motion_scale=8.0,
        projector_skip=True,
    ),
    "ov_0_5b": StudentConfig(
        vision=SO400M,
        llm=Qwen2Config(
            num_layers=24,
            embed_dim=896,
            mlp_dim=4864,
            num_heads=14,
            num_kv_heads=2,
            head_dim=64,
            vocab_size=151936,
            tie_embeddings=True,
        ),
        compute_dtype="bfloat16",
    ),
    "ov_7b": StudentConfig(
        vision=SO400M,
        llm=Qwen2Config(
            num_layers=28,
            embed_dim=3584,
            mlp_dim=18944,
            num_heads=28,
            num_kv_heads=4,
            head_dim=128,
            vocab_size=152064,
        ),
        compute_dtype="bfloat16",
    ),
}
