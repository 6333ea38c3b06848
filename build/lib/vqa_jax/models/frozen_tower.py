"""A frozen tower at work: tokens of whole videos, a fixed number of frames at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from vqa_jax.devices.execution import Execution, executing
from vqa_jax.models.cell_tower import TOKEN_DTYPE
from vqa_jax.models.functional import FunctionalStudent, Params

FRAMES_AT_ONCE = 4  # of one shape a device, so that a shape of frames is one program


class FrozenTower:
    """What a pretrained tower makes of frames once and for all (`stage_statistics`).

    Args:
      statistics: (parameters, uint8 [N, H, W, 3]) -> float32 [N, P, W], a pure function.
      params: its parameters.
      execution: where it runs.
    """

    def __init__(
        self,
        statistics: Callable[[Any, jax.Array], jax.Array],
        params: Any,
        execution: Execution | None = None,
    ):
        run = execution or Execution()

        def placed(params: Any, frames: jax.Array) -> jax.Array:
            with executing(run):
                return statistics(params, frames)

        self._statistics = jax.jit(placed, out_shardings=run.told)
        self._params, self._run = params, run

    @classmethod
    def of_student(
        cls, student: FunctionalStudent, params: Params, execution: Execution | None = None
    ) -> FrozenTower:
        """The tower of a student; of its parameters, those of the tower suffice."""

        def statistics(network: Params, frames: jax.Array) -> jax.Array:
            return student.bind({"vision": {"network": network}}).vision.statistics(frames)

        return cls(statistics, params["vision"]["network"], execution)

    def __call__(self, videos: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Tokens float16 [F, P, W] of videos' frames uint8 [F, H, W, 3]; those of one size share
        calls."""
        videos = list(videos)
        found: list[np.ndarray] = [np.zeros(0, TOKEN_DTYPE)] * len(videos)
        for size in sorted({video.shape[1:] for video in videos}):
            alike = [k for k, video in enumerate(videos) if video.shape[1:] == size]
            tokens = self._tokens([frame for k in alike for frame in videos[k]])
            ends = np.cumsum([len(videos[k]) for k in alike])[:-1]
            for k, part in zip(alike, np.split(tokens, ends), strict=True):
                found[k] = part
        return found

    def _tokens(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        found, size = [], FRAMES_AT_ONCE * self._run.ways
        for start in range(0, len(frames), size):
            chunk = frames[start : start + size]
            filler = [np.zeros_like(chunk[0])] * (size - len(chunk))
            (padded,) = self._run.rows(np.stack([*chunk, *filler]))
            tokens = self._statistics(self._params, padded)
            found.append(np.asarray(tokens)[: len(chunk)].astype(TOKEN_DTYPE))
        return np.concatenate(found)
