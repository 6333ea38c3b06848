"""The table that `score` writes and prints: one row a file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import logging

from vqa_jax import terminal
from vqa_jax.jobs import csv_cells, files, outputs

if TYPE_CHECKING:  # --help must not import JAX
    from vqa_jax.scoring.results import Result

_SEVERAL = 3  # videos of one score are no coincidence


def write_rows(path: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes a CSV, whole or not at all."""
    with files.written(path, newline="") as file:
        writer = csv_cells.dict_writer(file, columns)
        writer.writeheader()
        writer.writerows(rows)


class RowStream:
    """A CSV that goes to a stream, row by row as they come.

    Where a row cannot be written the work goes on; `finish` tells.
    """

    def __init__(self, path: str, columns: Sequence[str]):
        """Opens the stream and writes the header."""
        self._path = path
        self._error: OSError | None = None
        self._stack = contextlib.ExitStack()
        self._file = self._stack.enter_context(outputs.stream(path, newline=""))
        self._writer = csv_cells.dict_writer(self._file, columns)
        self._try(self._writer.writeheader)

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row."""
        self._try(lambda: self._writer.writerow(row))

    def finish(self) -> None:
        """Closes the stream.

        Raises:
          OSError: rows could not be written; it names the stream.
        """
        if self._error is not None:
            raise self._error
        self._stack.close()

    def _try(self, write: Any) -> None:
        if self._error is not None:
            return
        try:
            write()
            self._file.flush()
        except BrokenPipeError:  # nobody reads: there is nothing to work for
            raise
        except OSError as error:
            error.filename = error.filename or self._path
            self._error = error
            logging.warning("%s: the work goes on", outputs.describe(error))
            with contextlib.suppress(OSError):
                self._stack.close()


def render(results: Sequence[Result], anchors: int) -> str:
    """The table for the terminal, best first, failures last, with what the numbers mean.

    anchors: how many there are, to tell what was saved.
    """
    good = sorted((r for r in results if r.error is None), key=lambda r: -(r.score or 0.0))
    lines = [f"{'score':>8}  {'std':>6}  path"]
    for row in good:
        mark = " (beyond the anchors)" if row.extrapolated else ""
        note = f" ({terminal.name(row.notes)})" if row.notes else ""
        std = "-" if row.std is None else f"{row.std:.2f}"
        lines.append(f"{row.score:8.2f}  {std:>6}  {terminal.name(row.path)}{mark}{note}")
    for row in results:
        if row.error is not None:
            reason = f"{terminal.name(row.path)}: {terminal.name(row.error)}"
            lines.append(f"{'-':>8}  {'-':>6}  {reason}")
    lines += _notes(good, anchors)
    lines.append(f"scale: {results[0].scale}")
    lines.append(
        f"model: {results[0].model}; {len(good)} scored, {len(results) - len(good)} failed"
    )
    return "\n".join(lines)


def _notes(good: Sequence[Result], anchors: int) -> list[str]:
    """What the mode has to tell: comparisons saved, answers that contradict each other."""
    lines = []
    values = {r.score if r.q is None else round(r.q, 3) for r in good}
    if len(good) >= _SEVERAL and len(values) == 1:
        lines.append(
            f"DOUBTFUL: all {len(good)} videos have the same score: they are copies, or the "
            "student's answers do not depend on what it sees"
        )
    made = [r.comparisons for r in good if r.comparisons is not None]
    if sum(made) < anchors * len(made):
        saved = 1 - sum(made) / (anchors * len(made))
        mean = sum(made) / len(made)
        lines.append(f"{mean:.2f} of {anchors} comparisons a video: {saved:.0%} saved")
    shares = [r.contradictions for r in good if r.contradictions is not None]
    if shares:
        mean = sum(shares) / len(shares)
        lines.append(f"both orders: the answers contradict each other in {mean:.1%} of the pairs")
    return lines
