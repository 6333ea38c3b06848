"""A student under the names of others, as the programs that serve such models load it.

Under LLaVA-OneVision's names:
model.safetensors             vision tower, projector, newline, decoder
motion/projector.safetensors  what those programs do not know, where they do not look
config.json                   sizes
Under those of the decoder alone:
decoder/                      a folder for such programs: model.safetensors, config.json, tokenizer
beside/student.safetensors    the rest
Under either:
model.safetensors.index.json  where every tensor is, for those who want them all (our loader)
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from vqa_jax.exchange.names import DIALECTS
from vqa_jax.exchange.student_io import foreign_tensors
from vqa_jax.jobs.files import write_json
from vqa_jax.models.functional import HEAD, Params
from vqa_jax.models.student import StudentConfig
from vqa_jax.weights.reader import INDEX_NAME
from vqa_jax.weights.writer import write_safetensors

# The image's token is before it: Qwen2's vocabulary as LLaVA-OneVision extends it, and Qwen3's own.
_VIDEO_TOKEN, _QWEN3_VIDEO_TOKEN = 151647, 151656

Tensors = dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]


def without_training_parts(
    cfg: StudentConfig, params: Params
) -> tuple[StudentConfig, dict[str, Any]]:
    """The student without its auxiliary severity head, which scoring does not use."""
    kept = {k: v for k, v in params.items() if not k.startswith(HEAD)}
    return dataclasses.replace(cfg, num_severity_classes=0), kept


def write(folder: str, cfg: StudentConfig, params: Params, names: str) -> None:
    """Writes weights, index and config.json to a folder that exists.

    Args:
      folder: to write to.
      cfg, params: as of `without_training_parts`, without low-rank additions.
      names: key of NAMES.
    """
    form = NAMES[names]
    dialect, alone = DIALECTS[form.dialect], names == "decoder"
    width = cfg.vision.embed_dim
    dtype = np.dtype(cfg.param_dtype) if cfg.param_dtype == "float32" else _bfloat16()
    files: dict[str, Tensors] = {form.model: {}, form.other: {}}
    decoder = tuple(f"{dialect.decoder}{part}" for part in ("embed_tokens.", "layers.", "norm."))
    for key, found in foreign_tensors(cfg, params, form.dialect).items():
        apart = ".slowfast_projector." in key
        if alone:
            apart = not key.startswith((*decoder, f"{dialect.head}."))
        files[form.other if apart else form.model][key] = found
    # The tower's last norm is part of those models, and unused: the state before it is taken.
    for part, value in (("weight", 1.0), ("bias", 0.0)) if not alone else ():
        files[form.model][f"{dialect.vision}post_layernorm.{part}"] = (
            (width,),
            lambda value=value: np.full(width, value, dtype),
        )
    total = 0
    for name, tensors in files.items():

        def pieces(key: str, tensors: Tensors = tensors) -> Iterator[np.ndarray]:
            yield tensors[key][1]()

        shapes = {key: (shape, dtype) for key, (shape, _) in tensors.items()}
        os.makedirs(os.path.join(folder, os.path.dirname(name)), exist_ok=True)
        write_safetensors(os.path.join(folder, name), shapes, pieces)
        total += sum(math.prod(shape) * dtype.itemsize for shape, _ in shapes.values())
    where = {key: name for name, tensors in files.items() for key in tensors}
    write_json(
        os.path.join(folder, INDEX_NAME), {"metadata": {"total_size": total}, "weight_map": where}
    )
    config = form.config(cfg) | ({} if alone else {"motion_scale": cfg.motion_scale})
    write_json(os.path.join(folder, os.path.dirname(form.model), "config.json"), config)


def _bfloat16() -> np.dtype:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def _text(cfg: StudentConfig) -> dict[str, Any]:
    llm = cfg.llm
    return {
        "model_type": "qwen3" if llm.qk_norm else "qwen2",
        "hidden_size": llm.embed_dim,
        "intermediate_size": llm.mlp_dim,
        "num_hidden_layers": llm.num_layers,
        "num_attention_heads": llm.num_heads,
        "num_key_value_heads": llm.num_kv_heads,
        "head_dim": llm.head_dim,
        "vocab_size": llm.vocab_size,
        "rope_theta": llm.rope_theta,
        "rms_norm_eps": llm.norm_eps,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "tie_word_embeddings": llm.tie_embeddings,
    }


def _vision(cfg: StudentConfig) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": cfg.vision.embed_dim,
        "intermediate_size": cfg.vision.mlp_dim,
        "num_hidden_layers": cfg.vision.num_layers,
        "num_attention_heads": cfg.vision.num_heads,
        "image_size": cfg.vision.image_size,
        "patch_size": cfg.vision.patch_size,
        "layer_norm_eps": cfg.vision.norm_eps,
        "hidden_act": "gelu_pytorch_tanh",
        "vision_use_head": False,
    }


def _hf_config(cfg: StudentConfig) -> dict[str, Any]:
    video = _QWEN3_VIDEO_TOKEN if cfg.llm.qk_norm else _VIDEO_TOKEN
    video = min(video, cfg.llm.vocab_size - 1)
    return {
        "model_type": "llava_onevision",
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "text_config": _text(cfg),
        "vision_config": _vision(cfg),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "projector_hidden_act": "gelu",
        "image_token_index": video - 1,
        "video_token_index": video,
        "tie_word_embeddings": cfg.llm.tie_embeddings,
        "torch_dtype": cfg.param_dtype,
    }


def _decoder_config(cfg: StudentConfig) -> dict[str, Any]:
    kind = "Qwen3ForCausalLM" if cfg.llm.qk_norm else "Qwen2ForCausalLM"
    return {**_text(cfg), "architectures": [kind], "torch_dtype": cfg.param_dtype}


def _original_config(cfg: StudentConfig) -> dict[str, Any]:
    return {
        **_text(cfg),
        "model_type": "llava",
        "architectures": ["LlavaQwenForCausalLM"],
        "vision_config": _vision(cfg),
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_hidden_size": cfg.vision.embed_dim,
        "mm_projector_type": "mlp2x_gelu",
        "mm_newline_position": "one_token",
        "mm_spatial_pool_mode": "bilinear",
        "mm_patch_merge_type": "spatial_unpad",
        "use_mm_proj": True,
        "tokenizer_model_max_length": 32768,
        "torch_dtype": cfg.param_dtype,
    }


class Names(NamedTuple):
    """A dialect; what other programs read of it, and what they do not know; their config.json."""

    dialect: str
    model: str
    other: str
    config: Callable[[StudentConfig], dict[str, Any]]


_WHOLE = "model.safetensors", "motion/projector.safetensors"
NAMES = {
    "original": Names("original", *_WHOLE, _original_config),
    "hf": Names("hf_before_4_52", *_WHOLE, _hf_config),  # what most files of the port hold
    "decoder": Names(
        "decoder_apart",
        "decoder/model.safetensors",
        "beside/student.safetensors",
        _decoder_config,
    ),
}
