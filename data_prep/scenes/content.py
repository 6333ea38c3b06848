"""Short clips of whole photographs, flaws and all, as web video shows them.

    python -m data_prep clips --out DIR --photographs DIR [--excluded FILE] [--workers 2]

The built-in scenes (`scenes`) are made of clean cuts of photographs; here a photograph is the
content, at its own resolution and with its own noise, blur and light, and only the camera moves.
DIR/scenes.json lists the files and which are held out; a rerun makes only what is missing.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from data_prep.scenes import camera, dead_leaves, made_files, photographs
from data_prep.scenes.photographs import Photograph
from data_prep.simulators.encode import EncodeConfig, encode_rgb
from vqa_jax.errors import VqaError

RENDERER = 1  # raise it when the same seed gives other pixels: files of older ones are made anew
MOVES = ("static", "pan", "zoom", "shake", "objects")
FRAME_RATES = (24, 25, 30, 50, 60)
_PART = 0.75  # share of a photograph's sides that a moving camera sees at once
_PAN_SPEEDS = (1, 4)  # pixels a frame
_TEXTURES = 4  # photographs that a clip's objects are cut from


class ContentError(VqaError):
    """The clips cannot be made as asked; says why, and what to change."""


@dataclass(frozen=True)
class ClipConfig:
    """What to make.

    Args:
        folder: of further jpg or png pictures beside the built-in photographs, or None.
        excluded: list of pictures that must not enter, see `photographs.without`, or None.
        moves: of `MOVES`; which one a photograph gets follows from its content.
        each: clips of a photograph, with different moves. Near copies are left out of a corpus
            unless `prep.deduplicate` is "exact", so more than one needs that.
        seed: of everything drawn.
        short_side: photographs with a longer short side are reduced to this, by area.
        seconds: length of each.
        crf: x264's constant rate factor; low, because these files are sources.
    """

    folder: str | None = None
    excluded: str | None = None
    moves: tuple[str, ...] = MOVES
    each: int = 1
    seed: int = 0
    short_side: int = 512
    seconds: float = 2.0
    crf: int = 11

    def __post_init__(self) -> None:
        unknown = sorted(set(self.moves) - set(MOVES))
        if unknown or not self.moves or len(set(self.moves)) != len(self.moves):
            raise ContentError(f"moves {self.moves}: name some of {MOVES}, each once")
        if not 1 <= self.each <= len(self.moves):
            raise ContentError(f"each {self.each}: there are 1 to {len(self.moves)} moves for one")
        if self.short_side < 64 or self.seconds <= 0:
            raise ContentError(
                f"short_side {self.short_side} must be 64 or more, seconds {self.seconds} above 0"
            )


@dataclass(frozen=True)
class _Job:
    """One clip to make, with all that it depends on."""

    config: ClipConfig
    photograph: Photograph
    move: str
    textures: tuple[Photograph, ...]

    @property
    def file(self) -> str:
        return f"clip_{self.photograph.id}_{self.move}.mp4"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the file's content."""
        config = {key: value for key, value in asdict(self.config).items()
                  if key not in ("folder", "excluded", "moves", "each")}  # fmt: skip
        pictures = [p.sha256 for p in (self.photograph, *self.textures)]
        return made_files.fingerprint([RENDERER, config, self.move, pictures])

    def make(self) -> tuple[bytes, dict]:
        """The file and its entry of the manifest."""
        seed = _seed(self.config.seed, self.photograph, self.move)
        rng = np.random.default_rng(seed)
        fps = int(rng.choice(FRAME_RATES))
        picture = _reduced(photographs.read_photograph(self.photograph.path), self.config)
        num_frames = int(np.ceil(self.config.seconds * fps))
        textures = [p.path for p in self.textures]
        frames = film(picture, self.move, rng, fps, num_frames, textures)
        first = next(frames)
        height, width = first.shape[:2]
        film_config = EncodeConfig("h264", self.config.crf, "veryfast")
        data = encode_rgb(itertools.chain([first], frames), fps, film_config)
        used = {self.photograph.id, *(p.id for p in self.textures)}
        return data, {
            "split": self.photograph.split,
            "kind": "photograph",
            "photographs": sorted(used),
            "seed": seed,
            "fps": fps,
            "frames": num_frames,
            "width": width,
            "height": height,
            "camera": self.move,
        }


