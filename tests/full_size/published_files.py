"""Files as they circulate, with random weights: LLaVA-OneVision's 0.5B and SlowFast-R50.

Names and shapes of the checkpoints are those of the published files; the same weights stand under
the names of every dialect.
"""

import json
import pathlib
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from vqa_jax.motion import weights
from vqa_jax.motion.network import FastPathway, FastPathwayConfig
from vqa_jax.weights.writer import write_safetensors

_DECODER = {
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
_PORT = {
    "architectures": ["LlavaOnevisionForConditionalGeneration"],
    "image_token_index": 151646,
    "model_type": "llava_onevision",
    "text_config": {**_DECODER, "model_type": "qwen2"},
    "tie_word_embeddings": True,
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 384,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 26,
        "patch_size": 14,
        "vision_use_head": False,
    },
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
}
CONFIGS = {
    "original": {
        **_DECODER,
        "architectures": ["LlavaQwenForCausalLM"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "model_type": "llava",
    },
    "hf": _PORT,
    "hf_before_4_52": _PORT,
}
# What the dialects put before a parameter's own name, and what they call differently.
_BEFORE = re.compile(r"^((model|language_model|vision_tower|vision_model)\.)+")
_SAME = {
    "lm_head": "embed_tokens",  # tied
    "mm_projector.0": "multi_modal_projector.linear_1",
    "mm_projector.2": "multi_modal_projector.linear_2",
}


def _own_name(key: str) -> str:
    """The name of a parameter that is the same in all dialects."""
    key = _BEFORE.sub("", key)
    for theirs, ours in _SAME.items():
        key = key.replace(theirs, ours)
    return key


def _drawn(key: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Weights of a size that keeps the signal's: a dense layer's fall with its inputs."""
    name = _own_name(key)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    around, spread = 0.0, 0.02
    if name.endswith(("q_proj.bias", "k_proj.bias")) and "encoder" not in name:
        spread = 3.0  # as Qwen2's are: how far a token is decides, so the second video is told
    elif name.endswith("bias"):
        spread = 0.1
    elif name == "norm.weight":
        around = 6.0  # so that what differs between two videos is heard in the answer
    elif len(shape) == 1:
        around, spread = float("norm" in name), 0.1
    elif "embed" not in name:
        spread = np.prod(shape[1:]) ** -0.5
    elif "patch" in name or "position" in name:
        spread = 0.05
    rows = max(1, (1 << 24) // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], rows):
        part = (min(rows, shape[0] - start), *shape[1:])
        yield (around + spread * rng.standard_normal(part, np.float32)).astype(jnp.bfloat16)


def write_checkpoint(
    folder: pathlib.Path,
    shapes: Mapping[str, list[int]],
    config: Mapping[str, object],
    tokenizer: pathlib.Path,
) -> None:
    """Writes a checkpoint in bfloat16.

    Args:
      folder: is made.
      shapes: key -> shape, as the published file has them.
      config: its config.json.
      tokenizer: folder with the decoder's tokenizer.
    """
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for file in tokenizer.iterdir():
        shutil.copyfile(file, folder / file.name)
    bf16 = np.dtype(jnp.bfloat16)
    write_safetensors(
        folder / "model.safetensors",
        {key: (tuple(shape), bf16) for key, shape in shapes.items()},
        lambda key: _drawn(key, tuple(shapes[key])),
    )


def write_slowfast(path: pathlib.Path) -> None:
    """Writes a SlowFast-R50 under pytorchvideo's names: both pathways and the classifier.

    The slow one, which nothing here reads, is the fast one at eight times its width.
    """
    rng = np.random.default_rng(0)
    tensors = {"blocks.6.proj.weight": rng.normal(0, 0.02, (400, 2304)).astype(np.float32)}

    def drawn(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(leaf.shape) == 1:  # of a norm, whose variance must be positive
            return rng.uniform(0.2, 1.0, leaf.shape).astype(np.float32)
        return rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype(np.float32)

    shapes = nnx.eval_shape(lambda: FastPathway(FastPathwayConfig(), nnx.Rngs(0)))
    graph, state = nnx.split(shapes)
    fast = weights.export_pathway(nnx.merge(graph, jax.tree.map(drawn, state)))
    for key, value in fast.items():
        wide = [n * 8 if n > 7 else n for n in value.shape]
        slow = key.replace(weights.FAST, "multipathway_blocks.0")
        tensors |= {key: value, slow: rng.normal(0, 0.02, wide).astype(np.float32)}
    save_file(tensors, path)
