"""Anchors that people bring: a table of videos and their scores (method 8).

`anchors.csv` has a column `path` (relative to the table) and either `mos`, what people gave, or
`score`, anything else: then the scale is arbitrary and every output says so. It is read as any
other table of labels (`benchmarks/labels.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from absl import logging

from vqa_jax.benchmarks.labels import LabelsError, read_labels
from vqa_jax.jobs import csv_cells
from vqa_jax.jobs.files import written
from vqa_jax.media.container import MediaError
from vqa_jax.media.sources import is_remote
from vqa_jax.scoring.anchors import AnchorError, AnchorSet
from vqa_jax.scoring.engine import VideoInput


def read_anchors(path: str | os.PathLike[str], read: Callable[[str], VideoInput]) -> AnchorSet:
    """Reads a table and its videos.

    Args:
      path: the table, see `read_labels`.
      read: decodes one file as the student sees it.

    Raises:
      AnchorError: no such table, a row that cannot be read or contradicts another, fewer than two
        videos with a score, or a video that cannot be read. All unreadable ones are named.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise AnchorError(f"{path} is missing: name a table with the columns path and mos")
    try:
        labels = read_labels(path)
    except LabelsError as error:
        raise AnchorError(str(error)) from error
    found = dict(zip(labels.names, labels.mos.tolist(), strict=True))
    if len(found) < 2:
        raise AnchorError(f"{path} has {len(found)} videos with a score: two are the least")
    folder, inputs, problems = os.path.dirname(path), {}, []
    for name in sorted(found, key=lambda name: (found[name], name)):
        try:
            inputs[name] = read(name if is_remote(name) else os.path.join(folder, name))
        except MediaError as error:
            problems.append(str(error))
    if problems:
        raise AnchorError(f"{path}: anchors that cannot be read: {'; '.join(problems)}")
    return AnchorSet(
        names=tuple(inputs),
        inputs=tuple(inputs.values()),
        scores=tuple(found[name] for name in inputs),
        scale=f"{'mean opinion scores' if labels.human else 'scores'} of {os.path.basename(path)}",
        arbitrary=not labels.human,
    )


def choose_from_pool(scores: np.ndarray, std: np.ndarray, num: int) -> list[int]:
    """Indices of up to `num` videos, worst bin first.

    Of each of `num` equal bins of the scores' range the one with the lowest std is taken; unknown
    ones (NaN) come last, and among equals the nearest to the bin's middle. A bin without a video
    gives none, since one from elsewhere would say nothing new of the scale; the first and the last
    bin have some.

    Args:
      scores: [N] of the pool.
      std: [N] standard deviation of each video's ratings, or NaN.
      num: anchors wanted.

    Raises:
      ValueError: fewer than two anchors wanted, or than two different scores.
    """
    if num < 2:
        raise ValueError(f"{num} anchors: two are the least")
    if not len(scores) or scores.min() == scores.max():
        raise ValueError(f"{len(scores)} videos of one score: give at least two of different ones")
    edges = np.linspace(scores.min(), scores.max(), num + 1)
    bins = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, num - 1)
    spread = np.where(np.isnan(std), np.inf, std)
    chosen = []
    for k in range(num):
        inside = np.flatnonzero(bins == k)
        if not len(inside):
            logging.warning("no video scores between %g and %g", edges[k], edges[k + 1])
            continue
        distance = np.abs(scores[inside] - (edges[k] + edges[k + 1]) / 2)
        chosen.append(int(inside[np.lexsort((distance, spread[inside]))[0]]))
    return chosen


def write_anchors(pool: str, videos: str, out: str, num: int) -> list[tuple[str, float, float]]:
    """Chooses from a table and writes the anchors' table.

    Args:
      pool: names, scores (`mos` or `score`) and, if known, `std`, as `score --csv` writes them.
      videos: folder that the names are relative to.
      out: CSV to write; its paths are relative to its own folder.
      num: anchors wanted; there are fewer where the pool has gaps.

    Returns:
      (path, score, std) of each, worst first; std may be NaN.

    Raises:
      AnchorError: a pool that cannot be read or has fewer than two different scores, or chosen
        files that are missing.
    """
    try:
        labels = read_labels(pool)
        chosen = choose_from_pool(labels.mos, labels.std, num)
    except (LabelsError, ValueError) as error:
        raise AnchorError(f"{pool}: {error}") from error
    folder = os.path.dirname(os.path.abspath(out))
    paths = [os.path.abspath(os.path.join(videos, labels.names[i])) for i in chosen]
    gone = [path for path in paths if not os.path.isfile(path)]
    if gone:
        raise AnchorError(f"missing: {', '.join(gone)}; name the videos' folder")
    os.makedirs(folder, exist_ok=True)
    found = [
        (os.path.relpath(path, folder), float(labels.mos[i]), float(labels.std[i]))
        for path, i in zip(paths, chosen, strict=True)
    ]
    with written(out, newline="") as file:
        table = csv_cells.Writer(file)
        table.writerow(("path", "mos" if labels.human else "score", "std"))
        table.writerows((p, score, "" if np.isnan(std) else std) for p, score, std in found)
    return found
