"""All teachers by name: what they are, what they were trained on, whether their weights are here.

Light: listing teachers imports no model. `neural.load` loads those that have weights.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vqa_jax.benchmarks.published import published
from vqa_jax.errors import VqaError
from vqa_jax.media.probe import VideoInfo
from vqa_jax.teachers import measures
from vqa_jax.teachers.light import model
from vqa_jax.teachers.views import View

WEIGHTS_VARIABLE = "VQA_JAX_TEACHERS"
_LIGHT_TEACHERS = str(pathlib.Path(__file__).parents[1] / "assets" / "teachers")
BUILT_IN, LIGHT, NEURAL, IMPORTED = "built-in", "light", "neural", "import"
_SHOWN_SETS = ("LSVQ-test", "LSVQ-1080p", "KoNViD-1k", "LIVE-VQC", "YouTube-UGC")
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

_FAST_VQA = "https://github.com/VQAssessment/FAST-VQA-and-FasterVQA"
_DOVER = "https://github.com/VQAssessment/DOVER"
_MINIMALISTIC = "https://github.com/sunwei925/MinimalisticVQA"
_Q_ALIGN = "https://github.com/Q-Future/Q-Align"


class TeacherError(VqaError):
    """A teacher cannot be used; the message says why and what to do."""


class VideoTeacher(Protocol):
    """A teacher that can score video files, as the teacher job uses it.

    Attributes:
      name: column of the score table.
      higher_is_better: direction.
      fingerprint: differs whenever the same video and seed may give another score.
    """

    name: str
    higher_is_better: bool
    fingerprint: str

    def views(self, info: VideoInfo, seed: int) -> Mapping[str, View]:
        """What it looks at in a video; `seed` decides what the official program draws at random."""
        ...

    def reduce(self, cuts: Mapping[str, np.ndarray]) -> Any:
        """What it keeps of a video's views; called in the thread that decodes."""
        ...

    def score(self, kept: Sequence[Any]) -> np.ndarray:
        """Finite scores float64 [n] of n videos, each independent of the others."""
        ...


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A file that a teacher needs in the weights folder.

    Attributes:
      name: below the folder.
      origin: where it comes from.
      licence: what its authors state of these weights, and where; "not stated" where they do not.
    """

    name: str
    origin: str
    licence: str = "not stated"


@dataclasses.dataclass(frozen=True)
class TeacherCard:
    """What is known of a teacher.

    Attributes:
      name: in commands and score tables.
      kind: "built-in", "light" (fitted by `teachers fit`), "neural" (needs weights) or "import" (no
        port; its scores are imported).
      summary: one sentence.
      score_range: of its scores.
      higher_is_better: direction.
      trained_on: data with human scores that it has seen.
      licence: of the code, as its authors state it, and where; of weights: see `files`.
      parameters: number of weights as published; 0 without.
      files: what the weights folder must hold.
      published: names of its rows in the table of published results.
      path: of a light one's card.
    """

    name: str
    kind: str
    summary: str
    score_range: str
    higher_is_better: bool = True
    trained_on: str = "nothing"
    licence: str = "this package's"
    parameters: int = 0
    files: tuple[WeightFile, ...] = ()
    published: tuple[str, ...] = ()
    path: str = ""

    def missing(self, folder: str) -> tuple[WeightFile, ...]:
        """Files that `folder` lacks."""
        return tuple(f for f in self.files if not os.path.isfile(os.path.join(folder, f.name)))

    def results(self) -> list[dict[str, str]]:
        """Published figures: rows of dataset, srcc, plcc ("" where not given) and source."""
        return [
            {
                "dataset": dataset,
                "srcc": _digits(row.srcc.get(dataset)),
                "plcc": _digits(row.plcc.get(dataset)),
                "source": row.source,
            }
            for name in self.published
            for row in published()
            if row.model == name
            for dataset in _SHOWN_SETS
            if dataset in row.srcc or dataset in row.plcc
        ]


def _digits(figure: float | None) -> str:
    """As papers print it; "" where they do not."""
    return "" if figure is None else f"{figure:.3f}"


_DOVER_FILES = (
    WeightFile(
        "dover.safetensors",
        f"DOVER.pth, releases of {_DOVER}",
        "not stated apart from the repository's MIT",
    ),
)
_SWIN_LICENCE = "not stated apart from the README's badge"
_SWIN_FILE = "weights of Model {0} trained on LSVQ, README of " + _MINIMALISTIC
_STUDENT = "folder of a student, as `python -m vqa_jax convert --to .../level_prompt` writes it"
_MIT = "MIT (LICENSE of its repository, 2022)"
_APACHE = "Apache-2.0 (badge in its README; there is no LICENSE file)"
_CARDS = (
    TeacherCard(
        "fast_vqa",
        NEURAL,
        "FAST-VQA (Wu et al., ECCV 2022): Video Swin-T on fragments.",
        "0..1, raw score through the official sigmoid",
        trained_on="LSVQ",
        licence="not stated (no LICENSE file, none in its README)",
        parameters=29_970_000,
        files=(
            WeightFile(
                "fast_vqa.safetensors", f"FAST_VQA_B_1_4.pth, release v2.0.0 of {_FAST_VQA}"
            ),
        ),
        published=("FAST-VQA",),
    ),
    TeacherCard(
        "dover",
        NEURAL,
        "DOVER (Wu et al., ICCV 2023): technical and aesthetic branch, fused.",
        "0..1, fused by the means and deviations of the branches' own scores",
        trained_on="LSVQ",
        licence=_MIT,
        parameters=58_060_000,
        files=_DOVER_FILES,
        published=("DOVER", "DOVER (official weights)"),
    ),
    TeacherCard(
        "dover_script",
        NEURAL,
        "DOVER as its official script fuses it, with the branches' constants exchanged.",
        "0..1, fused by the official script's constants",
        trained_on="LSVQ",
        licence=_MIT,
        files=_DOVER_FILES,
    ),
    TeacherCard(
        "dover_technical",
        NEURAL,
        "DOVER's technical branch alone: Video Swin-T on fragments.",
        "unbounded, about -0.25..0.05",
        trained_on="LSVQ",
        licence=_MIT,
        files=_DOVER_FILES,
    ),
    TeacherCard(
        "dover_aesthetic",
        NEURAL,
        "DOVER's aesthetic branch alone: ConvNeXt-T on resized frames.",
        "unbounded, about -0.2..0.3",
        trained_on="LSVQ",
        licence=_MIT,
        files=_DOVER_FILES,
    ),
    TeacherCard(
        "minimalistic_vii",
        NEURAL,
        "MinimalisticVQA VII (Sun et al., TPAMI 2024): Swin-B on key frames.",
        "unbounded raw score",
        trained_on="LSVQ",
        licence=_APACHE,
        parameters=86_930_000,
        files=(
            WeightFile("minimalistic_vii.safetensors", _SWIN_FILE.format("VII"), _SWIN_LICENCE),
        ),
        published=("MinimalisticVQA-VII",),
    ),
    TeacherCard(
        "minimalistic_ix",
        NEURAL,
        "MinimalisticVQA IX: Swin-B on key frames, SlowFast-R50 on motion.",
        "unbounded raw score",
        trained_on="LSVQ",
        licence=_APACHE,
        parameters=121_590_000,
        files=(
            WeightFile("minimalistic_ix.safetensors", _SWIN_FILE.format("IX"), _SWIN_LICENCE),
            WeightFile(
                "slowfast.safetensors",
                "slowfast_r50 for Kinetics-400, model zoo of pytorchvideo",
                "not stated apart from pytorchvideo's Apache-2.0 (its README)",
            ),
        ),
        published=("MinimalisticVQA-IX",),
    ),
    TeacherCard(
        "level_prompt",
        NEURAL,
        "Any student of published size, asked about one video: Q-Align's rule on its next word.",
        "0..1",
        trained_on="what the student was trained on",
        licence="the student's",
        files=tuple(
            WeightFile(f"level_prompt/{name}", _STUDENT, "the student's")
            for name in ("student.json", "student.safetensors", "tokenizer.json")
        ),
    ),
    TeacherCard(
        "q_align",
        IMPORTED,
        "Q-Align (Wu et al., ICML 2024): mPLUG-Owl2-8B; run it as its authors say and import the "
        "scores.",
        "0..1",
        trained_on="LSVQ, KonIQ-10k, SPAQ, KADID-10k, AVA (the released one-align)",
        licence="MIT (LICENSE of its repository, 2023); weights: MIT (model card of "
        f"q-future/one-align), LLaMA-2's for commercial use (model_zoo/README.md of {_Q_ALIGN})",
        parameters=8_200_000_000,
        published=("Q-Align",),
    ),
)


def cards(folder: str = "") -> list[TeacherCard]:
    """Every known teacher: neural ones, those to import, light ones, then the built-in measures.

    Args:
      folder: of weights; light teachers there hide shipped ones of their names.

    Raises:
      LightTeacherError: the card of a light teacher is damaged.
    """
    found = [*_CARDS, *_light_cards(folder)]
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
