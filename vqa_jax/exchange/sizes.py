"""A student's sizes from the `config.json` of the checkpoints that it is made of."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from vqa_jax.models.presets import SO400M
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig
from vqa_jax.weights.reader import Checkpoint, WeightsError

_TOWERS = ("siglip", "siglip_vision_model")  # model types of a tower alone
_DECODERS = ("qwen2",)
_MOTION_KEY = "model.slowfast_projector.0.weight"
_MOTION_DIM = 256  # of SlowFast-R50, where no projector tells


def student_config(paths: str | pathlib.Path | Sequence[str | pathlib.Path]) -> StudentConfig:
    """The student's sizes from checkpoint folders (LLaVA's, Hugging Face's, SigLIP's, Qwen2's).

    A LLaVA config without `vision_config` names its tower; only SigLIP-so400m-patch14-384 is known.

    Raises:
        WeightsError: no config.json, sizes that are missing or given twice, a tower without sizes,
            or an activation that is not ours.
    """
    folders = [paths] if isinstance(paths, str | pathlib.Path) else list(paths)
    towers, decoders, motion_dim, motion_scale = [], [], _MOTION_DIM, 1.0
    for folder in map(pathlib.Path, folders):
        file = folder / "config.json"
        if not file.is_file():
            remedy = "There is no such file: name a preset, or pass the sizes as a StudentConfig."
            raise WeightsError(file, {}, remedy)
        raw = json.loads(file.read_text())
        try:
            if raw.get("model_type") not in _DECODERS:
                towers.append(_tower(raw, file))
            if raw.get("model_type") not in _TOWERS:
                decoders.append(_decoder(raw, file))
        except KeyError as error:
            remedy = "Add it, or name a preset."
            raise WeightsError(file, {"missing": [error.args[0]]}, remedy) from error
        motion_scale = raw.get("motion_scale", motion_scale)  # ours: of students that need one
        projector = Checkpoint(folder).shapes.get(_MOTION_KEY)
        motion_dim = projector[1] if projector else motion_dim
    if len(towers) != 1 or len(decoders) != 1:
        problem = {"parts": [f"{len(towers)} vision towers", f"{len(decoders)} decoders"]}
        whole = pathlib.Path(", ".join(map(str, folders)))
        raise WeightsError(whole, problem, "A student has one of each: name folders to match.")
    return StudentConfig(towers[0], decoders[0], motion_dim, motion_scale)


def _tower(raw: Mapping[str, Any], file: pathlib.Path) -> SiglipConfig:
    alone = raw.get("model_type") in _TOWERS
    tower = raw.get("vision_config", raw if alone else None)
    if tower is None:
        if "siglip-so400m-patch14-384" not in raw.get("mm_vision_tower", ""):
            raise WeightsError(
                file, {"tower": [str(raw.get("mm_vision_tower"))]}, "Add a vision_config."
            )
        return SO400M
    # The state before the last layer is taken (method 4). LLaVA's own code drops the last layer
    # when it builds the tower, so its files and configs count what is computed; Hugging Face keeps
    # the tower and names the state; SigLIP alone is whole.
    select = -2 if alone else raw.get("vision_feature_layer", -1)
    layers = tower["num_hidden_layers"]
    return SiglipConfig(
        image_size=tower["image_size"],
        patch_size=tower["patch_size"],
        embed_dim=tower["hidden_size"],
        mlp_dim=tower["intermediate_size"],
        num_heads=tower["num_attention_heads"],
        num_layers=layers + 1 + select if select < 0 else select,
        norm_eps=tower.get("layer_norm_eps", 1e-6),
    )


def _decoder(raw: Mapping[str, Any], file: pathlib.Path) -> Qwen2Config:
    text = raw.get("text_config", raw)
    activation = text.get("hidden_act", "silu")
    if activation != "silu":
        raise WeightsError(file, {"hidden_act": [activation]}, "Only silu is implemented.")
    rope = text.get("rope_theta") or (text.get("rope_parameters") or {}).get("rope_theta", 1e6)
    return Qwen2Config(
        num_layers=text["num_hidden_layers"],
        embed_dim=text["hidden_size"],
        mlp_dim=text["intermediate_size"],
        num_heads=text["num_attention_heads"],
        num_kv_heads=text["num_key_value_heads"],
        head_dim=text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
        vocab_size=text["vocab_size"],
        rope_theta=float(rope),
        norm_eps=text.get("rms_norm_eps", 1e-6),
        tie_embeddings=raw.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
    )
