"""Scores of many files as a job: resumed after any end, shared by processes, published once.

The files are cut into ranges. A range's rows appear by rename when they are complete, in a folder
beside the table that is named by all that the rows follow from: files, contents, student, anchors
and settings. Whichever process finds the last range writes the table. A range is scored by itself,
so neither an interruption nor the number of processes changes a bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence

from absl import logging
from tqdm import tqdm

from vqa_jax.jobs import contents, files, outputs, ranges
from vqa_jax.jobs.files import CorpusError
from vqa_jax.scoring.predictor import BATCH_SIZE, Predictor
from vqa_jax.scoring.results import Result
from vqa_jax.settings import ScoreConfig

UNIT = 128  # files of a range for every BATCH_SIZE groups of a call of the devices
WORK = ".work"  # what is finished lies beside the table, under its name and this
_IDENTITY = re.compile("[0-9a-f]{16}")


def score(
    student: Predictor,
    paths: Sequence[str],
    config: ScoreConfig,
    tell: Callable[[Result], None],
) -> list[Result]:
    """Results of all files in order; nothing is kept on disk.

    Args:
      student: with anchors.
      paths: of the files.
      config: how to score.
      tell: is called with every result as it comes.
    """
    results = []
    with tqdm(total=len(paths), desc="score", unit="video", mininterval=1) as bar:
        for unit in units_of(student, paths):
            for result in student.iter_scores(unit, config):
                tell(result)
                results.append(result)
                bar.update()
    return results


def run(
    student: Predictor,
    paths: Sequence[str],
    config: ScoreConfig,
    table: str,
    publish: Callable[[list[Result]], None],
    share: ranges.Share = ranges.Share(),
) -> bool:
    """Scores this process's share of the files; publishes the results of all if none is missing.

    Args:
      student: with anchors.
      paths: of the files.
      config: how to score.
      table: what will be published; finished ranges are kept in `table`.work until it is.
      publish: writes the results of all files, in order.
      share: of this process.

    Returns:
      Whether the results were published; False while ranges are left to other processes.

    Raises:
      CorpusError: another job is at work on this table.
    """
    units, work = units_of(student, paths), table + WORK
    folder = os.path.join(work, identity_of(student, paths, config))
    kept = [os.path.join(folder, f"range-{k:06d}.json") for k in range(len(units))]
    unsaved: dict[int, list[Result]] = {}

    def make(k: int, bar: tqdm) -> None:
        rows = []
        for result in student.iter_scores(units[k], config):
            rows.append(result)
            bar.update()
        try:
            files.write_sealed(kept[k], {"rows": [dataclasses.asdict(row) for row in rows]})
        except OSError as error:  # a full disk: there may be room when all is done
            logging.warning("%s: the work goes on", outputs.describe(error))
            unsaved[k] = rows

    published = False
    with alone(table, folder, share):
        missing = ranges.compute(
            [len(unit) for unit in units], kept, make, share, "score", lambda k: _is_whole(kept[k])
        )
        if missing > len(unsaved):
            logging.info("%s: %d ranges are left to other processes", table, missing)
            return False
        with ranges.alone_in(work):
            if os.path.isdir(folder):  # else another process has published at this very moment
                parts = (unsaved[k] if k in unsaved else _rows(kept[k]) for k in range(len(units)))
                publish([row for part in parts for row in part])
                published = True
                for name in filter(_IDENTITY.fullmatch, os.listdir(work)):  # of other settings too
                    shutil.rmtree(os.path.join(work, name), ignore_errors=True)
    files.remove_own(work, "")
    return published


def units_of(student: Predictor, paths: Sequence[str]) -> list[Sequence[str]]:
    """The files of each range, which is scored by itself."""
    size = _unit(student)
    return [paths[k : k + size] for k in range(0, len(paths), size)]


def _unit(student: Predictor) -> int:
    """Files of a range: those that fill a call of the devices, at least."""
    return UNIT * math.ceil(student.batch_size / BATCH_SIZE)


def identity_of(student: Predictor, paths: Sequence[str], config: ScoreConfig) -> str:
    """Hash (16 hex digits) of all that the rows follow from."""
    anchors = student.judge.anchors
    digest = hashlib.sha256(repr((anchors.names, anchors.scores, anchors.scale)).encode())
    for video in anchors.inputs:
        digest.update(video.frames.tobytes() + video.motion.tobytes())
    columns = [field.name for field in dataclasses.fields(Result)]
    told = [student.fingerprint, digest.hexdigest(), config, columns]
    told += [list(paths), contents.stamps(paths), _unit(student)]
    return f"{files.key_hash(repr(told)):016x}"


def _rows(path: str) -> list[Result]:
    return [Result(**row) for row in files.read_json(path, {"rows": [dict]})["rows"]]


def _is_whole(path: str) -> bool:
    """Whether a range is there, and as it was written."""
    try:
        return os.path.exists(path) and bool(_rows(path))
    except (CorpusError, TypeError):  # TypeError: rows of other columns
        return False


@contextlib.contextmanager
def alone(output: str, folder: str, share: ranges.Share) -> Iterator[None]:
    """Keeps other jobs away from an output: only processes of one division of one work share it.

    Args:
      output: table or folder, for the message.
      folder: where finished ranges wait, named by what they follow from; beside it are those of
        other work on this output.
      share: of this process.

    Raises:
      CorpusError: another job is at work on it.
    """
    division = os.path.join(folder, f"of-{share.processes}")
    try:
        with files.exclusive(os.path.join(division, str(share.process))):
            for at, _, names in os.walk(os.path.dirname(folder)):
                other = at != os.path.dirname(folder) and os.path.dirname(at) != division
                if other and ".lock" in names:
                    with files.exclusive(at):
                        pass
            yield
    except files.InUseError as error:
        raise CorpusError(
            f"{output} is being written by another job: wait for it to end, or name another place"
        ) from error
