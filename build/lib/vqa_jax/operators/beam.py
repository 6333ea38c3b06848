"""Scoring as a step of Apache Beam: a PTransform on rows, and the ModelHandler that it runs.

scored = rows | ScoreVideos("my_student")  # dictionaries with a column "path"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vqa_jax.extras import asked_for
from vqa_jax.operators.rows import RowScorer
from vqa_jax.scoring.predictor import BATCH_SIZE

with asked_for("beam"):
    import apache_beam as beam
    from apache_beam.ml.inference.base import ModelHandler, RunInference

Row = Mapping[str, Any]


class VideoHandler(ModelHandler[Row, Row, RowScorer]):
    """What RunInference needs to score rows, also within a KeyedModelHandler.

    Args:
      batch_size: most rows of a batch.
      **arguments: of `rows.RowScorer`.
    """

    def __init__(self, batch_size: int = BATCH_SIZE, **arguments: Any):
        super().__init__(max_batch_size=batch_size)
        self._arguments = arguments

    def load_model(self) -> RowScorer:
        """The student, once a process."""
        return RowScorer(**self._arguments)

    def run_inference(
        self,
        batch: Sequence[Row],
        model: RowScorer,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Row]:
        """The rows with `rows.COLUMNS` added, in order.

        Raises:
          SettingsError: as `RowScorer.needed`.
        """
        wanted = {model.needed(row) for row in batch}.pop()
        added = model.columns(*([row[name] for row in batch] for name in wanted))
        return [{**row, **cells} for row, cells in zip(batch, added, strict=True)]

    def get_num_bytes(self, batch: Sequence[Row]) -> int:
        """Bytes of what is encoded or frames, for Beam's metrics; nothing is pickled."""
        cells = (cell for row in batch for cell in row.values())
        return sum(
            getattr(cell, "nbytes", len(cell) if isinstance(cell, bytes) else 0) for cell in cells
        )

    def get_metrics_namespace(self) -> str:
        """Under which Beam counts."""
        return "vqa_jax"


class ScoreVideos(beam.PTransform):
    """Rows (dictionaries) -> the same rows with `rows.COLUMNS` added.

    Args:
      student: as of `vqa_jax.load`.
      **arguments: of `VideoHandler`.
    """

    def __init__(self, student: str | None = None, **arguments: Any):
        super().__init__()
        self._handler = VideoHandler(student=student, **arguments)

    def expand(self, rows: beam.PCollection[Row]) -> beam.PCollection[Row]:
        """Applies RunInference."""
        return rows | RunInference(self._handler)