def _seed(seed: int, photograph: Photograph, move: str) -> list[int]:
    return [seed, 3, int(photograph.sha256[:12], 16), MOVES.index(move)]


def _reduced(picture: np.ndarray, config: ClipConfig) -> np.ndarray:
    factor = config.short_side / min(picture.shape[:2])
    if factor >= 1:
        return picture
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def film(
    picture: np.ndarray,
    move: str,
    rng: np.random.Generator,
    fps: float,
    num_frames: int,
    textures: Sequence[str] = (),
) -> Iterator[np.ndarray]:
    """Frames of a photograph.

    Args:
        picture: uint8 RGB [H, W, 3].
        move: one of `MOVES`. "static" and "objects" show all of the picture, others 3/4 of its
            sides: "pan" moves by 1 to 4 whole pixels a frame, there and back, so that its pixels
            are the picture's own; "zoom" goes from all of it, reduced, to a part at its own
            resolution, or back, "shake" is a hand-held camera; both are resampled.
        rng: of what is drawn.
        fps: frames a second, > 0.
        num_frames: >= 1.
        textures: paths of the photographs that objects are cut from; for "objects" only.

    Returns:
        uint8 RGB frames of one size, even sides.
    """
    if move == "static":
        return (_even(picture) for _ in range(num_frames))
    if move == "objects":
        return _objects(_even(picture), rng, fps, num_frames, textures)
    if move == "pan":
        return _pan(picture, rng, num_frames)
    return _warped(picture, move, rng, fps, num_frames)


def _even(picture: np.ndarray) -> np.ndarray:
    height, width = (side - side % 2 for side in picture.shape[:2])
    return picture[:height, :width]


def _window(picture: np.ndarray) -> tuple[int, int]:
    """(height, width) of what a moving camera sees."""
    height, width = (round(_PART * side) for side in picture.shape[:2])
    return height - height % 2, width - width % 2


def _there_and_back(position: int, last: int) -> int:
    """Where something is that goes from 0 to `last` and back, again and again."""
    return abs((position + last) % (2 * last) - last)


def _pan(picture: np.ndarray, rng: np.random.Generator, num_frames: int) -> Iterator[np.ndarray]:
    height, width = _window(picture)
    room_y, room_x = picture.shape[0] - height, picture.shape[1] - width
    low, high = _PAN_SPEEDS
    speed = int(rng.integers(low, high + 1)) * int(rng.choice([-1, 1]))
    across = rng.random() < 0.75  # people pan more than they tilt
    x, y = int(rng.integers(room_x + 1)), int(rng.integers(room_y + 1))
    for index in range(num_frames):
        left = _there_and_back(x + speed * index, room_x) if across else x
        top = y if across else _there_and_back(y + speed * index, room_y)
        yield picture[top : top + height, left : left + width]


