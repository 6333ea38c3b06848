"""A student on disk: one folder with its config, weights and, once calibrated, its anchors.

student.json         architecture, preprocessing, motion extractor, training facts, weights' hash
student.safetensors  parameters, named by their path in our tree, without those of a shared tower
anchors.*            see vqa_jax.scoring.anchors
tokenizer, motion weights, a tower: see vqa_jax.weights.companions
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import traverse_util
from jax.sharding import Mesh

from vqa_jax.devices import hosts, sharding
from vqa_jax.errors import VqaError
from vqa_jax.jobs import fields
from vqa_jax.jobs.files import file_sha256, write_sealed
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models import prompt
from vqa_jax.models.cell_tower import CellTowerConfig
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import StudentConfig
from vqa_jax.models.tokenizer import Tokenizer, TokenizerError
from vqa_jax.settings import DTYPES, SCORING_DTYPES
from vqa_jax.weights import companions, towers
from vqa_jax.weights.named import load_named, misfits
from vqa_jax.weights.reader import Checkpoint, WeightsError
from vqa_jax.weights.writer import write_safetensors

CONFIG_FILE = "student.json"
WEIGHTS_FILE = "student.safetensors"
OWN_TOKENIZER = ("tiny", "small")  # presets whose vocabulary is that of the prompt alone
_WEIGHTS_HASH = "weights_sha256"

# Lowest and highest sizes that are believed, far beyond the published ones (28 layers of 3584).
BOUNDS: fields.Bounds = {
    **dict.fromkeys(("num_layers", "num_heads", "num_kv_heads", "unroll", "num_frames"), (1, 1024)),
    **dict.fromkeys(("image_size", "patch_size", "head_dim"), (1, 4096)),
    "lite": (0, 2),
    "cells": (1, 64),
    **dict.fromkeys(("num_tiles", "min_clips", "max_clips", "lora_rank"), (0, 4096)),
    **dict.fromkeys(("motion_size", "clip_len"), (1, 1024)),
    **dict.fromkeys(("embed_dim", "motion_dim"), (1, 1 << 16)),
    "tile_size": (0, 8192),
    "mlp_dim": (1, 1 << 18),
    "vocab_size": (1, 1 << 20),
    "num_severity_classes": (0, 4096),
    "rope_theta": (1, 1e12),
    "norm_eps": (0, 1),
    "lora_alpha": (0, 1e6),
    "motion_scale": (0, 1e6),
}
_MAX_TOKENS = 1 << 17  # of a video
_MAX_VIEW = 1 << 30  # bytes of a video's tiles, and of its clips


class BundleError(VqaError):
    """A student folder is incomplete or damaged; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class StudentSpec:
    """What a student is, besides its weights.

    Attributes:
      preset: name of the size it was made from.
      student: architecture.
      preprocess: how it sees a video.
      num_frames: frames (or crops) of a video in one comparison.
      extractor: fingerprint of the motion extractor that it was trained with.
      severity_simulators: simulators that the auxiliary head tells apart, in class order.
      tower: fingerprint of the pretrained tower, which is kept beside the student's own weights;
        "" where they hold the tower too.
    """

    preset: str
    student: StudentConfig
    preprocess: Preprocess
    num_frames: int
    extractor: str
    severity_simulators: tuple[str, ...]
    tower: str = ""

    @property
    def bank(self) -> prompt.Bank:
        """Visual tokens of a video with the most frames and motion clips."""
        frame_tokens = self.num_frames * self.student.tokens_per_frame
        return prompt.Bank(frame_tokens, max(1, self.preprocess.max_clips))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of what came later, only what this student has."""
        told = dataclasses.asdict(self)
        for name in ("qk_norm", "lora_base"):
            if not getattr(self.student.llm, name):
                del told["student"]["llm"][name]
        return told if self.tower else {k: v for k, v in told.items() if k != "tower"}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], path: str) -> StudentSpec:
        """Inverse of to_dict.

        Args:
          raw: as JSON gives it.
          path: where it was read, for errors.

        Raises:
          BundleError: a field is unknown, missing, of another type or out of bounds.
        """
        student = dict(fields.part(raw, "student", dict, path, BundleError))
        for part in ("vision", "llm"):  # how a run recomputes layers was once written here
            if isinstance(student.get(part), dict):
                student[part] = {k: v for k, v in student[part].items() if k != "remat"}
        given = {**raw, "student": student}
        return fields.build(cls, given, path, BundleError, BOUNDS, "spec")

    def __post_init__(self) -> None:
        pre, student = self.preprocess, self.student
        if self.num_frames * student.tokens_per_frame > _MAX_TOKENS:
            raise ValueError(f"num_frames {self.num_frames}: a video has too many tokens")
        if pre.num_tiles * pre.tile_size**2 * 3 > _MAX_VIEW:
            raise ValueError(f"preprocess.num_tiles {pre.num_tiles}: more than 1 GiB a video")
        if pre.max_clips * pre.clip_len * pre.motion_size**2 * 3 > _MAX_VIEW:
            raise ValueError(f"preprocess.max_clips {pre.max_clips}: more than 1 GiB a video")
        if pre.image_size != student.vision.image_size:
            raise ValueError(
                f"preprocess.image_size is {pre.image_size}, "
                f"the tower's is {student.vision.image_size}"
            )
        if bool(self.tower) != isinstance(student.vision, CellTowerConfig):
            raise ValueError(f"tower is {self.tower!r}: pretrained towers have one, others none")
        for name, known in (("param_dtype", SCORING_DTYPES), ("compute_dtype", DTYPES)):
            if getattr(student, name) not in known:
                raise ValueError(f"student.{name} is none of {', '.join(known)}")


def make_spec(
    preset: str,
    preprocess: Preprocess,
    num_frames: int,
    extractor: str,
    severity_simulators: Sequence[str] = (),
    max_level: int = 0,
    tower: str = "",
) -> StudentSpec:
    """Spec of a preset; the auxiliary head has one class a simulator and level, plus the source.

    `tower` is the file of its pretrained tower, "" for the shipped one.

    Raises:
      ValueError: unknown preset, or one that does not fit the preprocessing.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown student {preset!r}: one of {sorted(PRESETS)}")
    classes = 1 + len(severity_simulators) * max_level if severity_simulators else 0
    student = dataclasses.replace(PRESETS[preset], num_severity_classes=classes)
    if student.vision.image_size != preprocess.image_size:
        raise ValueError(
            f"{preset} sees {student.vision.image_size} px, preprocessing makes "
            f"{preprocess.image_size} px: set preprocess.image_size"
        )
    simulators = tuple(severity_simulators)
    found = towers.fingerprint(tower) if tower else towers.shipped(student.vision)
    return StudentSpec(preset, student, preprocess, num_frames, extractor, simulators, found)


