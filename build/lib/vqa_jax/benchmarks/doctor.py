"""Whether a benchmark can be run at all: labels, files, and what is wrong, before hours of work.

    python -m vqa_jax doctor --benchmark NAME --videos DIR --labels FILE

Every labelled video becomes one row: ok, missing, ambiguous (several files could be it), cut off
(scored as far as it decodes), or unreadable with the reason. A file is opened, counted and its
first frames decoded, not all of it unless there is cause.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from vqa_jax import terminal
from vqa_jax.benchmarks import sets
from vqa_jax.benchmarks.labels import Labels, read_labels
from vqa_jax.benchmarks.sets import Benchmark, BenchmarkError
from vqa_jax.jobs import csv_cells
from vqa_jax.jobs.files import written
from vqa_jax.media import isolation
from vqa_jax.media.container import VIDEO_EXTENSIONS, MediaError
from vqa_jax.media.find import find_videos
from vqa_jax.media.probe import probe
from vqa_jax.settings import DEFAULT_LIMITS

_FACTS = ("width", "height", "fps", "num_frames", "duration", "codec", "notes")
_SHOWN = 10  # problems of one kind printed; all are in the CSV


@dataclasses.dataclass(frozen=True)
class Row:
    """One labelled video.

    Attributes:
      video: name as labelled.
      mos: its score.
      status: "ok", "missing", "ambiguous", "cut off" or "unreadable".
      file: path, "" if there is none.
      reason: why not ok.
      width, height, fps, num_frames, duration, codec: of the file, None if it cannot be read.
      notes: what there is to know of the file.
    """

    video: str
    mos: float
    status: str
    file: str = ""
    reason: str = ""
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    num_frames: int | None = None
    duration: float | None = None
    codec: str | None = None
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Outcome of `examine`: rows in the labels' order, and remarks that concern the set."""

    benchmark: Benchmark
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether every labelled video can be scored as a whole."""
        return all(row.status == "ok" for row in self.rows)


def video_files(folder: str) -> list[str]:
    """Files below a folder that are videos by name, sorted; symbolic links are followed.

    Raises:
      BenchmarkError: it is no folder, or one below it cannot be listed.
    """
    if not os.path.isdir(folder):
        raise BenchmarkError(f"{folder} is not a folder: --videos names the one with the videos")
    found = find_videos([folder], by_content=False)
    if closed := [path for path in found if os.path.isdir(path)]:
        raise BenchmarkError(f"{closed[0]} cannot be listed: check its permissions")
    return found


def examine(benchmark: Benchmark, folder: str, labels_path: str, workers: int = 0) -> Diagnosis:
    """Looks for every labelled video and opens it.

    Args:
      benchmark: the set.
      folder: where its videos are, in any folders below.
      labels_path: its label file.
      workers: processes that open files; 0 for one a core.

    Raises:
      LabelsError: the labels cannot be read.
      BenchmarkError: `folder` is not one.
    """
    labels = read_labels(labels_path)
    files = video_files(folder)
    below = [os.path.relpath(path, folder) for path in files]
    matches = sets.match(benchmark, labels.names, below)
    found = {k: files[j] for k, j in enumerate(matches.found) if j is not None}
    facts = dict(zip(found, _probe_all(list(found.values()), workers), strict=True))
    several = set(matches.ambiguous)
    rows = []
    for k, (video, mos) in enumerate(zip(labels.names, map(float, labels.mos), strict=True)):
        if k not in found:
            reason = "several files could be it" if k in several else "no such file"
            rows.append(Row(video, mos, "ambiguous" if k in several else "missing", "", reason))
        elif "reason" in facts[k]:
            rows.append(Row(video, mos, "unreadable", found[k], facts[k]["reason"]))
        else:
            missing = facts[k].pop("missing")
            rows.append(
                Row(video, mos, "cut off" if missing else "ok", found[k], missing, **facts[k])
            )
    return Diagnosis(benchmark, tuple(rows), tuple(_remarks(benchmark, labels, below, matches)))


def open_file(path: str) -> dict[str, Any]:
    """A file's size, rate and length, or dict(reason=...); called in a child process."""
    try:
        info = probe(path, DEFAULT_LIMITS.pixels)
    except MediaError as error:
        return {"reason": error.reason}
    return {name: getattr(info, name) for name in (*_FACTS, "missing")}


def _probe_all(paths: Sequence[str], workers: int) -> list[dict[str, Any]]:
    def facts(path: str) -> dict[str, Any]:
        try:
            return isolation.call(DEFAULT_LIMITS, path, open_file, path)
        except MediaError as error:
            return {"reason": error.reason}

    pool = concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        return list(tqdm(pool.map(facts, paths), total=len(paths), desc="open", unit="file"))
    finally:
        pool.shutdown(cancel_futures=True)


def _remarks(
    benchmark: Benchmark, labels: Labels, below: Sequence[str], matches: sets.Matches
) -> list[str]:
    remarks = [f"{len(labels.names)} labels, MOS {labels.mos.min():g} to {labels.mos.max():g}"]
    if benchmark.sizes and len(labels.names) not in benchmark.sizes:
        usual = " or ".join(map(str, benchmark.sizes))
        remarks.append(
            f"the usual list of {benchmark.name} has {usual} videos: results on this one are not "
            "comparable with published ones"
        )
    elif benchmark.sizes and len(labels.names) != benchmark.sizes[0]:
        remarks.append(f"published results are on a list of {benchmark.sizes[0]} videos")
    if labels.unscored:
        remarks.append(f"{len(labels.unscored)} rows have no score and are left out")
    if labels.repeated:
        remarks.append(f"{labels.repeated} rows repeat an earlier one")
    if matches.unused:
        remarks.append(f"{len(matches.unused)} of {len(below)} files are not labelled")
    if not below:
        remarks.append(f"no videos in the folder; known endings: {' '.join(VIDEO_EXTENSIONS)}")
    elif all(k is None for k in matches.found):
        remarks.append(
            f"no label fits any file: a label reads {labels.names[0]!r}, a file {below[0]!r}; is "
            "this the folder, and the list, of the set?"
        )
    return remarks


def render(diagnosis: Diagnosis) -> str:
    """The outcome for the terminal: counts, remarks, the first problems of each kind."""
    counts = collections.Counter(row.status for row in diagnosis.rows)
    order = ("ok", "missing", "ambiguous", "cut off", "unreadable")
    lines = [
        f"{diagnosis.benchmark.name}: "
        + ", ".join(f"{counts[status]} {status}" for status in order)
    ]
    lines += [f"  {remark}" for remark in diagnosis.remarks]
    for status in order[1:]:
        rows = [row for row in diagnosis.rows if row.status == status]
        lines += [
            f"  {status}: {terminal.name(row.file or row.video)}: {terminal.name(row.reason)}"
            for row in rows[:_SHOWN]
        ]
        if len(rows) > _SHOWN:
            lines.append(f"  ... and {len(rows) - _SHOWN} more {status}")
    return "\n".join(lines)


def write_csv(diagnosis: Diagnosis, path: str) -> None:
    """Writes one row a labelled video."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with written(path, newline="") as file:
        writer = csv_cells.dict_writer(file, [field.name for field in dataclasses.fields(Row)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, diagnosis.rows))
