"""Anchors: the few videos of known quality that turn comparisons into a score (method 8).

Anchors are data. A set is a folder with `anchors.safetensors` (what the student sees of each) and
`anchors.json` (names, scores, where the scores come from, preferences among the anchors).
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vqa_jax.errors import VqaError
from vqa_jax.jobs.files import file_sha256, read_json, write_sealed
from vqa_jax.scoring.engine import VideoInput

ANCHOR_FILE = "anchors.json"
FRAMES_FILE = "anchors.safetensors"
_INPUTS_HASH = "inputs_sha256"  # in ANCHOR_FILE, of FRAMES_FILE; sets of earlier versions lack it
_REMEDY = "copy it again, or run `python -m vqa_jax anchors` for this student"


class AnchorError(VqaError):
    """An anchor set cannot be used; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class AnchorSet:
    """Anchor videos and their standing.

    Attributes:
      names: of the anchors, worst to best by score.
      inputs: what the student sees of them.
      scores: [A] on the anchors' scale, higher is better.
      scale: what the scores are, for people ("simulated severity, arbitrary" or a MOS).
      arbitrary: True when no human scored them.
    """

    names: tuple[str, ...]
    inputs: tuple[VideoInput, ...]
    scores: tuple[float, ...]
    scale: str
    arbitrary: bool

    def save(self, folder: str) -> None:
        """Writes the set into a folder (a student's, usually)."""
        arrays: dict[str, np.ndarray] = {}
        for i, video in enumerate(self.inputs):
            arrays[f"{i}/frames"], arrays[f"{i}/motion"] = video.frames, video.motion
        path = os.path.join(folder, FRAMES_FILE)
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path + ".tmp")
        os.replace(path + ".tmp", path)
        facts: dict[str, Any] = {
            "names": list(self.names),
            "scores": list(self.scores),
            "scale": self.scale,
            "arbitrary": self.arbitrary,
            _INPUTS_HASH: file_sha256(path),
        }
        write_sealed(os.path.join(folder, ANCHOR_FILE), facts)

    @classmethod
    def load(cls, folder: str) -> AnchorSet:
        """Reads a set.

        Raises:
          AnchorError: the folder has none, or a damaged one.
        """
        path = os.path.join(folder, ANCHOR_FILE)
        if not os.path.exists(path):
            raise AnchorError(
                f"{path} is missing: run `python -m vqa_jax anchors` for this student"
            )
        facts = read_json(path)
        stored = os.path.join(folder, FRAMES_FILE)
        if not os.path.exists(stored):
            raise AnchorError(f"{stored} is missing: {_REMEDY}")
        if facts.get(_INPUTS_HASH, file_sha256(stored)) != file_sha256(stored):
            raise AnchorError(f"{stored} is damaged, it is not what {ANCHOR_FILE} tells: {_REMEDY}")
        try:
            arrays = load_file(stored)
            inputs = tuple(
                VideoInput(arrays[f"{i}/frames"], arrays[f"{i}/motion"])
                for i in range(len(facts["names"]))
            )
        except (SafetensorError, KeyError) as error:
            raise AnchorError(f"{stored} is damaged ({error}): {_REMEDY}") from error
        return cls(
            tuple(facts["names"]),
            inputs,
            tuple(facts["scores"]),
            facts["scale"],
            bool(facts["arbitrary"]),
        )

    @classmethod
    def beside(cls, folder: str) -> AnchorSet | None:
        """The set in a student's folder; None where it has none."""
        return cls.load(folder) if os.path.exists(os.path.join(folder, ANCHOR_FILE)) else None

    def describe(self) -> str:
        """One sentence on what the scores mean."""
        low, high = min(self.scores), max(self.scores)
        kind = "arbitrary units, no human scored them" if self.arbitrary else "human scores"
        return f"{self.scale}; anchors span {low:g}..{high:g}, higher is better; {kind}"
