"""Which share of a run's time went into steps that count, and where the rest went.

The time runs from the first start of a run to its last row, over all its starts on any machines.
Rows are only ever added, so that steps which a later start computes again are known.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

FILE = "goodput.jsonl"
# What a start spends apart from steps: reading, restoring and compiling until the first step;
# waiting for batches; compiling later; asking held-out pairs; handing checkpoints over, and the
# last ones' end.
CAUSES = ("start", "input", "compile", "heldout", "save")

Row = Mapping[str, Any]  # "began", "first", "time", "step", and the seconds of CAUSES until then


class Ledger:
    """Rows of one start of a run, in `workdir`/FILE."""

    def __init__(self, workdir: str, first: int, began: float, write: bool = True):
        """Opens it.

        Args:
          workdir: of the run.
          first: step that this start goes on from.
          began: when it started, seconds since 1970.
          write: whether this process writes; only one of a run does.
        """
        self._path, self._write = os.path.join(workdir, FILE), write
        self._spent = dict.fromkeys(CAUSES, 0.0)
        self._start = {"began": began, "first": first}
        self._earlier = read(self._path)
        self._rows: list[Row] = []

    def add(self, cause: str, seconds: float) -> None:
        """Adds to one of CAUSES."""
        self._spent[cause] += seconds

    def spent(self, cause: str) -> float:
        """Seconds of one of CAUSES in this start."""
        return self._spent[cause]

    @contextlib.contextmanager
    def spending(self, cause: str) -> Iterator[None]:
        """Adds the time of what is inside."""
        since = time.monotonic()
        try:
            yield
        finally:
            self.add(cause, time.monotonic() - since)

    def row(self, step: int) -> dict[str, float]:
        """Writes where the time went until `step`, and returns the share that counts.

        Raises:
          OSError: it cannot be written; names the file.
        """
        row = {**self._start, "time": time.time(), "step": step, **self._spent}
        self._rows.append(row)
        if self._write:
            try:
                with open(self._path, "a", encoding="utf-8") as file:
                    # In a line of its own, whatever a killed start left of its last one.
                    file.write("\n" * (len(self._rows) == 1) + json.dumps(row) + "\n")
            except OSError as error:
                error.filename = self._path
                raise
        return {"perf/goodput": self.shares()["steps"]}

    def shares(self) -> dict[str, float]:
        """`shares` of the whole run until its last row."""
        return shares([*self._earlier, *self._rows])

    def tell(self) -> None:
        """Logs where the time of the whole run went."""
        if self._write and self._rows:
            first = min(row["began"] for row in (*self._earlier, *self._rows))
            hours = (self._rows[-1]["time"] - first) / 3600
            found = sorted(self.shares().items(), key=lambda item: -item[1])
            parts = ", ".join(f"{name} {share:.1%}" for name, share in found if share >= 0.0005)
            logging.info("where %.2f hours went: %s", hours, parts)


def read(path: str) -> list[Row]:
    """Rows of a file; none if there is none, and without those that were cut off."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.startswith("{") and line.endswith("}\n")]


def shares(rows: Sequence[Row]) -> dict[str, float]:
    """Shares of the time from the first start to the last row; they add up to 1.

    Args:
      rows: of all starts, one start after the other.

    Returns:
      {"steps": those that count, "again": those that a later start computed anew, "stopped":
      between a start's last row and the next start, and CAUSES}.
    """
    starts = [list(group) for _, group in itertools.groupby(rows, lambda row: row["began"])]
    found = dict.fromkeys(("steps", "again", "stopped", *CAUSES), 0.0)
    for number, start in enumerate(starts):
        later = min((other[0]["first"] for other in starts[number + 1 :]), default=float("inf"))
        before: Row = {"time": start[0]["began"], "step": start[0]["first"]}
        for row in start:
            spent = {cause: row[cause] - before.get(cause, 0.0) for cause in CAUSES}
            for cause, seconds in spent.items():
                found[cause] += seconds
            left = max(row["time"] - before["time"] - sum(spent.values()), 0.0)
            steps = row["step"] - before["step"]
            again = max(row["step"] - max(before["step"], later), 0) / steps if steps else 0.0
            found["again"] += left * again
            found["steps"] += left * (1.0 - again)
            before = row
        if number + 1 < len(starts):
            found["stopped"] += max(starts[number + 1][0]["began"] - before["time"], 0.0)
    total = sum(found.values()) or 1.0
    return {name: seconds / total for name, seconds in found.items()}
