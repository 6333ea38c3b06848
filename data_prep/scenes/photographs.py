"""The photographs that the built-in scenes are made of: which exist, which are held out, loading.

Everything comes from wheels that requirements.txt installs anyway, so nothing is downloaded; a
folder of further pictures is optional.
"""

import functools
import hashlib
import importlib.util
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from absl import logging

from vqa_jax.errors import VqaError
from vqa_jax.extras import MissingExtraError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MIN_SIDE = 240  # a smaller picture cannot fill a frame at its own resolution
MAX_SIDE = 1400  # larger ones are reduced by area, which also removes their grain

# (id, package, path inside it, may be filmed on its own, licence). The last three are close-ups of
# one material: good textures, dull scenes. skimage's other pictures are drawings or downloads.
_BUILTIN = (
    ("astronaut", "skimage", "data/astronaut.png", True, "public domain (NASA)"),
    ("coffee", "skimage", "data/coffee.png", True, "CC0"),
    ("chelsea", "skimage", "data/chelsea.png", True, "CC0"),
    ("rocket", "skimage", "data/rocket.jpg", True, "CC0 (SpaceX)"),
    ("motorcycle", "skimage", "data/motorcycle_left.png", True, "CC0"),
    ("camera", "skimage", "data/camera.png", True, "CC0"),
    ("retina", "skimage", "data/retina.jpg", True, "CC0"),
    ("ihc", "skimage", "data/ihc.png", True, "no known restrictions"),
    ("china", "sklearn", "datasets/images/china.jpg", True, "CC-BY-2.0 (danielbuechele)"),
    ("flower", "sklearn", "datasets/images/flower.jpg", True, "CC-BY-2.0 (vultilion)"),
    ("hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", True, "public domain"),
    ("brick", "skimage", "data/brick.png", False, "CC0"),
    ("grass", "skimage", "data/grass.png", False, "CC0"),
    ("gravel", "skimage", "data/gravel.png", False, "CC0"),
)
_NUM_BUILTIN_HELDOUT = 3
_EXTRA_HELDOUT_SHARE = 0.25


class PhotographError(VqaError):
    """A photograph or folder of photographs cannot be used; says which, and what to do."""


@dataclass(frozen=True)
class Photograph:
    """One picture. `split` is "train" or "heldout"; `filmable`: may be a scene on its own."""

    id: str
    path: str
    sha256: str
    split: str
    filmable: bool
    licence: str


def _hash_key(text: str) -> float:
    """A number in [0, 1) that depends on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64


def builtin_photographs() -> list[Photograph]:
    """The photographs inside the installed wheels, with their fixed split.

    Raises:
        PhotographError: a file of a wheel is missing.
        MissingExtraError: a wheel is not installed.
    """
    # A fixed list, hence a fixed split: a student trained with further pictures must not have
    # seen what a run without them holds out.
    filmable = sorted((name for name, _, _, film, _ in _BUILTIN if film), key=_hash_key)
    heldout = set(filmable[:_NUM_BUILTIN_HELDOUT])
    result = []
    for name, package, relative, film, licence in _BUILTIN:
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise MissingExtraError(package, "prep")
        path = pathlib.Path(spec.submodule_search_locations[0]) / relative
        if not path.is_file():
            raise PhotographError(
                f"{path} is missing: install the exact {package} of requirements.txt"
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        split = "heldout" if name in heldout else "train"
        result.append(Photograph(name, str(path), digest, split, film, licence))
    return result


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Mean-free, unit-norm luminance of a 16x16 reduction: float32 [256]."""
    small = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    flat = small.mean(axis=-1).ravel()
    flat -= flat.mean()
    return flat / max(float(np.linalg.norm(flat)), 1e-6)


