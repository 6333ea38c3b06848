"""Pretrained towers, which students and teachers share: kept once, beside their own weights."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from vqa_jax.jobs.files import file_sha256
from vqa_jax.models.cell_tower import CellTowerConfig
from vqa_jax.models.efficientnet_lite import SIZES
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.weights.named import load_named, misfits
from vqa_jax.weights.reader import Checkpoint, WeightsError

TOWER_FILE = "tower.safetensors"  # in a student's folder
_ASSETS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "assets")


def shipped_path(lite: int) -> str:
    """Where the package keeps an EfficientNet-Lite; it may hold none of that size."""
    return os.path.join(_ASSETS, f"efficientnet_lite{lite}.safetensors")


def shipped(vision: Any) -> str:
    """Fingerprint of the shipped tower of a config; "" for a tower that students train themselves.

    Raises:
      FileNotFoundError: no tower of that size is shipped.
    """
    if not isinstance(vision, CellTowerConfig):
        return ""
    return fingerprint(shipped_path(vision.lite))


def fingerprint(path: str) -> str:
    """Short hash of a tower's file."""
    stat = os.stat(path)
    return _fingerprint(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _fingerprint(path: str, size: int, mtime_ns: int) -> str:
    return file_sha256(path)[:16]


def load(student: FunctionalStudent, wanted: str, folder: str = "", like: Any = None) -> Params:
    """Reads a shared tower, from beside the student or from the package.

    Args:
      student: that looks through it.
      wanted: fingerprint of the file that it was trained with.
      folder: the student's, which may hold it; "" for none.
      like: ShapeDtypeStructs of all parameters; None: the config's.

    Returns:
      {"vision": {"network": parameters}}.

    Raises:
      WeightsError: neither file is the one, or it does not fit the student.
    """
    beside = os.path.join(folder, TOWER_FILE)
    paths = [beside] if folder and os.path.exists(beside) else []
    paths += [path for path in map(shipped_path, SIZES) if os.path.exists(path)]
    found = next((path for path in paths if fingerprint(path) == wanted), None)
    if found is None:
        problems = {"fingerprint": [f"none is {wanted}"]}
        raise WeightsError(beside, problems, f"Put the student's tower there as {TOWER_FILE}.")
    tree = (student.abstract() if like is None else like)["vision"]["network"]
    leaves = traverse_util.flatten_dict(tree)
    names = {"/".join(map(str, path)): path for path in leaves}
    shapes = {name: leaves[path] for name, path in names.items()}
    checkpoint = Checkpoint(found)
    problems = misfits(checkpoint, shapes)
    if any(problems.values()):
        raise WeightsError(found, problems, "Take the tower that belongs to the student.")
    loaded = load_named(checkpoint, shapes)
    values = {names[name]: value for name, value in loaded.items()}
    return {"vision": {"network": traverse_util.unflatten_dict(values)}}


def begun(
    params: Params,
    student: FunctionalStudent,
    wanted: str,
    measured: Mapping[str, np.ndarray],
    like: Params,
    folder: str = "",
) -> Params:
    """Fresh parameters behind a pretrained tower whose tokens were measured.

    Args:
      params: fresh ones.
      student, wanted, folder: as of `load`.
      measured: mean and scale [W] of the tokens over a corpus.
      like: ShapeDtypeStructs of all parameters, with their shardings.
    """
    joint = joined(params, load(student, wanted, folder, like))
    told = {}
    for name, value in measured.items():
        leaf = like["vision"][name]
        told[name] = jax.device_put(value.astype(leaf.dtype), leaf.sharding)
    return {**joint, "vision": {**joint["vision"], **told}}


def without(params: Params) -> Params:
    """A student's parameters but those of its shared tower."""
    rest = {k: v for k, v in params["vision"].items() if k != "network"}
    return {**params, "vision": rest}


def joined(params: Params, tower: Params) -> Params:
    """A student's own parameters (`without`) and those of its shared tower (`load`)."""
    return {**params, "vision": {**params.get("vision", {}), **tower["vision"]}}
