"""Files of a light teacher: its card (JSON) and its weights (safetensors), whole or per fold.

NAME.json                what it is, what it was fitted on, how well it does on pictures unseen
NAME.safetensors         the regression that was fitted on all pictures
NAME.folds.safetensors   one a fold, fitted on the other folds: for votes on versions of
                         pictures that the whole one has seen; kept beside the corpus
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as packed

from vqa_jax.errors import VqaError
from vqa_jax.jobs import fields
from vqa_jax.jobs.files import file_sha256, replacing, write_sealed
from vqa_jax.teachers.light.regression import Regression

PREFIX = "light_"
CARDS = f"{PREFIX}*.json"
_TENSORS = tuple(field.name for field in dataclasses.fields(Regression))
_REMEDY = "fit it again with `vqa_jax teachers fit`, or fetch the file again"


class LightTeacherError(VqaError):
    """A light teacher cannot be used or fitted; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Rank correlation with people on pictures that a regression did not see.

    Attributes:
      pooled: of all pictures.
      within: mean over kinds of the correlation within one; pooled where there is one kind.
    """

    pooled: float
    within: float


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """SRCC on a kind of pictures by a regression fitted on all other kinds."""

    kind: str
    srcc: float


@dataclasses.dataclass(frozen=True)
class LightCard:
    """What is known of a light teacher.

    Attributes:
      name: of the teacher.
      family: key of `features.FAMILIES`.
      summary: one sentence.
      view: fingerprint of how pictures are seen.
      trained_on: the set of human scores, in the user's words.
      scores_sha256: of the table of scores.
      pictures: how many it was fitted on.
      folds, seed: of the cross-validation.
      groups: of near copies and stated contents, which folds keep together.
      cross_validated: SRCC over folds.
      left_out: SRCC on each kind by a fit on the others.
      low, high: 5th and 95th percentile of the human scores: its range.
      terms: of scores, pictures and the tower's weights, for who has to judge.
      weights_sha256, folds_sha256: of its files of weights; cards of earlier versions lack them.
    """

    name: str
    family: str
    summary: str
    view: str
    trained_on: str
    scores_sha256: str
    pictures: int
    folds: int
    seed: int
    groups: int
    cross_validated: Agreement
    left_out: tuple[LeftOut, ...]
    low: float
    high: float
    terms: str
    weights_sha256: str = ""
    folds_sha256: str = ""


def teacher_name(family: str) -> str:
    """Name of the teacher on a family of features."""
    return PREFIX + family


def told(card: LightCard) -> str:
    """What a card says of its training, one line."""
    found = card.cross_validated
    left_out = "/".join(f"{row.srcc:.2f} {row.kind}" for row in card.left_out)
    return (
        f"{card.pictures:,} pictures of {card.trained_on}; SRCC on pictures unseen, "
        f"{card.folds} folds: {found.pooled:.3f} (within kinds {found.within:.3f})"
        + (f"; kinds left out: {left_out}" if left_out else "")
    )


def paths(folder: str, name: str) -> tuple[str, str, str]:
    """Card, weights and weights of the folds."""
    return tuple(  # type: ignore[return-value]
        os.path.join(folder, name + ending)
        for ending in (".json", ".safetensors", ".folds.safetensors")
    )


def save(folder: str, card: LightCard, whole: Regression, folds: Sequence[Regression]) -> None:
    """Writes the three files, the card last."""
    card_path, weights, fold_weights = paths(folder, card.name)
    _save(weights, whole.tensors())
    named = {f"{k}/{name}": x for k, r in enumerate(folds) for name, x in r.tensors().items()}
    _save(fold_weights, named)
    hashes = {"weights_sha256": file_sha256(weights), "folds_sha256": file_sha256(fold_weights)}
    write_sealed(card_path, dataclasses.asdict(card) | hashes)


def _save(path: str, tensors: Mapping[str, np.ndarray]) -> None:
    data = packed({name: np.asarray(x, order="C") for name, x in tensors.items()})
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def read_card(path: str) -> LightCard:
    """A card; LightTeacherError where it is none."""
    raw = fields.read_object(path, LightTeacherError)
    return fields.build(LightCard, raw, path, LightTeacherError, {"seed": (-(2**63), 2**63)})


def read_regression(path: str, digest: str = "") -> Regression:
    """The regression that was fitted on all pictures.

    Args:
      path: of its weights.
      digest: their SHA-256, "" where it is not known.

    Raises:
      LightTeacherError: the file is missing, damaged, or no regression.
    """
    return _regression(path, _load(path, digest), "")


def read_folds(path: str, number: int, digest: str = "") -> list[Regression]:
    """The regressions of `number` folds; otherwise as `read_regression`."""
    tensors = _load(path, digest)
    return [_regression(path, tensors, f"{k}/") for k in range(number)]


def _load(path: str, digest: str) -> dict[str, np.ndarray]:
    try:
        if digest and file_sha256(path) != digest:
            raise LightTeacherError(f"{path} is damaged, or of another card: {_REMEDY}")
        return load_file(path)
    except FileNotFoundError as error:
        raise LightTeacherError(f"{path} is missing: {_REMEDY}") from error
    except (SafetensorError, OSError) as error:
        raise LightTeacherError(f"{path} is damaged ({error}): {_REMEDY}") from error


def _regression(path: str, tensors: Mapping[str, np.ndarray], prefix: str) -> Regression:
    missing = [prefix + name for name in _TENSORS if prefix + name not in tensors]
    if missing:
        raise LightTeacherError(f"{path} lacks {missing[0]}: {_REMEDY}")
    found = Regression(**{name: tensors[prefix + name] for name in _TENSORS})
    count, width = found.landmarks.shape if found.landmarks.ndim == 2 else (-1, -1)
    size = len(found.mean) if found.mean.ndim == 1 else -1
    shapes = {
        "scale": (size,),
        "basis": (size, width),
        "weights": (count + width + 1,),
        "gamma": (),
    }
    for name, shape in shapes.items():
        if getattr(found, name).shape != shape:
            raise LightTeacherError(f"{path}: {prefix}{name} is not of shape {shape}: {_REMEDY}")
    if not all(np.isfinite(tensor).all() for tensor in found.tensors().values()):
        raise LightTeacherError(f"{path} holds numbers that are not finite: {_REMEDY}")
    return found