def folder_photographs(folder: str) -> list[Photograph]:
    """Pictures (jpg, png) below `folder`, without unreadable, small or repeated ones.

    The same picture in several sizes is kept once, because its copies could otherwise fall on
    both sides of the split. Held-out ones are those whose content hash falls into the lowest
    quarter, at most a third of the folder.

    Raises:
        PhotographError: no such folder, or no usable picture in it.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise PhotographError(f"{folder} is not a folder: name one with jpg or png pictures")
    candidates = []
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        data = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if image is None or min(image.shape[:2]) < MIN_SIDE:
            reason = "cannot be decoded" if image is None else f"side below {MIN_SIDE} pixels"
            logging.warning("photograph skipped, %s: %s", reason, path)
            continue
        digest = hashlib.sha256(data).hexdigest()
        candidates.append((-image.shape[0] * image.shape[1], digest, path, _thumbnail(image)))
    kept: list[tuple[str, pathlib.Path]] = []
    thumbnails: list[np.ndarray] = []
    for _, digest, path, thumbnail in sorted(candidates, key=lambda c: c[:2]):
        if any(float(thumbnail @ other) > 0.97 for other in thumbnails):
            logging.info("photograph skipped, a copy of another one: %s", path)
            continue
        thumbnails.append(thumbnail)
        kept.append((digest, path))
    if not kept:
        raise PhotographError(f"{folder} has no usable jpg or png of {MIN_SIDE} pixels or more")
    lowest = sorted(digest for digest, _ in kept if _hash_key(digest) < _EXTRA_HELDOUT_SHARE)
    heldout = set(lowest[: len(kept) // 3])
    return [
        Photograph(
            id=f"{path.stem}-{digest[:8]}",
            path=str(path.resolve()),
            sha256=digest,
            split="heldout" if digest in heldout else "train",
            filmable=True,
            licence="see its source",
        )
        for digest, path in sorted(kept)
    ]


def find_photographs(folder: str | None = None, excluded: str | None = None) -> list[Photograph]:
    """The built-in photographs and, where `folder` is given, those below it; not those that the
    list `excluded` names, see `without`.

    Raises:
        PhotographError: photographs or the list are missing or cannot be read.
        MissingExtraError: a wheel is not installed.
    """
    pool = builtin_photographs() + (folder_photographs(folder) if folder else [])
    return pool if excluded is None else without(pool, excluded)


def without(pool: Sequence[Photograph], listing: str) -> list[Photograph]:
    """The photographs of `pool` that a list of what must not enter does not name.

    Args:
        pool: photographs.
        listing: text file; a line is a file name, with or without its folders and its ending, or
            the SHA-256 of a file. Case does not matter; empty lines and those with # do not count.

    Raises:
        PhotographError: the list cannot be read, or names nothing: a wrong file, most likely.
    """
    try:
        lines = pathlib.Path(listing).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PhotographError(f"{listing} cannot be read ({error}): give a text file") from error
    lines = [line.strip().lower() for line in lines]
    named = {pathlib.PurePosixPath(x).name for x in lines if x and not x.startswith("#")}
    named |= {name.rsplit(".", 1)[0] for name in named}
    if not named:
        raise PhotographError(f"{listing} names no picture: give one name or SHA-256 a line")
    kept = []
    for photograph in pool:
        path = pathlib.PurePath(photograph.path)
        if not named & {
            path.name.lower(),
            path.stem.lower(),
            photograph.id.lower(),
            photograph.sha256,
        }:
            kept.append(photograph)
    logging.info("photographs: %d of %d are named in %s", len(pool) - len(kept), len(pool), listing)
    return kept


def noise_level(image: np.ndarray) -> float:
    """Standard deviation of grain in flat parts of `image` uint8 [H, W, 3], in grey levels.

    Immerkaer's mask (1996) on 16x16 blocks; the tenth percentile stands for blocks without detail.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6.0
    response = cv2.filter2D(grey, -1, mask)
    height, width = (side // 16 * 16 for side in response.shape)
    blocks = response[:height, :width].reshape(height // 16, 16, width // 16, 16)
    return float(np.percentile(blocks.std(axis=(1, 3)), 10))


def read_photograph(path: str) -> np.ndarray:
    """Picture at `path` as it is, uint8 RGB [H, W, 3], its longer side reduced to MAX_SIDE.

    Raises:
        PhotographError: it cannot be decoded.
    """
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise PhotographError(f"{path} cannot be decoded any more: run again without it")
    image = np.ascontiguousarray(image[..., ::-1])
    factor = MAX_SIDE / max(image.shape[:2])
    if factor < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return image


@functools.lru_cache(maxsize=96)
def load_photograph(path: str) -> np.ndarray:
    """Picture at `path` as clean uint8 RGB [H, W, 3], its longer side at most MAX_SIDE.

    Grain of the photograph itself is smoothed where there is any: a student that sees grainy
    pictures called pristine learns that noise is good.
    """
    image = read_photograph(path)
    noise = noise_level(image)
    if noise > 0.3:
        image = cv2.bilateralFilter(image, 5, min(6.0 * noise, 14.0), 1.6)
    image.setflags(write=False)
    return image


@functools.lru_cache(maxsize=96)
def texture_levels(path: str) -> Sequence[np.ndarray]:
    """The picture reduced by area to a few scales <= 1, so that cut textures stay sharp."""
    image = load_photograph(path)
    start = min(1.0, 640 / max(image.shape[:2]))  # the object, not its surface, in large pictures
    levels = []
    for factor in (1.0, 0.75, 0.55, 0.4):
        scaled = cv2.resize(
            image, None, fx=factor * start, fy=factor * start, interpolation=cv2.INTER_AREA
        )
        scaled.setflags(write=False)
        levels.append(scaled)
    return tuple(levels)
