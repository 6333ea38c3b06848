"""Metric rows of a run: JSON lines and TensorBoard; compilations; profiler traces."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from vqa_jax.jobs import files

RIGHT, PAIRS = "train/right/", "train/pairs/"  # counts of a step by source of the label
ACCURACY = "train/level_acc/"


class MetricLog:
    """Rows to `workdir`/metrics.jsonl and TensorBoard, averaged over the steps between two rows.

    Counts by label source become accuracies over those steps; a source without pairs has none.
    """

    def __init__(self, workdir: str, first_step: int, write: bool = True):
        """Opens the log.

        Args:
          workdir: of the run.
          first_step: step that the run starts after.
          write: whether this process writes; only one of a run does.
        """
        self._path = os.path.join(workdir, "metrics.jsonl")
        self._board = None
        if write:
            self._drop_rows_after(first_step)
            board = os.path.join(workdir, "tensorboard")
            os.makedirs(board, exist_ok=True)
            # Without the thread of TensorBoard's own writer, which fails unheard on a full disk.
            self._board = EventsWriter(os.path.join(board, "events"))
            start = SessionLog(status=SessionLog.START)  # what came after this step is forgotten
            event = Event(wall_time=time.time(), step=first_step, session_log=start)
            self._board.write_event(event)
        self._rows: list[dict[str, float]] = []

    def _drop_rows_after(self, step: int) -> None:
        # Steps after the restored one are computed again: their rows would be twice there.
        if not os.path.exists(self._path):
            return
        with open(self._path, encoding="utf-8") as f:
            rows = [line for line in f if line.endswith("\n") and json.loads(line)["step"] <= step]
        with files.written(self._path) as f:
            f.writelines(rows)

    def add(self, values: Mapping[str, float]) -> None:
        """Takes the values of one step."""
        self._rows.append(dict(values))

    def write(self, step: int, extra: Mapping[str, float]) -> dict[str, float]:
        """Writes and returns the row of the steps since the last one, with `extra` in it.

        Raises:
          OSError: it cannot be written; names the file.
        """
        row = {**_summary(self._rows), **extra}
        self._rows = []
        if self._board is not None:
            try:
                with open(self._path, "a", encoding="utf-8") as f:
                    f.write(json.dumps({"step": step, **row}) + "\n")
                for name, value in row.items():
                    event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                    self._board.write_event(event)
                self._board.flush()
            except OSError as error:
                error.filename = self._path
                raise
        return row

    def close(self) -> None:
        """Closes TensorBoard's file."""
        if self._board is not None:
            with contextlib.suppress(OSError):  # a full disk: told when a row was written
                self._board.close()


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    out = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name.startswith(PAIRS):
            source, pairs = name.removeprefix(PAIRS), sum(values)
            if pairs:
                out[ACCURACY + source] = sum(row[RIGHT + source] for row in rows) / pairs
        elif not name.startswith(RIGHT):
            out[name] = float(np.mean(values))
    return out


class Speed:
    """Pairs, tokens and model FLOPs a second, and where the time went, between two rows."""

    def __init__(self, peak: float | None):
        """`peak`: FLOP/s of all devices together, or None where it is not known."""
        self._peak = peak
        self.start()

    def start(self) -> None:
        """Forgets what was before."""
        self._since, self._waited = time.monotonic(), 0.0
        self._pairs, self._tokens = 0.0, 0
        self._flops = 0.0

    def waited(self, seconds: float) -> None:
        """Adds time that a step waited for its batch."""
        self._waited += seconds

    def step(self, values: Mapping[str, float], tokens: int, flops: float) -> None:
        """Adds a step: its metrics, (padded) tokens of the global batch, model FLOPs."""
        self._pairs += sum(value for name, value in values.items() if name.startswith(PAIRS))
        self._tokens += tokens
        self._flops += flops

    def row(self) -> dict[str, float]:
        """Rates since the last call; `perf/mfu` only where the peak is known."""
        elapsed = time.monotonic() - self._since
        row = {
            "perf/pairs_per_sec": self._pairs / elapsed,
            "perf/tokens_per_sec": self._tokens / elapsed,
            "perf/input_wait_frac": self._waited / elapsed,
        }
        if self._peak:
            row["perf/mfu"] = self._flops / elapsed / self._peak
        self.start()
        return row


_COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Counts XLA compilations of this process; those of a running step are warned about."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self._counted = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, seconds: float, **_: Any) -> None:
        if event == _COMPILED:
            self.count += 1
            self.seconds += seconds

    def warn_after(self, step: int, before: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Warns if anything was compiled since the count was `before`."""
        if self.count > before:
            logging.warning("step %d was compiled again, for the batch %s", step, dict(shapes))

    def row(self) -> dict[str, float]:
        """Compilations and their seconds since the last call."""
        count, seconds = self._counted
        self._counted = self.count, self.seconds
        return {
            "perf/compilations": float(self.count - count),
            "perf/compile_seconds": self.seconds - seconds,
        }

    def close(self) -> None:
        """Stops listening."""
        jax.monitoring.unregister_event_duration_listener(self._heard)


class Profile:
    """A profiler trace of steps first..last in `workdir`/profile (TensorBoard's profile plugin)."""

    def __init__(self, workdir: str, steps: tuple[int, int] | None):
        """`steps`: first and last one traced, both included; None: no trace."""
        self._folder, self._steps, self._running = os.path.join(workdir, "profile"), steps, False

    def before(self, step: int) -> None:
        """Starts the trace if `step` is its first."""
        if self._steps and self._steps[0] <= step <= self._steps[1] and not self._running:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int) -> None:
        """Ends the trace if `step` is its last."""
        if self._steps and step >= self._steps[1]:
            self.close()

    def close(self) -> None:
        """Ends the trace."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            logging.info("profiler trace in %s", self._folder)
