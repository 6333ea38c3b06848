"""A student's sizes from the `config.json` of the checkpoints that it is made of."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from vqa_jax.jobs import fields
from vqa_jax.models.presets import SO400M
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig
from vqa_jax.weights.bundle import BOUNDS
from vqa_jax.weights.reader import Checkpoint, WeightsError

_Sizes = TypeVar("_Sizes")
_TOWERS = ("siglip", "siglip_vision_model")  # model types of a tower alone
_NAFLEX = ("siglip2", "siglip2_vision_model")  # SigLIP2 of fixed resolution is of type siglip
_DECODERS = ("qwen2", "qwen3", "qwen3_vl")  # of those whose decoder alone is taken
_QK_NORM = ("qwen3", "qwen3_vl_text")
_MOTION_KEY = "model.slowfast_projector.0.weight"
_MOTION_DIM = 256  # of SlowFast-R50, where no projector tells


def student_config(paths: str | pathlib.Path | Sequence[str | pathlib.Path]) -> StudentConfig:
    """The student's sizes from checkpoint folders.

    They are LLaVA's or its Hugging Face port's, or SigLIP's or SigLIP2's and one of Qwen2, Qwen2.5,
    Qwen3 and Qwen3-VL, whose own tower is left out.
    A LLaVA config without `vision_config` names its tower; only SigLIP-so400m-patch14-384 is known.

    Raises:
        WeightsError: no config.json, sizes that are missing or given twice, a tower without sizes,
            an activation or attention that is not ours, or numbers that cannot be.
    """
    folders = [paths] if isinstance(paths, str | pathlib.Path) else list(paths)
    towers, decoders, motion_dim, motion_scale = [], [], _MOTION_DIM, 1.0
    for folder in map(pathlib.Path, folders):
        file = folder / "config.json"
        if not file.is_file():
            remedy = "There is no such file: name a preset, or pass the sizes as a StudentConfig."
            raise WeightsError(file, {}, remedy)
        raw = fields.read_object(file, _complain(file))
        if raw.get("model_type") not in _DECODERS:
            towers.append(_tower(raw, file))
        if raw.get("model_type") not in _TOWERS:
            decoders.append(_decoder(raw, file))
        # Ours: of students that need one.
        motion_scale = _get(raw, "motion_scale", file, float, motion_scale)
        projector = Checkpoint(folder).shapes.get(_MOTION_KEY)
        motion_dim = projector[1] if projector else motion_dim
    if len(towers) != 1 or len(decoders) != 1:
        problem = {"parts": [f"{len(towers)} vision towers", f"{len(decoders)} decoders"]}
        whole = pathlib.Path(", ".join(map(str, folders)))
        raise WeightsError(whole, problem, "A student has one of each: name folders to match.")
    return StudentConfig(towers[0], decoders[0], motion_dim, motion_scale)


def _complain(file: pathlib.Path) -> Callable[[str], WeightsError]:
    return lambda text: WeightsError(file, {}, f"{text}. Correct it, or name a preset.")


def _get(
    raw: Mapping[str, Any], name: str, file: pathlib.Path, kind: type = int, default: Any = None
) -> Any:
    """A field of a config, checked; `default` where it is missing or null, if there is one."""
    if default is not None and raw.get(name.rpartition(".")[2]) is None:
        return default
    # A layer to take may be counted from the end.
    bounds = {**BOUNDS, "vision_feature_layer": (-1024, 1024)}
    return fields.part(raw, name, kind, file.name, _complain(file), bounds)


def _sizes(cls: type[_Sizes], file: pathlib.Path, **values: Any) -> _Sizes:
    return fields.build(cls, values, file.name, _complain(file), BOUNDS)


def _tower(raw: Mapping[str, Any], file: pathlib.Path) -> SiglipConfig:
    alone = raw.get("model_type") in _TOWERS
    if raw.get("model_type") in _NAFLEX:
        remedy = "Take SigLIP2 of fixed resolution, as siglip2-so400m-patch14-384."
        raise WeightsError(file, {"tower of any resolution": [raw["model_type"]]}, remedy)
    if raw.get("vision_config") is None and not alone:
        named = str(raw.get("mm_vision_tower"))
        if "siglip-so400m-patch14-384" not in named:
            raise WeightsError(file, {"tower": [named[:200]]}, "Add a vision_config.")
        return SO400M
    tower = raw if raw.get("vision_config") is None else _get(raw, "vision_config", file, dict)
    # The state before the last layer is taken (method 4). LLaVA's own code drops the last layer
    # when it builds the tower, so its files and configs count what is computed; Hugging Face keeps
    # the tower and names the state; SigLIP alone is whole.
    select = -2 if alone else _get(raw, "vision_feature_layer", file, default=-1)
    layers = _get(tower, "num_hidden_layers", file)
    return _sizes(
        SiglipConfig,
        file,
        image_size=_get(tower, "image_size", file),
        patch_size=_get(tower, "patch_size", file),
        embed_dim=_get(tower, "hidden_size", file),
        mlp_dim=_get(tower, "intermediate_size", file),
        num_heads=_get(tower, "num_attention_heads", file),
        num_layers=layers + 1 + select if select < 0 else select,
        norm_eps=_get(tower, "layer_norm_eps", file, float, 1e-6),
    )


def _decoder(raw: Mapping[str, Any], file: pathlib.Path) -> Qwen2Config:
    text = raw if raw.get("text_config") is None else _get(raw, "text_config", file, dict)
    activation = text.get("hidden_act", "silu")
    if activation != "silu":
        raise WeightsError(file, {"hidden_act": [str(activation)]}, "Only silu is implemented.")
    kind = text.get("model_type")
    _check_attention(text, kind in _QK_NORM, file)
    rope = text if text.get("rope_theta") else _get(text, "rope_parameters", file, dict, {})
    width, heads = _get(text, "hidden_size", file), _get(text, "num_attention_heads", file)
    tied = _get(text, "tie_word_embeddings", file, bool, False)
    return _sizes(
        Qwen2Config,
        file,
        num_layers=_get(text, "num_hidden_layers", file),
        embed_dim=width,
        mlp_dim=_get(text, "intermediate_size", file),
        num_heads=heads,
        num_kv_heads=_get(text, "num_key_value_heads", file),
        head_dim=_get(text, "head_dim", file, default=width // max(heads, 1)),
        vocab_size=_get(text, "vocab_size", file),
        rope_theta=_get(rope, "rope_theta", file, float, 1e6),
        norm_eps=_get(text, "rms_norm_eps", file, float, 1e-6),
        tie_embeddings=_get(raw, "tie_word_embeddings", file, bool, tied),
        qk_norm=kind in _QK_NORM,
    )


def _check_attention(text: Mapping[str, Any], qk_norm: bool, file: pathlib.Path) -> None:
    """Refuses what changes attention and is not implemented.

    Qwen3-VL rotates by three positions (type "default"), which are equal here: the plain rotation.
    """
    scaling = _get(text, "rope_scaling", file, dict, {})
    scaling = scaling or _get(text, "rope_parameters", file, dict, {})
    scaled = scaling.get("rope_type", scaling.get("type", "default")) != "default"
    problems = {
        "rope_scaling": [str(scaling)[:200]] if scaled else [],
        "use_sliding_window": ["true"] if text.get("use_sliding_window") else [],
        "attention_bias": ["true"] if qk_norm and text.get("attention_bias") else [],
    }
    if any(problems.values()):
        raise WeightsError(file, problems, "Attention of the whole context alone is implemented.")