def make_tokenizer(spec: StudentSpec, folder: str = "") -> Tokenizer:
    """The student's tokenizer: the small ones' own, or the one saved beside the weights.

    Args:
      spec: the student.
      folder: the student's, or that of the one that it starts from; "": there is none.

    Raises:
      TokenizerError: the folder has none, a damaged one, or one of another student.
    """
    if spec.preset in OWN_TOKENIZER:
        return prompt.tiny_tokenizer()
    if not folder:
        raise TokenizerError(
            f"{spec.preset} takes its tokenizer from the student that it starts from: name that "
            "one's folder (train.init_from)"
        )
    path = os.path.join(folder, companions.TOKENIZER_FILE)
    tokenizer = Tokenizer.read(path)
    ids = prompt.scoring_ids(tokenizer)
    with contextlib.suppress(prompt.PromptError):  # whoever asks for levels is told so
        ids += prompt.level_ids(tokenizer)
    most = max(ids)
    if most >= spec.student.llm.vocab_size:
        raise TokenizerError(
            f"{path}: token {most} is beyond the student's vocabulary of "
            f"{spec.student.llm.vocab_size}: it is another student's"
        )
    return tokenizer


def flatten(params: Params) -> dict[str, np.ndarray]:
    """Nested parameters -> {"part/name": array}."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(str(k.key) for k in path): np.asarray(leaf) for path, leaf in leaves}


def save(folder: str, spec: StudentSpec, params: Params, facts: Mapping[str, Any]) -> None:
    """Writes a bundle; the config comes last, so that a folder with one is complete.

    With many processes every one must call it; process 0 writes. Arrays are gathered piece by
    piece (`hosts.pieces`), so that nobody ever holds the whole student.

    Args:
      folder: is made.
      spec: the student; weights are stored in its `param_dtype`.
      params: its parameters, wherever they are.
      facts: of its training.
    """
    own = towers.without(params) if spec.tower else params
    flat = traverse_util.flatten_dict(own, sep="/")
    dtype = jnp.dtype(spec.student.param_dtype)
    if jax.process_index() == 0:
        os.makedirs(folder, exist_ok=True)
        tensors = {name: (np.shape(leaf), dtype) for name, leaf in flat.items()}
        path = os.path.join(folder, WEIGHTS_FILE)
        write_safetensors(path, tensors, lambda name: hosts.pieces(flat[name]))
        save_spec(folder, spec, facts)
    else:
        for leaf in flat.values():
            for _ in hosts.pieces(leaf):
                pass
    hosts.barrier(f"{folder} written")


def save_trained(
    folder: str,
    spec: StudentSpec,
    student: FunctionalStudent,
    params: Params,
    placed: tuple[Mesh, Sequence[tuple[str, str]]],
    facts: Mapping[str, Any],
) -> None:
    """Writes what a training state holds, low-rank additions merged.

    It is stored as it computes: wider numbers of what was trained would be rounded when it is used.

    Args:
      folder, facts: as of `save`.
      spec: of the student without additions.
      student: with them.
      params: of the state.
      placed: its mesh, and changes to the rules of sharding.
    """
    mesh, changes = placed
    cfg = dataclasses.replace(spec.student, param_dtype=spec.student.compute_dtype)
    places = FunctionalStudent(cfg).shardings(mesh, sharding.changed_rules(changes))
    save(folder, dataclasses.replace(spec, student=cfg), student.merge(params, places), facts)


def save_spec(folder: str, spec: StudentSpec, facts: Mapping[str, Any]) -> None:
    """Writes a bundle's config beside its weights, whose hash it tells; that makes it complete."""
    weights = file_sha256(os.path.join(folder, WEIGHTS_FILE))
    told = {"spec": spec.to_dict(), "facts": dict(facts), _WEIGHTS_HASH: weights}
    write_sealed(os.path.join(folder, CONFIG_FILE), told)


