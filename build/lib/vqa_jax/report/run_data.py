"""Reads what a run has left in its folder, for the report; parts that do not exist stay empty."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from vqa_jax.corpus import store as records
from vqa_jax.jobs import csv_cells, files
from vqa_jax.report.html import number

STRIP_TILES = 4  # pictures in a thumbnail strip
_STRIP_HEIGHT = 96  # pixels at most; stored tiles are smaller and stay as they are
_STRIP_QUALITY = 92  # JPEG, no chroma subsampling: the strip must not hide the distortion

Row = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Iteration:
    """Files of one iteration; None or empty where a step has not run.

    Attributes:
      number: from 1.
      metrics: rows of metrics.jsonl in step order.
      evaluation: evaluation.json.
      pairs: rows of the evaluation's pairs.csv, values as text.
      scores: rows of the evaluation's scores.csv, values as text.
      pair_manifest: manifest of the pairs that the iteration added.
      relabel: facts of the relabelling that made those pairs.
      settings: training settings.
    """

    number: int
    metrics: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    pairs: list[Row]
    scores: list[Row]
    pair_manifest: dict[str, Any] | None
    relabel: dict[str, Any] | None
    settings: dict[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Run:
    """All that the report shows.

    Attributes:
      folder: the run folder.
      manifest: corpus/manifest.json.
      quarantine: rows (path, stage, reason), or None when preparation has not finished.
      iterations: in order.
      user_scores: rows of scores.csv, or None without one.
      ensemble: facts of the teachers, `teachers agree`'s ensemble.json, or None.
      damaged: "file: reason" of files that exist but could not be read.
    """

    folder: str
    manifest: dict[str, Any] | None
    quarantine: list[Row] | None
    iterations: tuple[Iteration, ...]
    user_scores: list[Row] | None
    ensemble: dict[str, Any] | None
    damaged: tuple[str, ...]

    @property
    def evaluated(self) -> tuple[Iteration, ...]:
        """Iterations that have an evaluation."""
        return tuple(i for i in self.iterations if i.evaluation is not None)


@dataclasses.dataclass(frozen=True)
class LoopRow:
    """One row of the loop's table.

    Attributes:
      name: what is measured.
      kind: "accuracy" (share, higher is better), "srcc" (-1 is best) or "contradiction" (share,
        lower is better).
      values: one per iteration, None where unknown.
      simulator: whether the row is of one simulator, not of all.
    """

    name: str
    kind: str
    values: tuple[float | None, ...]
    simulator: bool = False

    @property
    def difference(self) -> float | None:
        """Last value minus first, in units of the values; None with fewer than two."""
        known = [v for v in self.values if v is not None]
        return known[-1] - known[0] if len(known) > 1 else None


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A video's picture strip (JPEG bytes, or None without frames) and its input file."""

    jpeg: bytes | None
    path: str


class _Reader:
    """Reads files below a folder; damage is noted instead of raised."""

    def __init__(self, folder: str):
        self.folder = folder
        self.damaged: list[str] = []

    def _path(self, *parts: str) -> str | None:
        path = os.path.join(self.folder, *parts)
        return path if os.path.isfile(path) else None

    def json(self, *parts: str) -> dict[str, Any] | None:
        path = self._path(*parts)
        if path is None:
            return None
        try:
            value = files.read_json(path)
        except (files.CorpusError, OSError, UnicodeDecodeError) as e:
            self.damaged.append(f"{'/'.join(parts)}: {e}")
            return None
        if not isinstance(value, dict):
            self.damaged.append(f"{'/'.join(parts)}: not a JSON object")
            return None
        return value

    def rows(self, *parts: str) -> list[Row] | None:
        path = self._path(*parts)
        if path is None:
            return None
        try:
            with open(path, newline="", encoding="utf-8", errors="replace") as f:
                return [
                    {k: csv_cells.bare(v or "") for k, v in row.items() if k is not None}
                    for row in csv.DictReader(f)
                ]
        except (csv.Error, OSError) as e:
            self.damaged.append(f"{'/'.join(parts)}: {e}")
            return None

    def json_lines(self, *parts: str) -> list[dict[str, Any]]:
        path = self._path(*parts)
        if path is None:
            return []
        rows, broken = [], 0
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in filter(str.strip, f):
                try:
                    row = json.loads(line)
                    rows.append({**row, "step": int(row["step"])})
                except (ValueError, KeyError, TypeError):
                    broken += 1
        if broken:
            self.damaged.append(f"{'/'.join(parts)}: {broken} unreadable lines left out")
        return sorted(rows, key=lambda r: r["step"])


def _iteration_numbers(run: str) -> list[int]:
    found: set[int] = set()
    corpus = os.path.join(run, "corpus")
    for folder, pattern in (
        (run, r"iteration_(\d+)"),
        (corpus, r"(?:pairs|relabel)_(\d+)\.json"),
    ):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        found.update(int(m[1]) for m in (re.fullmatch(pattern, n) for n in names) if m)
    return sorted(found)


