"""Loads a student from the checkpoints that circulate, and writes one in the authors' names."""

import json
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from safetensors.numpy import save_file

from vqa_jax.models.presets import SO400M
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import Student, StudentConfig
from vqa_jax.weights.files import Checkpoint, WeightsError
from vqa_jax.weights.student_rules import (
    DIALECTS,
    Path,
    Rule,
    guess_dialect,
    ignored,
    student_rules,
)

Put = Callable[[Path, np.ndarray], jax.Array]


def student_config(path: str | pathlib.Path) -> StudentConfig:
    """The student's sizes from a checkpoint folder's `config.json` (LLaVA's or Hugging Face's).

    A config without `vision_config` names its tower; only SigLIP-so400m-patch14-384 is known.

    Raises:
        WeightsError: no config.json, a tower without sizes, or an activation that is not ours.
    """
    file = pathlib.Path(path) / "config.json"
    if not file.is_file():
        raise WeightsError(file, {}, "There is no such file: pass the sizes as a StudentConfig.")
    raw = json.loads(file.read_text())
    text, tower = raw.get("text_config", raw), raw.get("vision_config")
    # LLaVA's own code drops the tower's last layer when it builds it, so its files and configs
    # count what is computed; Hugging Face keeps the tower and names the state to take.
    select = raw.get("vision_feature_layer", -1)
    activation = text.get("hidden_act", "silu")
    if activation != "silu":
        raise WeightsError(file, {"hidden_act": [activation]}, "Only silu is implemented.")
    if tower is None:
        if "siglip-so400m-patch14-384" not in raw.get("mm_vision_tower", ""):
            raise WeightsError(
                file, {"tower": [str(raw.get("mm_vision_tower"))]}, "Add a vision_config."
            )
        vision = SO400M
    else:
        layers = tower["num_hidden_layers"]
        vision = SiglipConfig(
            image_size=tower["image_size"],
            patch_size=tower["patch_size"],
            embed_dim=tower["hidden_size"],
            mlp_dim=tower["intermediate_size"],
            num_heads=tower["num_attention_heads"],
            num_layers=layers + 1 + select if select < 0 else select,
            norm_eps=tower.get("layer_norm_eps", 1e-6),
        )
    rope = text.get("rope_theta") or text.get("rope_parameters", {}).get("rope_theta", 1e6)
    llm = Qwen2Config(
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
    motion = Checkpoint(path).shapes.get("model.slowfast_projector.0.weight")
    return StudentConfig(vision=vision, llm=llm, motion_dim=motion[1] if motion else 256)


def _abstract(cfg: StudentConfig) -> tuple[Student, dict[Path, nnx.Param]]:
    student = nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))
    return student, {tuple(path): leaf for path, leaf in nnx.state(student).flat_state()}


def _is_part(path: Path, parts: Sequence[str]) -> bool:
    return any(path[0] == part or path[0].startswith(f"{part}_") for part in parts)


def _check(checkpoint: Checkpoint, cfg, dialect, rules: list[Rule], params) -> None:
    """Raises WeightsError unless every rule is filled once and every key is accounted for."""
    wanted = {
        key: rule.foreign_shape(params[rule.path].shape)
        for rule in rules
        for key in rule.keys(params[rule.path].shape)
    }
    found, skip = checkpoint.shapes, ignored(cfg, dialect)
    known = set(wanted)
    if cfg.llm.tie_embeddings:
        known.add(f"{DIALECTS[dialect].head}.weight")
    problems = {
        "missing": sorted({key for key in wanted if key not in found} | set(checkpoint.absent)),
        "unexpected": sorted(
            key for key in found if key not in known and not skip.fullmatch(key)
        ),
        "duplicate": checkpoint.duplicates,
        "not in the index": checkpoint.unindexed,
        "misshapen": [
            f"{key}: {found[key]} instead of {shape}"
            for key, shape in sorted(wanted.items())
            if key in found and found[key] != shape
        ],
    }
    if any(problems.values()):
        remedy = "Check the config against the file; parts to leave untrained go to keep_initial."
        raise WeightsError(checkpoint.path, problems, remedy)
    if cfg.llm.tie_embeddings and (head := f"{DIALECTS[dialect].head}.weight") in found:
        embedding = next(rule.key for rule in rules if rule.path == ("llm", "embedding"))
        if not np.array_equal(checkpoint.read(head), checkpoint.read(embedding)):
            problem = {"untied": [f"{head} differs from {embedding}"]}
            raise WeightsError(checkpoint.path, problem, "Load it with tie_embeddings=False.")


