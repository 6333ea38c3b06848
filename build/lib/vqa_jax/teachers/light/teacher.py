"""A light teacher at work, on pictures, on video files and on stored key frames."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from vqa_jax.jobs.files import file_sha256
from vqa_jax.media.probe import VideoInfo
from vqa_jax.media.view import key_frame_indices
from vqa_jax.teachers.light import features, model
from vqa_jax.teachers.light.model import LightTeacherError
from vqa_jax.teachers.light.regression import Regression
from vqa_jax.teachers.views import View

_MOST_FRAMES = 32  # key frames of a video, spread evenly over it


class LightTeacher:
    """A regression on features of pictures; a video's score is the mean over its key frames.

    Attributes:
      name, higher_is_better, fingerprint: see `cards.VideoTeacher`.
      card: what is known of it.
      extractor: of its features.
    """

    higher_is_better = True

    def __init__(
        self,
        card: model.LightCard,
        fingerprint: str,
        whole: Regression,
        folds: Sequence[Regression],
        extractor: features.Extractor,
    ):
        self.card, self.name, self.fingerprint = card, card.name, fingerprint
        self._whole, self._folds, self.extractor = whole, folds, extractor

    def score(
        self, kept: Sequence[np.ndarray], folds: Sequence[int | None] | None = None
    ) -> np.ndarray:
        """Scores float64 [n] of n videos, on the scale of the human scores; higher is better.

        Args:
          kept: key frames of each, uint8 RGB [F, H, W, 3], of any size.
          folds: of the picture or source that each one shows: the regression that did not see it
            scores; None is the one that was fitted on all pictures.

        Raises:
          LightTeacherError: there is no such fold.
        """
        counts = [len(frames) for frames in kept]
        seen = [features.seen(frame) for frames in kept for frame in frames]
        found = np.split(self.extractor(self.card.family, seen), np.cumsum(counts)[:-1])
        return self._scores(found, folds or [None] * len(kept))

    def score_tokens(self, tokens: Sequence[np.ndarray], folds: Sequence[int | None]) -> np.ndarray:
        """As `score`, of what the teacher's tower made of each video's frames: float16 [F, P, W]
        of `cell_tower.stage_statistics`."""
        family = self.card.family
        return self._scores([features.of_tokens(family, rows) for rows in tokens], folds)

    def _scores(self, found: Sequence[np.ndarray], folds: Sequence[int | None]) -> np.ndarray:
        """Videos of one fold share a call: a regression's work is in its landmarks."""
        scores = np.zeros(len(found))
        for fold in dict.fromkeys(folds):
            places = [k for k, other in enumerate(folds) if other == fold]
            rows = self._regression(fold)(np.concatenate([found[k] for k in places]))
            ends = np.cumsum([len(found[k]) for k in places])[:-1]
            scores[places] = [part.mean() for part in np.split(rows, ends)]
        return scores

    def score_picture(self, picture: np.ndarray, fold: int | None = None) -> float:
        """Score of one picture uint8 RGB [H, W, 3]; `fold` as of `score`."""
        return float(self.score([picture[None]], [fold])[0])

    def _regression(self, fold: int | None) -> Regression:
        if fold is None:
            return self._whole
        if 0 <= fold < len(self._folds):
            return self._folds[fold]
        raise LightTeacherError(
            f"{self.name} has {len(self._folds)} folds at hand, not number {fold}: load it from the"
            " folder of `vqa_jax teachers fit`"
        )

    def views(self, info: VideoInfo, seed: int) -> Mapping[str, View]:
        """A frame a second in the viewing size, spread evenly where there are too many."""
        numbers = np.array(key_frame_indices(info.num_frames, info.fps))
        if len(numbers) > _MOST_FRAMES:
            numbers = numbers[np.arange(_MOST_FRAMES) * len(numbers) // _MOST_FRAMES]
        return {"seen": View(numbers, lambda place, frame: features.seen(frame))}

    def reduce(self, cuts: Mapping[str, np.ndarray]) -> np.ndarray:
        """The key frames themselves."""
        return cuts["seen"]


def load(path: str, extractor: features.Extractor | None = None) -> LightTeacher:
    """A light teacher of its card's path, with its folds where they are beside it.

    Args:
      path: NAME.json, or without the ending.
      extractor: shared by teachers that look at the same pictures; None: its own, which finds
        towers that are not shipped beside the card.

    Raises:
      LightTeacherError: files are missing, damaged, or of another version's view.
    """
    folder, name = os.path.split(path.removesuffix(".json"))
    card_path, weights, fold_weights = model.paths(folder, name)
    card = model.read_card(card_path)
    if card.family not in features.FAMILIES or card.view != features.VIEW.fingerprint():
        raise LightTeacherError(
            f"{card_path} was fitted by another version: fit it again with `vqa_jax teachers fit`"
        )
    has_folds = os.path.exists(fold_weights)
    return LightTeacher(
        card,
        f"{card.name}-{features.VERSION}-{file_sha256(weights)[:16]}",
        model.read_regression(weights, card.weights_sha256),
        model.read_folds(fold_weights, card.folds, card.folds_sha256) if has_folds else (),
        extractor or features.Extractor(folder),
    )