def _warped(
    picture: np.ndarray, move: str, rng: np.random.Generator, fps: float, num_frames: int
) -> Iterator[np.ndarray]:
    height, width = _window(picture)
    room_y, room_x = picture.shape[0] - height, picture.shape[1] - width
    unit = width / 384
    step = np.ones(num_frames)  # pixels of the picture a pixel of the frame
    x = y = np.zeros(num_frames)
    if move == "zoom":
        inwards = np.linspace(1 / _PART, 1, num_frames)
        step = inwards if rng.random() < 0.5 else inwards[::-1]
    else:
        times = np.arange(num_frames) / fps
        size = np.exp(rng.uniform(np.log(1.0), np.log(5.0))) * unit
        x = np.clip(camera.shake(rng, size)(times), -room_x / 2, room_x / 2)
        y = np.clip(camera.shake(rng, 0.7 * size)(times), -room_y / 2, room_y / 2)
    middle = (np.array(picture.shape[1::-1]) - 1) / 2
    half = (np.array([width, height]) - 1) / 2
    for scale, dx, dy in zip(step, x, y, strict=True):
        left, top = middle + (dx, dy) - scale * half
        yield cv2.warpAffine(
            picture,
            np.array([[scale, 0, left], [0, scale, top]]),
            (width, height),
            flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )


def _objects(
    picture: np.ndarray,
    rng: np.random.Generator,
    fps: float,
    num_frames: int,
    textures: Sequence[str],
) -> Iterator[np.ndarray]:
    height, width = picture.shape[:2]
    unit = width / 384
    things = []
    for _ in range(int(rng.integers(1, 4))):
        radius = rng.uniform(0.06, 0.18) * height
        colour, mask = dead_leaves.leaf(rng, textures, radius, soft=0.7)
        speed, tilt = np.exp(rng.uniform(np.log(20.0), np.log(180.0))) * unit, rng.uniform(0, 6.28)
        path = (
            camera.swing(rng, abs(speed * np.cos(tilt)), 0.45 * width),
            camera.swing(rng, abs(speed * np.sin(tilt)), 0.35 * height),
        )
        things.append((colour, mask, path, rng.uniform(0.3, 0.7, 2) * (width, height)))
    for index in range(num_frames):
        frame = picture.astype(np.float32) / 255
        for colour, mask, path, rest in things:
            place = [at + float(curve(index / fps)) for at, curve in zip(rest, path, strict=True)]
            x, y = (round(at - mask.shape[0] / 2) for at in place)
            dead_leaves.paste(frame, colour, mask, x, y)
        yield np.clip(np.rint(255 * frame), 0, 255).astype(np.uint8)


def plan(config: ClipConfig, pool: Sequence[Photograph]) -> list[_Job]:
    """The clips of `config`: of every photograph the move that its hash says, and those after it.

    So further photographs leave the others' moves alone. Objects are cut from photographs of the
    same split.
    """
    jobs = []
    filmed = sorted((p for p in pool if p.filmable), key=lambda p: p.sha256)
    groups = {split: [p for p in filmed if p.split == split] for split in ("train", "heldout")}
    for photograph in filmed:
        group = groups[photograph.split]
        first = int(photograph.sha256[-8:], 16)
        for turn in range(config.each):
            move = config.moves[(first + turn) % len(config.moves)]
            textures: list[Photograph] = []
            if move == "objects":
                rng = np.random.default_rng([*_seed(config.seed, photograph, move), 1])
                chosen = rng.permutation(len(group))[:_TEXTURES]
                textures = [group[k] for k in chosen]
            jobs.append(_Job(config, photograph, move, tuple(textures)))
    return jobs


def make_clips(config: ClipConfig, out: str, workers: int = 1) -> dict:
    """Makes the clips of `config` in folder `out`, in `workers` processes.

    Files that exist and agree with the manifest are kept, those of another plan are removed. The
    result depends on `config` and the photographs only, not on `workers` or on interruptions.

    Returns:
        The manifest, as in out/scenes.json: renderer, config, photographs, scenes.

    Raises:
        PhotographError: photographs or the list of excluded ones are missing or cannot be read.
        ContentError: none is left to film.
    """
    pool = photographs.find_photographs(config.folder, config.excluded)
    jobs = plan(config, pool)
    if not jobs:
        raise ContentError(f"{config.excluded} names every photograph: nothing is left to film")
    told = {"renderer": RENDERER, "config": asdict(config)}
    return made_files.make_files(jobs, told, pool, out, workers)
