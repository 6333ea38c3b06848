"""Parts of photographs as further pictures, so that few photographs are more to learn from.

    python -m data_prep parts --out DIR --photographs DIR [--excluded FILE] [--each 1] [--workers 2]

A part keeps its pixels, and with them the photograph's noise, blur and light; what it shows, and
how much of it, differs. DIR/scenes.json lists the files; a rerun makes only what is missing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from data_prep.scenes import made_files, photographs
from data_prep.scenes.photographs import Photograph
from vqa_jax.errors import VqaError

RENDERER = 1  # raise it when the same seed gives other pixels: files of older ones are made anew


class PartError(VqaError):
    """The parts cannot be made as asked; says why, and what to change."""


@dataclass(frozen=True)
class PartConfig:
    """What to make.

    Args:
        folder: of further jpg or png pictures beside the built-in photographs, or None.
        excluded: list of pictures that must not enter, see `photographs.without`, or None.
        each: parts of a photograph.
        least: smallest share of either side, in (0, 1].
        seed: of places and sizes.
    """

    folder: str | None = None
    excluded: str | None = None
    each: int = 1
    least: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.each < 1 or not 0 < self.least <= 1:
            raise PartError(f"each {self.each} must be 1 or more, least {self.least} in (0, 1]")


@dataclass(frozen=True)
class _Job:
    """One part to make, with all that it depends on."""

    config: PartConfig
    photograph: Photograph
    number: int

    @property
    def file(self) -> str:
        return f"{self.photograph.id}_part{self.number}.png"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the file's content."""
        facts = [RENDERER, self.config.least, self._seed(), self.photograph.sha256]
        return made_files.fingerprint(facts)

    def _seed(self) -> list[int]:
        return [self.config.seed, 4, int(self.photograph.sha256[:12], 16), self.number]

    def make(self) -> tuple[bytes, dict]:
        """The file and its entry of the manifest."""
        picture = photographs.read_photograph(self.photograph.path)
        part = cut(picture, self.config.least, np.random.default_rng(self._seed()))
        data = cv2.imencode(".png", part[..., ::-1])[1].tobytes()
        return data, {
            "split": self.photograph.split,
            "kind": "part",
            "photographs": [self.photograph.id],
            "seed": self._seed(),
            "width": part.shape[1],
            "height": part.shape[0],
        }


def cut(picture: np.ndarray, least: float, rng: np.random.Generator) -> np.ndarray:
    """A part of a picture uint8 RGB [H, W, 3], half of the time mirrored: each side `least` to all
    of the picture's, anywhere in it."""
    size = [max(round(rng.uniform(least, 1) * side), 1) for side in picture.shape[:2]]
    at = [int(rng.integers(side - n + 1)) for side, n in zip(picture.shape, size, strict=False)]
    part = picture[at[0] : at[0] + size[0], at[1] : at[1] + size[1]]
    return part[:, ::-1] if rng.random() < 0.5 else part


def plan(config: PartConfig, pool: Sequence[Photograph]) -> list[_Job]:
    """The parts of `config`: further ones leave the others as they are."""
    return [_Job(config, p, k) for p in pool if p.filmable for k in range(config.each)]


def make_parts(config: PartConfig, out: str, workers: int = 1) -> dict:
    """Makes the parts of `config` in folder `out`, in `workers` processes.

    Files that exist and agree with the manifest are kept, those of another plan are removed. The
    result depends on `config` and the photographs only, not on `workers` or on interruptions.

    Returns:
        The manifest, as in out/scenes.json: renderer, config, photographs, scenes.

    Raises:
        PhotographError: photographs or the list of excluded ones are missing or cannot be read.
        PartError: none is left.
    """
    pool = photographs.find_photographs(config.folder, config.excluded)
    jobs = plan(config, pool)
    if not jobs:
        raise PartError(f"{config.excluded} names every photograph: nothing is left to cut")
    told = {"renderer": RENDERER, "config": asdict(config)}
    return made_files.make_files(jobs, told, pool, out, workers)
