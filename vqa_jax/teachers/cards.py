"""All teachers by name: what they are, what they were trained on, whether their weights are here.

Light: listing teachers imports no model. `neural.load` loads those that have weights.
"""

from __future__ import annotations

import inspect
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vqa_jax.errors import VqaError
from vqa_jax.media.probe import VideoInfo
from vqa_jax.teachers import measures
from vqa_jax.teachers.known import BUILT_IN, CARDS, IMPORTED, LIGHT, TeacherCard
from vqa_jax.teachers.light import model
from vqa_jax.teachers.views import View

WEIGHTS_VARIABLE = "VQA_JAX_TEACHERS"
_LIGHT_TEACHERS = str(pathlib.Path(__file__).parents[1] / "assets" / "teachers")
_BUILT_IN_VERSION = "1"  # raise it when a built-in measure changes
_BUILT_IN_RANGES = {
    "niqe": "0 and up",
    "brisque_distance": "0 and up, in deviations",
    "sharpness": "0..1",
    "blockiness": "above 0, about 1 without blocks",
    "noise": "0 and up, in gray levels",
    "exposure": "0..1.5",
    "temporal_smoothness": "0 and up",
}
_MAX_FRAMES = 64  # native ones, of a teacher that does not choose


class TeacherError(VqaError):
    """A teacher cannot be used; the message says why and what to do."""


class Scorer(Protocol):
    """What becomes a column of a score table.

    Attributes:
      name: column of the score table.
      higher_is_better: direction.
      fingerprint: differs whenever the same video and seed may give another score.
    """

    name: str
    higher_is_better: bool
    fingerprint: str

    def score(self, kept: Sequence[Any]) -> np.ndarray:
        """Finite scores float64 [n] of n videos, each independent of the others."""
        ...


class VideoTeacher(Scorer, Protocol):
    """A teacher that can score video files, as the teacher job uses it."""

    def views(self, info: VideoInfo, seed: int) -> Mapping[str, View]:
        """What it looks at in a video; `seed` decides what the official program draws at random."""
        ...

    def reduce(self, cuts: Mapping[str, np.ndarray]) -> Any:
        """What it keeps of a video's views; called in the thread that decodes."""
        ...


def cards(folder: str = "") -> list[TeacherCard]:
    """Every known teacher: neural ones, those to import, light ones, then the built-in measures.

    Args:
      folder: of weights; light teachers there hide shipped ones of their names.

    Raises:
      LightTeacherError: the card of a light teacher is damaged.
    """
    found = [*CARDS, *_light_cards(folder)]
    for name in measures.names():
        teacher = measures.get(name)
        # A teacher registered by a user may be any object; its own words are the best summary.
        words = inspect.getdoc(getattr(teacher, "measure", type(teacher))) or name
        told = _BUILT_IN_RANGES.get(name, "not stated")
        higher = teacher.higher_is_better
        found.append(TeacherCard(name, BUILT_IN, words.splitlines()[0], told, higher))
    return found


def _light_cards(folder: str) -> list[TeacherCard]:
    found = {}
    for place in filter(None, (_LIGHT_TEACHERS, folder)):
        for path in map(str, sorted(pathlib.Path(place).glob(model.CARDS))):
            light = model.read_card(path)
            found[light.name] = TeacherCard(
                light.name,
                LIGHT,
                light.summary,
                f"about {light.low:.0f}..{light.high:.0f}, the scale of the human scores",
                trained_on=model.told(light),
                licence=light.terms,
                path=path,
            )
    return list(found.values())


def card(name: str, folder: str = "") -> TeacherCard:
    """Card of one teacher; `folder` as of `cards`.

    Raises:
      TeacherError: no such teacher; the message names all.
    """
    known = {found.name: found for found in cards(folder)}
    if name not in known:
        raise TeacherError(f"no teacher {name!r}; known: {', '.join(known)}")
    return known[name]


def weights_folder(given: str | None) -> str:
    """Where weights are: `given`, else $VQA_JAX_TEACHERS, else ~/.cache/vqa_jax/teachers."""
    default = os.path.join(os.path.expanduser("~"), ".cache", "vqa_jax", "teachers")
    return given or os.environ.get(WEIGHTS_VARIABLE) or default


def check(names: Sequence[str], folder: str) -> list[TeacherCard]:
    """Cards of teachers that can score now.

    Args:
      names: at least one, without repeats.
      folder: weights folder.

    Raises:
      TeacherError: an unknown or repeated name, a teacher without a port, or weights that are
        not there; all missing files are named at once, with their origin.
    """
    if not names or len(set(names)) != len(names):
        raise TeacherError(f"name at least one teacher, each once: {list(names)}")
    found = [card(name, folder) for name in names]
    for teacher in found:
        if teacher.kind == IMPORTED:
            raise TeacherError(
                f"{teacher.name} has no port: run it elsewhere and import its scores (--scores)"
            )
    missing = {f.name: (t.name, f) for t in found for f in t.missing(folder)}
    if missing:
        lines = [
            f"  {os.path.join(folder, file.name)} ({name}): {file.origin}"
            for name, file in missing.values()
        ]
        raise TeacherError(
            "these weights are missing:\n" + "\n".join(lines) + "\nStore the tensors of each as"
            " safetensors under that name (see vqa_jax/teachers/README.md), or point --weights or"
            f" ${WEIGHTS_VARIABLE} to their folder. Nothing has been scored."
        )
    return found


def built_in(name: str) -> MeasuredTeacher:
    """A built-in teacher as a teacher of video files; TeacherError for an unknown name."""
    if name not in measures.names():
        raise TeacherError(f"no built-in teacher {name!r}; known: {', '.join(measures.names())}")
    return MeasuredTeacher(measures.get(name))


class MeasuredTeacher:
    """A built-in measure as a teacher of video files; see `VideoTeacher`."""

    def __init__(self, measure: measures.Teacher):
        self.name = measure.name
        self.higher_is_better = measure.higher_is_better
        self.fingerprint = f"{measure.name}-{_BUILT_IN_VERSION}"
        self._measure = measure

    def views(self, info: VideoInfo, seed: int) -> Mapping[str, View]:
        """The native frames that the measure would choose of the whole video.

        A teacher that does not choose gets consecutive frames from the middle.
        """
        choose = getattr(self._measure, "choose", _middle)
        return {"frames": View(choose(info.num_frames), lambda place, frame: frame)}

    def reduce(self, cuts: Mapping[str, np.ndarray]) -> float:
        """The score itself: frames of any size need not be kept."""
        return float(self._measure.score(cuts["frames"]))

    def score(self, kept: Sequence[float]) -> np.ndarray:
        """float64 [n]."""
        return np.asarray(kept, np.float64)


def _middle(num_frames: int) -> np.ndarray:
    count = min(num_frames, _MAX_FRAMES)
    return (num_frames - count) // 2 + np.arange(count)
