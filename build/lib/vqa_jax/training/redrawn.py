"""Steps whose batch is another one, since the first gave a loss or gradient that was not finite.

A batch follows from its step's number, so a run that was started again would meet it again. The
work folder keeps the list of such steps; each takes a batch from beyond the end of the run.
"""

from __future__ import annotations

import os

from vqa_jax.jobs.files import read_json, write_sealed

_FILE = "redrawn_steps.json"


def add(workdir: str, step: int) -> None:
    """Gives a step another batch from the next start on; one that had another gets a third."""
    write_sealed(_path(workdir), {"steps": [*_steps(workdir), step]})


def instead(workdir: str, total_steps: int) -> list[tuple[int, int]]:
    """(number of a batch, number of the one in its place), from 0; the last one of a batch counts.

    Args:
      workdir: of the run.
      total_steps: of the run, whose own batches are those before.
    """
    return [(step - 1, total_steps + k) for k, step in enumerate(_steps(workdir))]


def _path(workdir: str) -> str:
    return os.path.join(workdir, _FILE)


def _steps(workdir: str) -> list[int]:
    path = _path(workdir)
    return read_json(path, {"steps": [int]})["steps"] if os.path.exists(path) else []
