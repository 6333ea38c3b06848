"""The neural teachers and those to import: what is known of each, as far as its authors say it."""

from __future__ import annotations

import dataclasses
import os

from vqa_jax.benchmarks.published import published

BUILT_IN, LIGHT, NEURAL, IMPORTED = "built-in", "light", "neural", "import"
_SHOWN_SETS = ("LSVQ-test", "LSVQ-1080p", "KoNViD-1k", "LIVE-VQC", "YouTube-UGC")

_FAST_VQA = "https://github.com/VQAssessment/FAST-VQA-and-FasterVQA"
_DOVER = "https://github.com/VQAssessment/DOVER"
_MINIMALISTIC = "https://github.com/sunwei925/MinimalisticVQA"
_UVQ = "https://github.com/google/uvq"
_Q_ALIGN = "https://github.com/Q-Future/Q-Align"


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
      parameters: number of weights as published or counted; 0 without.
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
CARDS = (
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
        "uvq",
        NEURAL,
        "UVQ 1.5 (google/uvq, 2025): two EfficientNet-B0, on a frame a second and on its parts.",
        "1..5",
        trained_on="not stated of 1.5 (UVQ 1.0: YouTube-UGC)",
        licence="Apache-2.0 (heads of its files)",
        parameters=7_592_697,
        files=(
            WeightFile(
                "uvq.safetensors",
                f"three files in uvq1p5_pytorch/checkpoints of {_UVQ}, by launch/convert_uvq.py",
                "not stated apart from the repository's Apache-2.0",
            ),
        ),
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
