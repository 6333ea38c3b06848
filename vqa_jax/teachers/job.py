"""Scores of teachers for many videos: video files in, a score table out, resumable by ranges.

Any number of processes, on one machine or on many that see the same folders, share the work:
process i of n takes every n-th range of videos. A range's scores appear by rename when complete,
and whichever process finds the last of them publishes the table, under a lock, manifest last. A
video's score depends on the video, the teacher and the seed alone, so neither the number of
processes nor an interruption changes a byte.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from absl import logging
from pyarrow import parquet
from tqdm import tqdm

from vqa_jax.benchmarks import score_tables, text_table
from vqa_jax.jobs import contents, csv_cells, ranges
from vqa_jax.jobs.files import (
    CorpusError,
    key_hash,
    printable,
    remove_temporary,
    replacing,
    write_sealed,
    written,
)
from vqa_jax.jobs.published import Publication, changed
from vqa_jax.jobs.ranges import Share
from vqa_jax.media import isolation
from vqa_jax.media.container import MediaError
from vqa_jax.media.find import find_videos
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.settings import DEFAULT_LIMITS, DecodeLimits
from vqa_jax.teachers.cards import Scorer, VideoTeacher
from vqa_jax.teachers.views import View, read_views, video_seed

MANIFEST = "teachers.json"
TABLE_CSV, TABLE_PARQUET = "scores.csv", "scores.parquet"


@dataclasses.dataclass(frozen=True)
class Video:
    """A file to score: where it is, and the name that the score table has for it."""

    path: str
    key: str


@dataclasses.dataclass(frozen=True)
class JobConfig:
    """How videos are scored and the work is cut.

    Attributes:
      seed: of everything that the official programs draw at random.
      draws: a score is the mean over this many draws.
      unit: videos of a range; a restart repeats at most one range a process.
      workers: threads that decode.
      at_once: videos that are scored together; their views are in memory.
      limits: of each file.
    """

    seed: int = 0
    draws: int = 1
    unit: int = 64
    workers: int = 2
    at_once: int = 4
    limits: DecodeLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if min(self.draws, self.unit, self.workers, self.at_once) < 1:
            raise ValueError("draws, unit, workers and at_once start at 1")


@dataclasses.dataclass(frozen=True)
class TeacherOutcome:
    """What a process found when its share was done.

    Attributes:
      scored: videos with scores by all teachers, of all processes so far.
      failed: videos with an error.
      missing: ranges that other processes still have to score; with none, the table is published.
    """

    scored: int
    failed: int
    missing: int


def list_videos(names: Sequence[str]) -> list[Video]:
    """Videos of files, folders, globs and tables (.csv, .jsonl, .parquet) with a column `path`.

    A file below a named folder is called by its path below that folder, as corpora call it;
    anything else as it was written.

    Raises:
      ScoresError: a table that cannot be read.
      CorpusError: no video at all, or two of one name.
    """
    found: dict[str, Video] = {}
    for name in names:
        table = name.lower().endswith(text_table.TABLES)
        for path in score_tables.read_paths(name) if table else find_videos([name], stills=True):
            below = not table and os.path.isdir(name)
            key = os.path.relpath(path, name) if below else path
            if found.setdefault(key, Video(path, key)).path != path:
                raise CorpusError(f"{key} names both {found[key].path} and {path}: list one folder")
    if not found:
        raise CorpusError(f"no video in {', '.join(names)}")
    return [found[key] for key in sorted(found)]


def run(
    videos: Sequence[Video],
    teachers: Sequence[VideoTeacher],
    out: str,
    config: JobConfig = JobConfig(),
    process: int = 0,
    processes: int = 1,
) -> TeacherOutcome:
    """Writes the score table of videos: `scores.csv`, `scores.parquet` and `teachers.json`.

    Columns: video, one a teacher (raw scores, empty where there is none), error (why), notes (what
    there is to know of a file that was scored, such as "102 of 524 frames").

    Args:
      videos: each key once.
      teachers: each name once.
      out: folder to write.
      config: see JobConfig.
      process, processes: number of this process, 0 <= process < processes.

    Raises:
      CorpusError: `out` holds the table of other videos, teachers or settings, or `process` is
        out of range.
    """
    identity = {
        "videos": f"{key_hash(repr([v.key for v in videos])):016x}",
        "contents": f"{key_hash(repr(contents.stamps([v.path for v in videos]))):016x}",
        "seed": config.seed,
        "draws": config.draws,
        "unit": config.unit,
    }
    units = [videos[k : k + config.unit] for k in range(0, len(videos), config.unit)]

    def rows(k: int, bar: tqdm) -> pa.Table:
        keys = [video.key for video in units[k]]
        look = lambda n: _looked_at(units[k][n], teachers, config)  # noqa: E731
        return scored_rows(keys, look, teachers, config.at_once, config.workers, bar)

    sizes = [len(unit) for unit in units]
    return write_ranges(out, identity, sizes, rows, teachers, Share(process, processes))


def write_ranges(
    out: str,
    identity: Mapping[str, Any],
    sizes: Sequence[int],
    rows: Callable[[int, tqdm], pa.Table],
    teachers: Sequence[Scorer],
    share: Share,
) -> TeacherOutcome:
    """Writes a score table from ranges of videos; what is there of this very table is kept.

    Args:
      out: folder to write.
      identity: what the scores follow from, beside the teachers.
      sizes: videos of each range.
      rows: scores of range k, as `scored_rows` makes them; tells the bar of every video.
      teachers: each name once.
      share: of this process.

    Raises:
      CorpusError: `out` holds another table.
    """
    identity = {"teachers": {t.name: t.fingerprint for t in teachers}, **identity}
    work = os.path.join(out, f"work_{key_hash(repr(sorted(identity.items()))):016x}")
    publication = Publication(
        os.path.join(out, MANIFEST),
        work,
        lambda found: _is_same(out, found, identity),
        lock=out,
    )
    if manifest := publication.found():
        return TeacherOutcome(manifest["scored"], manifest["failed"], 0)
    paths = [os.path.join(work, f"range-{k:06d}.parquet") for k in range(len(sizes))]

    def make(k: int, bar: tqdm) -> None:
        with replacing(paths[k]) as temporary:
            parquet.write_table(rows(k, bar), temporary)
        ranges.mark(paths[k])

    marks = [ranges.mark_of(path) for path in paths]
    missing = ranges.compute(
        sizes, marks, make, share, "teachers", lambda k: ranges.is_whole(paths[k])
    )
    manifest = publication.publish(missing, lambda: _publish(out, paths, teachers, identity))
    if manifest is None:
        return TeacherOutcome(*_counts(paths), missing)
    return TeacherOutcome(manifest["scored"], manifest["failed"], 0)


@dataclasses.dataclass(frozen=True)
class Look:
    """What teachers keep of a video.

    Attributes:
      kept: [draws][teachers].
      notes: on its file.
      error: why some of the teachers cannot score it.
    """

    kept: Sequence[Sequence[Any]]
    notes: str = ""
    error: str | None = None


def scored_rows(
    keys: Sequence[str],
    look: Callable[[int], Look | str],
    teachers: Sequence[Scorer],
    at_once: int,
    workers: int,
    bar: tqdm,
) -> pa.Table:
    """Rows of a score table of one range; looking runs one group of videos ahead of scoring.

    Args:
      keys: of the videos.
      look: number of a video -> what is kept of it, or why nothing can be had; called in threads.
      teachers: each name once.
      at_once, workers: see JobConfig.
      bar: told of every video.
    """
    groups = (range(k, min(k + at_once, len(keys))) for k in range(0, len(keys), at_once))
    scores: list[np.ndarray] = []
    errors: list[str | None] = []
    notes: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        ahead: collections.deque[list[concurrent.futures.Future]] = collections.deque()

        def look_ahead() -> None:
            group = next(groups, None)
            if group is not None:
                ahead.append([pool.submit(look, k) for k in group])

        look_ahead()
        while ahead:
            look_ahead()
            looks = [future.result() for future in ahead.popleft()]
            notes += ["" if isinstance(found, str) else found.notes for found in looks]
            for row, error in _scored(looks, teachers):
                scores.append(row)
                errors.append(error)
            bar.update(len(looks))
    columns = zip(teachers, np.stack(scores).T, strict=True)
    return pa.table(
        {
            "video": pa.array([printable(key) for key in keys], pa.string()),
            **{teacher.name: pa.array(column, from_pandas=True) for teacher, column in columns},
            "error": pa.array([e and printable(e) for e in errors], pa.string()),
            "notes": pa.array(notes, pa.string()),
        }
    )


def _looked_at(video: Video, teachers: Sequence[VideoTeacher], config: JobConfig) -> Look | str:
    """What the teachers keep of a video, or why nothing can be had."""
    seeds = [video_seed(config.seed, video.key, draw) for draw in range(config.draws)]

    def plan(info: VideoInfo) -> dict[str, View]:
        return {
            f"{draw}/{j}/{name}": view
            for draw, seed in enumerate(seeds)
            for j, teacher in enumerate(teachers)
            for name, view in teacher.views(info, seed).items()
        }

    try:
        cuts: list[list[dict[str, np.ndarray]]] = [[{} for _ in teachers] for _ in seeds]
        limits = config.limits
        info = isolation.call(limits, video.path, probe, video.path, limits.pixels)
        found, info = read_views(info, plan, limits)
        for key, cut in found.items():
            draw, j, name = key.split("/", 2)
            cuts[int(draw)][int(j)][name] = cut
        kept = [[t.reduce(c) for t, c in zip(teachers, of, strict=True)] for of in cuts]
        return Look(kept, info.notes)
    except MediaError as error:
        return f"{error.reason} [{error.stage}]"
    except (MemoryError, ValueError) as error:  # one odd file must not end the job
        logging.warning("%s: %r", video.path, error)
        return f"{type(error).__name__}: {error}"


def _scored(
    looks: Sequence[Look | str], teachers: Sequence[Scorer]
) -> Iterator[tuple[np.ndarray, str | None]]:
    """Scores [teachers] and error of each video of a group."""
    good = [look for look in looks if not isinstance(look, str)]
    columns = []
    for j, teacher in enumerate(teachers):
        kept = [draw[j] for look in good for draw in look.kept]
        found = np.asarray(teacher.score(kept), np.float64) if kept else np.zeros(0)
        columns.append(found.reshape(len(good), -1).mean(axis=1) if good else found)
    rows = iter(np.stack(columns, 1))
    for look in looks:
        if isinstance(look, str):
            yield np.full(len(teachers), np.nan), look
            continue
        row = next(rows)
        bad = [t.name for t, x in zip(teachers, row, strict=True) if not np.isfinite(x)]
        row = np.where(np.isfinite(row), row, np.nan)
        yield row, look.error or (f"no finite score by {', '.join(bad)}" if bad else None)


def _is_same(out: str, found: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """True: the published table is this one.

    Raises:
      CorpusError: it is another one.
    """
    other = changed(os.path.join(out, MANIFEST), found["identity"], identity)
    if other:
        raise CorpusError(f"{out} holds scores of other {', '.join(other)}: choose another --out")
    return True


def _counts(paths: Sequence[str]) -> tuple[int, int]:
    """Videos with all scores, and with an error, of the ranges that are there."""
    scored = failed = 0
    for path in filter(os.path.exists, paths):
        column = parquet.read_table(path, columns=["error"]).column("error")
        scored += column.null_count
        failed += len(column) - column.null_count
    return scored, failed


def _publish(
    out: str,
    paths: Sequence[str],
    teachers: Sequence[Scorer],
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """One table of all ranges, in the order of the videos; the manifest last."""
    ranges.check(paths)
    remove_temporary(out)
    scored, failed = _counts(paths)
    with (
        replacing(os.path.join(out, TABLE_PARQUET)) as temporary,
        written(os.path.join(out, TABLE_CSV), newline="") as text,
    ):
        rows = csv_cells.Writer(text)
        rows.writerow(["video", *(t.name for t in teachers), "error", "notes"])
        schema = parquet.read_schema(paths[0])
        with parquet.ParquetWriter(temporary, schema) as writer:
            for path in paths:
                table = parquet.read_table(path, schema=schema)
                writer.write_table(table)
                for row in zip(*(c.to_pylist() for c in table.columns), strict=True):
                    rows.writerow("" if cell is None else cell for cell in row)
    manifest = {
        "identity": dict(identity),
        "higher_is_better": {t.name: t.higher_is_better for t in teachers},
        "videos": scored + failed,
        "scored": scored,
        "failed": failed,
    }
    write_sealed(os.path.join(out, MANIFEST), manifest)
    logging.info("%s: %d videos scored, %d failed", out, scored, failed)
    return manifest