def collect(run: str) -> Run:
    """Reads a run folder.

    Raises:
      FileNotFoundError: there is no such folder; anything missing inside it is not an error.
    """
    if not os.path.isdir(run):
        raise FileNotFoundError(f"{run} is not a folder: give the --out folder of a run")
    reader = _Reader(run)
    iterations = []
    for k in _iteration_numbers(run):
        folder = f"iteration_{k}"
        identity = reader.json(folder, "checkpoints", "identity.json")
        iterations.append(
            Iteration(
                number=k,
                metrics=reader.json_lines(folder, "metrics.jsonl"),
                evaluation=reader.json(folder, "evaluation", "evaluation.json"),
                pairs=reader.rows(folder, "evaluation", "pairs.csv") or [],
                scores=reader.rows(folder, "evaluation", "scores.csv") or [],
                pair_manifest=reader.json("corpus", f"pairs_{k}.json"),
                relabel=reader.json("corpus", f"relabel_{k}.json"),
                settings=(identity or {}).get("settings"),
            )
        )
    return Run(
        folder=run,
        manifest=reader.json("corpus", "manifest.json"),
        quarantine=reader.rows("corpus", "quarantine.csv"),
        iterations=tuple(iterations),
        user_scores=reader.rows("scores.csv"),
        ensemble=reader.json("ensemble.json"),
        damaged=tuple(reader.damaged),
    )


def simulators(iterations: Iterable[Iteration]) -> list[str]:
    """Names of all evaluated simulators."""
    return sorted({s for i in iterations for s in (i.evaluation or {}).get("by_simulator", {})})


def loop_rows(run: Run) -> list[LoopRow]:
    """Rows of the loop's table; one value for every iteration of the run."""
    evaluations = [i.evaluation or {} for i in run.iterations]

    def row(name: str, kind: str, *keys: str) -> LoopRow:
        values = []
        for value in evaluations:
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            values.append(number(value))
        return LoopRow(name, kind, tuple(values), simulator=len(keys) > 1)

    names = simulators(run.iterations)
    rows = [row("all simulators", "accuracy", "accuracy")]
    rows += [row(s, "accuracy", "by_simulator", s, "accuracy") for s in names]
    rows += [row("all simulators", "srcc", "srcc")]
    rows += [row(s, "srcc", "by_simulator", s, "srcc") for s in names]
    rows += [row("pairs answered differently when swapped", "contradiction", "self_contradiction")]
    return [r for r in rows if any(v is not None for v in r.values)]


def severity_curves(rows: Sequence[Row]) -> dict[str, dict[int, np.ndarray]]:
    """Scores by simulator and severity level: {simulator: {level: scores [segments]}}.

    Level 0 is the undistorted segment, taken for the simulators that were applied to it.
    """
    source: dict[tuple[str, str], float] = {}
    cells: dict[str, dict[int, dict[tuple[str, str], float]]] = {}
    for row in rows:
        level, score = number(row.get("level")), number(row.get("score"))
        if level is None or score is None:
            continue
        segment = (row.get("source_id", ""), row.get("segment", ""))
        if level == 0:
            source[segment] = score
        else:
            simulator = cells.setdefault(row.get("simulator", ""), {})
            simulator.setdefault(int(level), {})[segment] = score
    curves = {}
    for simulator, levels in sorted(cells.items()):
        segments = {s for values in levels.values() for s in values}
        pristine = {s: source[s] for s in segments if s in source}
        levels = {**({0: pristine} if pristine else {}), **levels}
        curves[simulator] = {k: np.array(list(levels[k].values())) for k in sorted(levels)}
    return curves


def confidently_wrong(rows: Sequence[Row], count: int, per_simulator: int) -> list[Row]:
    """Wrong pairs, the most confident first.

    Args:
      rows: rows of pairs.csv; `preference` 0 or 1 is most confident, 0.5 least.
      count: pairs at most.
      per_simulator: pairs of one simulator at most. A pair in both orders counts once.
    """
    wrong = [
        r for r in rows if number(r.get("correct")) == 0 and number(r.get("preference")) is not None
    ]
    # The id decides between equals, so that the report does not depend on the rows' order.
    wrong.sort(key=lambda r: (-abs(float(r["preference"]) - 0.5), r.get("pair_id", "")))
    chosen: list[Row] = []
    seen: set[frozenset[str]] = set()
    quota: dict[str, int] = {}
    for row in wrong:
        videos = frozenset((row.get("first_id", ""), row.get("second_id", "")))
        simulator = row.get("simulator", "")
        if videos in seen or quota.get(simulator, 0) >= per_simulator:
            continue
        seen.add(videos)
        quota[simulator] = quota.get(simulator, 0) + 1
        chosen.append(row)
        if len(chosen) == count:
            break
    return chosen


def _strip(frames: np.ndarray) -> bytes:
    picks = np.unique(np.linspace(0, len(frames) - 1, STRIP_TILES).round().astype(int))
    scale = min(1.0, _STRIP_HEIGHT / frames.shape[1])
    size = (max(1, round(frames.shape[2] * scale)), max(1, round(frames.shape[1] * scale)))
    strip = Image.new("RGB", (size[0] * len(picks), size[1]))
    for column, pick in enumerate(picks):
        tile = Image.fromarray(frames[pick]).resize(size, Image.Resampling.LANCZOS)
        strip.paste(tile, (column * size[0], 0))
    out = io.BytesIO()
    strip.save(out, "JPEG", quality=_STRIP_QUALITY, subsampling=0)
    return out.getvalue()


def thumbnails(run: str, video_ids: Iterable[str]) -> dict[str, Thumbnail]:
    """Picture strips of videos of the run's corpus; unknown videos are left out."""
    return corpus_thumbnails(os.path.join(run, "corpus"), video_ids)


def corpus_thumbnails(data: str, video_ids: Iterable[str]) -> dict[str, Thumbnail]:
    """Picture strips of videos of a corpus; unknown videos are left out."""
    try:
        store = records.RecordStore(data, "vqa_videos")
    except files.CorpusError:
        return {}
    found = {}
    for video_id in sorted(set(video_ids)):
        if video_id in store:
            record = store[video_id]
            frames = record["frames"]
            found[video_id] = Thumbnail(_strip(frames) if frames.size else None, record["path"])
    return found