def is_complete(folder: str) -> bool:
    """Whether a bundle was written to its end."""
    return os.path.exists(os.path.join(folder, CONFIG_FILE))


def load_spec(folder: str) -> StudentSpec:
    """Reads the spec of a bundle.

    Raises:
      BundleError: the folder holds no student, or one whose config is damaged or out of bounds.
    """
    path = os.path.join(folder, CONFIG_FILE)
    if not os.path.exists(path):
        raise BundleError(f"{path} is missing: {folder} is not a student's folder")
    raw = fields.read_object(path, BundleError)
    return StudentSpec.from_dict(fields.part(raw, "spec", dict, path, BundleError), path)


def load_params(
    folder: str,
    student: FunctionalStudent,
    like: Params | None = None,
    only: Callable[[str], bool] | None = None,
) -> Params:
    """Reads weights into `student`'s tree, streamed to where they belong.

    With many processes every one must call it: process 0 compares the file with its hash.

    Args:
      folder: the bundle.
      student: of the bundle's config.
      like: ShapeDtypeStructs with the dtype and sharding of every parameter; None: the config's
        dtype, on the first device.
      only: tells by name which of the student's own parameters are read; None: all. A shared tower
        always is.

    Raises:
      BundleError: the file is damaged, or keys are missing, unexpected or misshapen; all of them
        are listed.
    """
    path = os.path.join(folder, WEIGHTS_FILE)
    if not os.path.exists(path):
        raise BundleError(f"{path} is missing: train or download the student again")
    try:
        checkpoint = Checkpoint(path)
    except WeightsError as e:
        raise BundleError(str(e)) from e
    tree = student.abstract() if like is None else like
    tower = load_spec(folder).tower if is_complete(folder) else ""
    own = towers.without(tree) if tower else tree
    wanted = traverse_util.flatten_dict(own, sep="/")
    found = misfits(checkpoint, wanted)
    problems = [f"missing {k}" for k in found["missing"]]
    problems += [f"unexpected {k}" for k in found["unexpected"]]
    problems += found["misshapen"]
    problems += [f"{k} holds no weights" for k in found["no weights"]]
    if problems:
        raise BundleError(f"{path} does not fit its student.json: " + "; ".join(problems))
    if hosts.told_by_first(lambda: _damage(folder)):
        raise BundleError(
            f"{path} is damaged: it is not what {CONFIG_FILE} tells; copy, download or train the"
            " student again"
        )
    if only is not None:
        wanted = {name: leaf for name, leaf in wanted.items() if only(name)}
    params = traverse_util.unflatten_dict(load_named(checkpoint, wanted), sep="/")
    if not tower:
        return params
    return towers.joined(params, towers.load(student, tower, folder, tree))


def _damage(folder: str) -> bool:
    """Whether the weights are not what the config tells; False where it does not tell."""
    config, path = os.path.join(folder, CONFIG_FILE), os.path.join(folder, WEIGHTS_FILE)
    told = fields.read_object(config, BundleError) if os.path.exists(config) else {}
    recorded = told.get(_WEIGHTS_HASH)
    if recorded is None:
        logging.info("%s: its config tells no hash, it is used unchecked", path)
    return recorded is not None and _digest(path).hex() != recorded


def _digest(path: str) -> bytes:
    """SHA-256 of a file, taken once while the file stays as it is: gigabytes take seconds."""
    stat = os.stat(path)
    return _digest_of(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _digest_of(path: str, size: int, mtime_ns: int) -> bytes:
    return bytes.fromhex(file_sha256(path))


def files_fingerprint(paths: Sequence[str]) -> str:
    """Short hash of files' contents, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        if not os.path.exists(path):
            raise BundleError(f"{path} is missing: its folder is not a complete student's")
        digest.update(_digest(path))
    return digest.hexdigest()[:16]


def fingerprint(folder: str) -> str:
    """Short hash of a bundle's config and weights; every score names it."""
    return files_fingerprint([os.path.join(folder, n) for n in (CONFIG_FILE, WEIGHTS_FILE)])
