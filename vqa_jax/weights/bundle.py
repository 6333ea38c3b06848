"""A student on disk: one folder with its config, weights and, once calibrated, its anchors.

student.json         architecture, preprocessing, motion extractor, training facts, weights' hash
student.safetensors  parameters, named by their path in our tree
anchors.*            see vqa_jax.scoring.anchors
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import traverse_util
from safetensors.numpy import save_file

from vqa_jax.errors import VqaError
from vqa_jax.jobs.files import file_sha256, read_json, write_sealed
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.weights.reader import Checkpoint, WeightsError
from vqa_jax.weights.rules import Rule
from vqa_jax.weights.stream import load_array

CONFIG_FILE = "student.json"
WEIGHTS_FILE = "student.safetensors"
TOKENIZER_FILE = "tokenizer.json"
_WEIGHTS_HASH = "weights_sha256"


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
    """

    preset: str
    student: StudentConfig
    preprocess: Preprocess
    num_frames: int
    extractor: str
    severity_simulators: tuple[str, ...]

    @property
    def bank(self) -> prompt.Bank:
        """Visual tokens of a video with the most frames and motion clips."""
        frame_tokens = self.num_frames * self.student.tokens_per_frame
        return prompt.Bank(frame_tokens, max(1, self.preprocess.max_clips))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> StudentSpec:
        """Inverse of to_dict; an unknown field is a TypeError."""
        fields = dict(fields)
        student = dict(fields["student"])
        for part in ("vision", "llm"):  # how a run recomputes layers was once written here
            student[part] = {k: v for k, v in student[part].items() if k != "remat"}
        student["vision"] = SiglipConfig(**student["vision"])
        student["llm"] = Qwen2Config(**student["llm"])
        fields["student"] = StudentConfig(**student)
        fields["preprocess"] = Preprocess(**fields["preprocess"])
        fields["severity_simulators"] = tuple(fields["severity_simulators"])
        return cls(**fields)


def make_spec(
    preset: str,
    preprocess: Preprocess,
    num_frames: int,
    extractor: str,
    severity_simulators: Sequence[str] = (),
    max_level: int = 0,
) -> StudentSpec:
    """Spec of a preset; the auxiliary head has one class a simulator and level, plus the source.

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
    return StudentSpec(
        preset, student, preprocess, num_frames, extractor, tuple(severity_simulators)
    )


def make_tokenizer(spec: StudentSpec, folder: str = "") -> Tokenizer:
    """The student's tokenizer: tiny's own, or the one saved beside the weights.

    Raises:
      TokenizerError: the folder has none, or a damaged one.
    """
    if spec.preset == "tiny":
        return prompt.tiny_tokenizer()
    return Tokenizer.read(os.path.join(folder, TOKENIZER_FILE))


def flatten(params: Params) -> dict[str, np.ndarray]:
    """Nested parameters -> {"part/name": array}."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(str(k.key) for k in path): np.asarray(leaf) for path, leaf in leaves}


def save(folder: str, spec: StudentSpec, params: Params, facts: Mapping[str, Any]) -> None:
    """Writes a bundle; the config comes last, so that a folder with one is complete."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, WEIGHTS_FILE)
    save_file(flatten(jax.device_get(params)), path + ".tmp")
    os.replace(path + ".tmp", path)
    save_spec(folder, spec, facts)


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
      BundleError: the folder holds no student.
    """
    path = os.path.join(folder, CONFIG_FILE)
    if not os.path.exists(path):
        raise BundleError(f"{path} is missing: {folder} is not a student's folder")
    return StudentSpec.from_dict(read_json(path)["spec"])


def load_params(folder: str, student: FunctionalStudent, like: Params | None = None) -> Params:
    """Reads weights into `student`'s tree, streamed to where they belong.

    Args:
      folder: the bundle.
      student: of the bundle's config.
      like: ShapeDtypeStructs with the dtype and sharding of every parameter; None: the config's
        dtype, on the first device.

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
    wanted = traverse_util.flatten_dict(student.abstract() if like is None else like, sep="/")
    shapes = checkpoint.shapes
    problems = [f"missing {k}" for k in sorted(wanted.keys() - shapes.keys())]
    problems += [f"unexpected {k}" for k in sorted(shapes.keys() - wanted.keys())]
    problems += [
        f"{k} is {shapes[k]}, not {wanted[k].shape}"
        for k in sorted(wanted.keys() & shapes.keys())
        if shapes[k] != wanted[k].shape
    ]
    if problems:
        raise BundleError(f"{path} does not fit its student.json: " + "; ".join(problems))
    _check_weights(folder)
    loaded = {
        name: load_array(checkpoint, Rule(tuple(name.split("/")), name, "same"), leaf)
        for name, leaf in wanted.items()
    }
    return traverse_util.unflatten_dict(loaded, sep="/")


def _check_weights(folder: str) -> None:
    """Compares the weights with what the config tells, where it does."""
    config, path = os.path.join(folder, CONFIG_FILE), os.path.join(folder, WEIGHTS_FILE)
    recorded = read_json(config).get(_WEIGHTS_HASH) if os.path.exists(config) else None
    if recorded is None:
        logging.info("%s: its config tells no hash, it is used unchecked", path)
    elif _digest(path).hex() != recorded:
        raise BundleError(
            f"{path} is damaged: it is not what {CONFIG_FILE} tells; copy, download or train the"
            " student again"
        )


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
