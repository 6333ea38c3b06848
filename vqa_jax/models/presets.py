"""The student's sizes by name: `tiny`, `small` for one small machine, `ov_*` as published,
`qwen3_siglip2_*` with newer parts in the same places."""

from vqa_jax.models.cell_tower import CellTowerConfig
from vqa_jax.models.prompt import tiny_vocabulary
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig

# SigLIP-so400m-patch14-384: 26 of its 27 layers are computed (method 4). SigLIP2's of that name and
# fixed resolution is the same network with other weights.
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


def _qwen3(num_layers: int, embed_dim: int, mlp_dim: int, num_heads: int) -> StudentConfig:
    """A student with a decoder of Qwen3, whose embeddings are tied below 8B.

    Sizes are those of the decoders' own config.json, as MaxText's configs/models/qwen3-*.yml and
    Tunix's models/qwen3/model.py repeat them.
    """
    return StudentConfig(
        vision=SO400M,
        llm=Qwen2Config(
            num_layers=num_layers,
            embed_dim=embed_dim,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            num_kv_heads=8,
            head_dim=128,
            vocab_size=151936,
            tie_embeddings=embed_dim < 4096,
            qk_norm=True,
        ),
        compute_dtype="bfloat16",
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
    "qwen3_siglip2_0_6b": _qwen3(28, 1024, 3072, 16),
    "qwen3_siglip2_4b": _qwen3(36, 2560, 9728, 32),
    "qwen3_siglip2_8b": _qwen3(36, 4096, 12288, 32),
}