def _assemble(checkpoint: Checkpoint, rule: Rule, shape: tuple[int, ...], dtype) -> np.ndarray:
    """One of our arrays; at most this array and one foreign tensor are in memory."""
    out = np.empty(shape, dtype)
    for index, key in enumerate(rule.keys(shape)):
        tensor = rule.from_foreign(checkpoint.read(key), shape)
        out[index if rule.stacked else ...] = tensor
    return out


def load_student(
    path: str | pathlib.Path,
    cfg: StudentConfig | None = None,
    *,
    keep_initial: Sequence[str] = (),
    seed: int = 0,
    put: Put = lambda _path, array: jnp.asarray(array),
) -> Student:
    """A student with the weights of a checkpoint in any of the known naming schemes.

    Args:
        path: safetensors file, index file of shards, or a folder with either.
        cfg: sizes; None: from the folder's config.json.
        keep_initial: parts that the file lacks on purpose ("motion_projector", "severity"): they
            start from scratch with `seed`.
        seed: of those parts.
        put: places one finished array on devices (with a sharding, for large models).

    Raises:
        WeightsError: with every missing, unexpected, duplicate and misshapen key.
    """
    cfg = student_config(path) if cfg is None else cfg
    checkpoint = Checkpoint(path)
    dialect = guess_dialect(set(checkpoint.shapes))
    student, params = _abstract(cfg)
    rules = [r for r in student_rules(cfg, dialect) if not _is_part(r.path, keep_initial)]
    _check(checkpoint, cfg, dialect, rules, params)
    logging.info("%s: %d tensors, dialect %s", path, len(checkpoint.shapes), dialect)

    state: dict[Path, jax.Array] = {}
    for rule in rules:
        param = params[rule.path]
        state[rule.path] = put(
            rule.path, _assemble(checkpoint, rule, param.shape, np.dtype(param.dtype))
        )
    scratch = [leaf for leaf in params if leaf not in state]
    if scratch:
        # Jitted, so that only the wanted parts are ever made.
        @jax.jit
        def initial():
            fresh = nnx.state(Student(cfg, nnx.Rngs(seed))).flat_state()
            return {tuple(leaf): v[...] for leaf, v in fresh if tuple(leaf) in scratch}

        state |= {leaf: put(leaf, np.asarray(value)) for leaf, value in initial().items()}
    filled = [(leaf, param.replace(state[leaf])) for leaf, param in params.items()]
    nnx.update(student, nnx.State.from_flat_path(dict(filled)))
    return student


def foreign_state(student: Student, dialect: str = "original") -> dict[str, np.ndarray]:
    """The student's parameters under foreign names (tied heads are not repeated)."""
    params = {tuple(path): leaf for path, leaf in nnx.state(student, nnx.Param).flat_state()}
    out: dict[str, np.ndarray] = {}
    for rule in student_rules(student.cfg, dialect):
        array = np.asarray(params[rule.path][...])
        layers = array if rule.stacked else array[None]
        for key, layer in zip(rule.keys(array.shape), layers, strict=True):
            out[key] = np.ascontiguousarray(rule.to_foreign(layer))
    return out


def save_student(student: Student, file: str | pathlib.Path, dialect: str = "original") -> None:
    """Writes one safetensors file that `load_student` and the authors' code read."""
    save_file(foreign_state(student, dialect), file, metadata={"format": "pt"})
