"""Built-in scenes: real mp4 files made from a few photographs, so that the loop runs without data.

    python -m data_prep scenes --out DIR --num 72 --seed 0 [--photos DIR] [--workers 2]

Photographs are filmed by a moving camera, alone or behind moving things; dead-leaves pictures cut
from them make content that does not run out. Every sixth scene is held out, and uses held-out
photographs only. DIR/scenes.json lists the files; a rerun makes only what is missing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from data_prep.scenes import made_files, scene_film
from data_prep.scenes.photographs import Photograph, find_photographs
from data_prep.simulators.encode import EncodeConfig, encode_rgb
from vqa_jax.errors import VqaError

RENDERER = 2  # raise it when the same seed gives other pixels: files of older ones are made anew
FRAME_RATES = (24, 25, 30, 50, 60)
HELDOUT_EVERY = 6


class SceneError(VqaError):
    """The scenes cannot be made as asked; says why, and what to change."""


@dataclass(frozen=True)
class SceneConfig:
    """What to make.

    Args:
        num: number of scenes, of which num // 6 are held out.
        seed: scenes of two seeds share photographs but nothing else.
        photos: folder of further jpg or png pictures, or None.
        width, height: frame size, even.
        seconds: length of each.
        crf: x264's constant rate factor; low, because these files are the pristine sources.
    """

    num: int = 72
    seed: int = 0
    photos: str | None = None
    width: int = 384
    height: int = 288
    seconds: float = 3.2
    crf: int = 11

    def __post_init__(self) -> None:
        if self.num < 1 or self.seconds <= 0:
            raise SceneError(f"num {self.num} and seconds {self.seconds} must be positive")
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < 64:
            raise SceneError(f"size {self.width}x{self.height}: give even sides of 64 or more")


@dataclass(frozen=True)
class _Job:
    """One scene to make, with all that it depends on."""

    config: SceneConfig
    index: int
    kind: str
    split: str
    filmed: Photograph | None
    pool: tuple[Photograph, ...]

    @property
    def file(self) -> str:
        return f"scene_{self.index:04d}_{self.split}_{self.kind}.mp4"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the file's content."""
        config = {key: value for key, value in asdict(self.config).items()
                  if key not in ("num", "photos")}  # fmt: skip
        facts = [RENDERER, config, self.index, self.kind, self.split,
                 self.filmed and self.filmed.sha256, [p.sha256 for p in self.pool]]  # fmt: skip
        return made_files.fingerprint(facts)

    def make(self) -> tuple[bytes, dict]:
        """The file and its entry of the manifest."""
        config = self.config
        rng = np.random.default_rng([config.seed, 2, self.index])
        fps = int(rng.choice(FRAME_RATES))
        chosen = rng.permutation(len(self.pool))[: int(rng.integers(2, 5))]
        palette = [self.pool[i] for i in chosen]
        size = (config.width, config.height)
        scene = scene_film.compose(rng, self.kind, self.filmed, palette, size, config.seconds)
        num_frames = int(np.ceil(config.seconds * fps))
        frames = scene_film.film(scene, fps, num_frames, size)
        data = encode_rgb(frames, fps, EncodeConfig("h264", config.crf, "veryfast"))
        return data, {
            "split": self.split,
            "kind": self.kind,
            "photographs": list(scene.photographs),
            "seed": [config.seed, 2, self.index],
            "fps": fps,
            "frames": num_frames,
            "width": config.width,
            "height": config.height,
            "camera": scene.camera.style,
            "look": scene.look,
        }


def plan(config: SceneConfig, pool: Sequence[Photograph]) -> list[_Job]:
    """The scenes of `config`: kinds in fixed shares, photographs of the split in turn."""
    jobs = []
    made = {"train": 0, "heldout": 0}
    filmed_count = {"train": 0, "heldout": 0}
    by_split = {name: tuple(p for p in pool if p.split == name) for name in made}
    filmable = {name: [p for p in group if p.filmable] for name, group in by_split.items()}
    order = np.random.default_rng([config.seed, 1])
    for group in filmable.values():
        order.shuffle(group)
    for index in range(config.num):
        split = "heldout" if index % HELDOUT_EVERY == HELDOUT_EVERY - 1 else "train"
        kind = scene_film.KINDS[made[split] % len(scene_film.KINDS)]
        made[split] += 1
        filmed = None
        if kind in scene_film.FILMED_KINDS:
            filmed = filmable[split][filmed_count[split] % len(filmable[split])]
            filmed_count[split] += 1
        jobs.append(_Job(config, index, kind, split, filmed, by_split[split]))
    return jobs


def make_scenes(config: SceneConfig, out: str, workers: int = 1) -> dict:
    """Make the scenes of `config` in folder `out`, in `workers` processes.

    Files that exist and agree with the manifest are kept, those of another plan are removed. The
    result depends on `config` and the photographs only, not on `workers` or on interruptions.

    Returns:
        The manifest, as in out/scenes.json: renderer, config, photographs, scenes.

    Raises:
        PhotographError: photographs are missing or cannot be read.
    """
    pool = find_photographs(config.photos)
    told = {"renderer": RENDERER, "config": asdict(config)}
    return made_files.make_files(plan(config, pool), told, pool, out, workers)
