"""Runs idempotent units of work on any Beam runner, with a progress bar.

A unit is a small picklable description (a number, a name) of work that ends with one file: its
target. Whatever a unit reads or writes at length lies in files that all workers see, so that no
pipeline carries more than the units themselves. Every pipeline has one leaf (Dask runs only the
last one), and may run a unit twice (Dask does): the file of the second run replaces an equal one.
Scheduling and retries are the runner's; what a lost run has finished, the next one skips.
"""

# No `from __future__ import annotations`: Beam reads the type hints of DoFns and wants no strings.
import contextlib
import logging as standard_logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import cv2
from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions
from tqdm import tqdm

from vqa_jax.errors import VqaError

DEFAULT_RUNNER = "FnApiRunner"  # in process; DirectRunner would download a binary first
_PROGRESS_SECONDS = 2.0


class UnfinishedWorkError(VqaError):
    """A run ended without a unit's file; the message names it and the remedy."""


class _UnitFn(beam.DoFn):
    """Applies a function to a unit; yields nothing, as the result is a file."""

    def __init__(self, fn: Callable[[Any], None]):
        self._fn = fn

    def setup(self) -> None:
        cv2.setNumThreads(1)  # workers, not threads, share the cores

    def process(self, unit: Any) -> Iterator[bool]:
        self._fn(unit)
        yield True  # Dask wants every element to have an image


def run_units(
    title: str,
    units: Sequence[Any],
    targets: Sequence[str],
    fn: Callable[[Any], None],
    beam_args: Sequence[str],
    *,
    recheck: bool = False,
) -> None:
    """Calls `fn` for every unit whose target is not there yet, on a Beam runner.

    Args:
      title: label of the Beam step and of the progress bar.
      units: picklable and small; what is long belongs into a file that the unit names.
      targets: unit i is done when the file targets[i] exists. `fn` must write it under a temporary
        name and rename it, last of all it does.
      fn: picklable; idempotent, as a runner may call it more than once for a unit, and even at
        the same time. An exception ends the run: bad input belongs into the unit's file, as rows.
      beam_args: Beam options, e.g. ["--direct_running_mode=multi_processing"].
      recheck: also submits units whose target exists, for an `fn` that inspects it itself.

    Raises:
      UnfinishedWorkError: the runner ended, but some target is missing.
    """
    if len(units) != len(targets):
        raise ValueError(f"{title}: {len(units)} units, but {len(targets)} targets")
    done = existing(targets)
    wanted = [u for u, path in zip(units, targets, strict=True) if recheck or path not in done]
    if len(wanted) < len(units):
        logging.info("%s: %d of %d units are done", title, len(units) - len(wanted), len(units))
    if not wanted:
        return
    # Named loggers only: absl's own messages stay.
    standard_logging.getLogger("apache_beam").setLevel(standard_logging.WARNING)
    # A unit's error is raised here too; there it would be told first, with its traceback.
    standard_logging.getLogger("apache_beam.runners.common").setLevel(standard_logging.CRITICAL)
    options = PipelineOptions(_with_defaults(beam_args))
    with _progress(title, targets), beam.Pipeline(options=options) as pipeline:
        # Reshuffle: without it the multi-processing runner keeps all units in one worker.
        _ = pipeline | beam.Create(wanted) | beam.Reshuffle() | title >> beam.ParDo(_UnitFn(fn))
    missing = set(targets) - existing(targets)
    if missing:
        raise UnfinishedWorkError(
            f"{title}: the run ended, but {len(missing)} of {len(targets)} files are missing, first"
            f" {min(missing)}: do all workers see that folder? Run the command again"
        )


def existing(targets: Iterable[str]) -> set[str]:
    """Those of the paths that exist, found by listing their folders once each."""
    folders: dict[str, list[str]] = {}
    for path in targets:
        folders.setdefault(os.path.dirname(path), []).append(path)
    found: set[str] = set()
    for folder, paths in folders.items():
        with contextlib.suppress(FileNotFoundError):
            names = set(os.listdir(folder or "."))
            found.update(path for path in paths if os.path.basename(path) in names)
    return found


def _with_defaults(beam_args: Sequence[str]) -> list[str]:
    defaults = {"runner": DEFAULT_RUNNER, "default_sdk_harness_log_level": "WARNING"}
    given = {a.split("=")[0].lstrip("-") for a in beam_args}
    return [*beam_args, *(f"--{k}={v}" for k, v in defaults.items() if k not in given)]


@contextlib.contextmanager
def _progress(title: str, targets: Sequence[str]) -> Iterator[None]:
    """A progress bar that counts files; so it works with every runner and its remote workers."""
    ended = threading.Event()

    def watch() -> None:
        start = len(existing(targets))  # done before: no guide to the speed of this run
        bar = tqdm(total=len(targets), initial=start, desc=title, mininterval=_PROGRESS_SECONDS)
        with bar:
            last = False
            while not last:
                last = ended.wait(_PROGRESS_SECONDS)
                if new := len(existing(targets)) - bar.n:
                    bar.update(new)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
