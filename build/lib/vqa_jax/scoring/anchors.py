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
from vqa_jax.jobs import fields
from vqa_jax.jobs.files import file_sha256, replacing, write_sealed
from vqa_jax.scoring.calibration import SHARE, Knot
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.weights.bundle import StudentSpec

ANCHOR_FILE = "anchors.json"
FRAMES_FILE = "anchors.safetensors"

REMEDY = (
    "give it some with `python -m vqa_jax anchors --student FOLDER --data CORPUS`, of any prepared"
    " corpus with simulated videos, also for a student that was fine-tuned on others; or score"
    " against videos that people rated: `score --anchors TABLE`, a table with path and mos such as"
    " `choose_anchors --pool LABELS --videos FOLDER --out TABLE` makes of a labelled set"
)


class AnchorError(VqaError):
    """An anchor set cannot be used; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class _Facts:
    """`anchors.json`: see AnchorSet."""

    names: tuple[str, ...]
    scores: tuple[float, ...]
    scale: str
    arbitrary: bool
    inputs_sha256: str = ""  # of FRAMES_FILE; sets of earlier versions lack it
    calibration: tuple[Knot, ...] = ()
    calibrated_on: str = ""

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) == len(self.scores):
            raise ValueError(f"names: {len(self.names)}, scores: {len(self.scores)}; two at least")
        if len(set(self.names)) < len(self.names):
            raise ValueError("names holds one of them twice")


@dataclasses.dataclass(frozen=True)
class AnchorSet:
    """Anchor videos and their standing.

    Attributes:
      names: of the anchors, worst to best by score.
      inputs: what the student sees of them.
      scores: [A] on the anchors' scale, higher is better.
      scale: what the scores are, for people ("simulated severity, arbitrary" or a MOS).
      arbitrary: True when no human scored them.
      calibration: how far people are from scores against these anchors; () where it is not known.
      calibrated_on: whose scores that was measured on.
    """

    names: tuple[str, ...]
    inputs: tuple[VideoInput, ...]
    scores: tuple[float, ...]
    scale: str
    arbitrary: bool
    calibration: tuple[Knot, ...] = ()
    calibrated_on: str = ""

    def save(self, folder: str) -> None:
        """Writes the set into a folder (a student's, usually)."""
        arrays: dict[str, np.ndarray] = {}
        for i, video in enumerate(self.inputs):
            arrays[f"{i}/frames"], arrays[f"{i}/motion"] = video.frames, video.motion
        path = os.path.join(folder, FRAMES_FILE)
        with replacing(path) as temporary:
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary)
        facts: dict[str, Any] = {
            "names": list(self.names),
            "scores": list(self.scores),
            "scale": self.scale,
            "arbitrary": self.arbitrary,
            "inputs_sha256": file_sha256(path),
        }
        if self.calibration:
            facts["calibration"] = [dataclasses.asdict(knot) for knot in self.calibration]
            facts["calibrated_on"] = self.calibrated_on
        write_sealed(os.path.join(folder, ANCHOR_FILE), facts)

    @classmethod
    def load(cls, folder: str, spec: StudentSpec | None = None) -> AnchorSet:
        """Reads a set.

        Args:
          folder: of the set.
          spec: of the student that looks at it; None: any.

        Raises:
          AnchorError: the folder has none, a damaged one, or one that the student cannot see.
        """
        path = os.path.join(folder, ANCHOR_FILE)
        if not os.path.exists(path):
            raise AnchorError(f"{path} is missing: {REMEDY}")
        raw = fields.read_object(path, AnchorError)
        facts = fields.build(_Facts, raw, path, AnchorError)
        stored = os.path.join(folder, FRAMES_FILE)
        inputs = _read_inputs(stored, facts.inputs_sha256, len(facts.names), spec)
        kept = ("names", "scores", "scale", "arbitrary", "calibration", "calibrated_on")
        return cls(inputs=inputs, **{name: getattr(facts, name) for name in kept})

    @classmethod
    def beside(cls, folder: str, spec: StudentSpec | None = None) -> AnchorSet | None:
        """The set in a student's folder; None where it has none; as `load`."""
        has_one = os.path.exists(os.path.join(folder, ANCHOR_FILE))
        return cls.load(folder, spec) if has_one else None

    def describe(self) -> str:
        """One sentence on what the scores mean."""
        low, high = min(self.scores), max(self.scores)
        kind = "arbitrary units, no human scored them" if self.arbitrary else "human scores"
        std = "std: of the posterior, not calibrated"
        if self.calibration:
            std = (
                f"std: {SHARE:.0%} of people's scores lie within, measured on {self.calibrated_on}"
            )
        return f"{self.scale}; anchors span {low:g}..{high:g}, higher is better; {kind}; {std}"


def _is_seen(frames: np.ndarray, side: int, spec: StudentSpec | None) -> bool:
    """Whether frames are pictures of the student's size, or its frozen tower's tokens."""
    if spec is not None and spec.tower:
        vision = spec.student.vision
        tokens = (vision.grid**2, vision.embed_dim)
        return frames.dtype == np.float16 and frames.ndim == 4 and frames.shape[2:] == tokens
    if spec is None and frames.dtype == np.float16:
        return frames.ndim == 4
    return frames.dtype == np.uint8 and frames.ndim == 5 and frames.shape[2:] == (side, side, 3)


def _read_inputs(
    path: str, digest: str, number: int, spec: StudentSpec | None
) -> tuple[VideoInput, ...]:
    remedy = "run `python -m vqa_jax anchors` for this student"
    try:
        if digest and file_sha256(path) != digest:
            raise ValueError(f"it is not what {ANCHOR_FILE} tells")
        arrays = load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise AnchorError(f"{path} is missing or damaged ({error}): {remedy}") from error
    wanted = [f"{i}/{part}" for i in range(number) for part in ("frames", "motion")]
    if differing := sorted(set(wanted) ^ set(arrays)):
        what = "is missing" if differing[0] in wanted else "belongs to none of them"
        raise AnchorError(f"{path}: {differing[0][:80]} {what}: {remedy}")
    inputs = []
    for i in range(number):
        frames, motion = arrays[f"{i}/frames"], arrays[f"{i}/motion"]
        side = spec.preprocess.image_size if spec else frames.shape[-2] if frames.ndim > 1 else 0
        if not _is_seen(frames, side, spec):
            seen = "tokens of its tower" if spec and spec.tower else f"pictures of {side} pixels"
            raise AnchorError(
                f"{path}: {i}/frames is {frames.dtype} {list(frames.shape)}, no {seen}: {remedy}"
            )
        if not frames.size or (spec and frames.shape[1] > spec.num_frames):
            raise AnchorError(f"{path}: {i}/frames holds {frames.shape[:2]} pictures: {remedy}")
        width = spec.student.motion_dim if spec else motion.shape[-1] if motion.ndim else 0
        if motion.dtype != np.float32 or motion.ndim != 2 or motion.shape[1] != width:
            raise AnchorError(
                f"{path}: {i}/motion is {motion.dtype} {list(motion.shape)}, no features of width "
                f"{width}: {remedy}"
            )
        for part, numbers in (("frames", frames), ("motion", motion)):
            if not np.isfinite(numbers).all():
                raise AnchorError(f"{path}: {i}/{part} holds numbers that are not finite: {remedy}")
        inputs.append(VideoInput(frames, motion))
    return tuple(inputs)
