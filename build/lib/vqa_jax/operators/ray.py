"""Scoring as a step of Ray Data: a class for `Dataset.map_batches`.

videos.map_batches(VideoScorer, batch_size=32, concurrency=2, num_gpus=1, max_concurrency=2)

Each actor holds one student on the devices that Ray gives it. Files are decoded in child processes
of the actor, ahead of the student; with `max_concurrency=2` those of the next batch, too. A row
without a score has its reason, and Ray repeats the batches of an actor that dies.
"""

from __future__ import annotations

import numpy as np

from vqa_jax.operators.rows import COLUMNS, NUMBERS, RowScorer


class VideoScorer(RowScorer):
    """Adds `rows.COLUMNS` to batches of rows; made in the actor, arguments as of `RowScorer`."""

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch with the columns added: numbers float64, texts as objects.

        Args:
          batch: columns of equal length, Ray's format "numpy".

        Raises:
          SettingsError: as `RowScorer.needed`.
        """
        rows = self.columns(*(batch[name] for name in self.needed(batch)))
        kinds = {name: np.float64 if name in NUMBERS else object for name in COLUMNS}
        return batch | {n: np.array([row[n] for row in rows], kind) for n, kind in kinds.items()}
