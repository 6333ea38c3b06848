"""Videos of a pipeline's rows -> the columns that scoring adds to them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from vqa_jax import loading
from vqa_jax.media import sources, view
from vqa_jax.scoring import reading
from vqa_jax.scoring.predictor import Path
from vqa_jax.scoring.results import Result
from vqa_jax.settings import ScoreConfig, SettingsError

COLUMNS = ("score", "std", "notes", "error", "scale", "model")
"""Names of what is added to a row: cells of `Result`; "" in `error` is a video with a score."""
NUMBERS = ("score", "std")


class RowScorer:
    """A student that scores rows; may be called by several threads.

    Attributes:
      column: of a row, that holds the video.
    """

    def __init__(
        self,
        student: Path | None = None,
        *,
        column: str = "path",
        fps: float | str | None = None,
        config: ScoreConfig | None = None,
        **how: Any,
    ):
        """Loads the student.

        Args:
          student: as of `vqa_jax.load`.
          column: of a row: a path, URL, encoded bytes, or frames uint8 RGB [T, H, W, 3].
          fps: frames a second of frames, or the column that holds it.
          config: how to score; default: every anchor, one order, solved exactly.
          **how: anchors, mesh, attention, dtype, batch_size, as of `vqa_jax.load`.

        Raises:
          VqaError: as `vqa_jax.load`, and a student without anchors.
        """
        self.column, self._fps, self._config = column, fps, config
        self._student = loading.load(student, **how)
        self._facts = {"scale": self._student.judge.describe(), "model": self._student.fingerprint}

    def needed(self, names: Collection[str]) -> tuple[str, ...]:
        """Columns that are read: the video's, and that of the frames a second if one holds it.

        Args:
          names: of the columns that rows have.

        Raises:
          SettingsError: one is missing, or has the name of a column that is added.
        """
        wanted = (self.column, *([self._fps] if isinstance(self._fps, str) else []))
        if missing := [name for name in wanted if name not in names]:
            known = ", ".join(sorted(names))
            raise SettingsError(f"rows have no column {missing[0]!r}, but {known}")
        if taken := [name for name in COLUMNS if name in names]:
            raise SettingsError(f"rows have a column {taken[0]!r} already: give it another name")
        return wanted

    def columns(
        self, videos: Sequence[Any], fps: Sequence[Any] | None = None
    ) -> list[dict[str, Any]]:
        """COLUMNS of each video, in order; what cannot be scored has NaN and its reason.

        Args:
          videos: cells of the column.
          fps: of each, where a column holds it.
        """
        rates = [None if isinstance(self._fps, str) else self._fps] * len(videos)
        rates = rates if fps is None else [_number(rate) for rate in fps]
        found: list[Result | None] = [None] * len(videos)
        alike: dict[float | None, list[int]] = {}
        for k, (video, rate) in enumerate(zip(videos, rates, strict=True)):
            if reason := _problem(video, rate):
                found[k] = Result("", error=reason, **self._facts)
            else:
                alike.setdefault(None if sources.is_source(video) else rate, []).append(k)
        for rate, places in alike.items():
            results = self._student.score_many([videos[k] for k in places], self._config, fps=rate)
            for k, result in zip(places, results, strict=True):
                found[k] = result
        return [_cells(result) for result in found]


def _cells(result: Result) -> dict[str, Any]:
    cells = {name: getattr(result, name) for name in COLUMNS}
    cells |= {name: np.nan if cells[name] is None else cells[name] for name in NUMBERS}
    return cells | {"error": result.error or ""}


def _problem(video: Any, fps: float | None) -> str:
    """Why a cell is no video, which must not end a job; "" if it may be one."""
    try:
        reading.name_of(video)
        if not sources.is_source(video):
            view.check_frames(np.asarray(video), fps)
    except view.FramesError as error:
        return str(error)
    return ""


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
