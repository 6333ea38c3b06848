"""Chooses anchors from a pool of scored videos: spread over the range, each of low variance.

As Compare2Score does: the range of scores is cut into as many equal bins as anchors are wanted, and
of each bin the video is taken about which the ratings agree most. The table that is written is what
`score --anchors` reads.
"""

from __future__ import annotations

import csv
import os

import numpy as np

from vqa_jax.anchors import AnchorError
from vqa_jax.benchmark_labels import LabelsError, read_labels
from vqa_jax.files import written
from vqa_jax.score_tables import ScoresError, read_human_scores


def choose(scores: np.ndarray, std: np.ndarray, num: int) -> list[int]:
    """Indices of `num` videos, worst bin first.

    Of each of `num` equal bins of the scores' range the one with the lowest std is taken; unknown
    ones (NaN) come last, and among equals the nearest to the bin's middle.

    Args:
      scores: [N] of the pool.
      std: [N] standard deviation of each video's ratings, or NaN.
      num: anchors wanted.

    Raises:
      ValueError: fewer than two anchors wanted, or a bin without a video.
    """
    if num < 2 or len(scores) < num:
        raise ValueError(f"{num} anchors of {len(scores)} scored videos: at least two of as many")
    edges = np.linspace(scores.min(), scores.max(), num + 1)
    bins = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, num - 1)
    spread = np.where(np.isnan(std), np.inf, std)
    chosen = []
    for k in range(num):
        inside = np.flatnonzero(bins == k)
        if not len(inside):
            raise ValueError(
                f"no video scores between {edges[k]:g} and {edges[k + 1]:g}: "
                "a larger pool or fewer anchors"
            )
        distance = np.abs(scores[inside] - (edges[k] + edges[k + 1]) / 2)
        chosen.append(int(inside[np.lexsort((distance, spread[inside]))[0]]))
    return chosen


def write_anchors(pool: str, videos: str, out: str, num: int) -> list[tuple[str, float, float]]:
    """Chooses from a table and writes the anchors' table.

    Args:
      pool: names, scores (`mos` or `score`) and, if known, `std`, as `score --csv` writes them.
      videos: folder that the names are relative to.
      out: CSV to write; its paths are relative to its own folder.
      num: anchors wanted.

    Returns:
      (path, score, std) of each, worst first; std may be NaN.

    Raises:
      AnchorError: a pool that cannot be read or is too small, or chosen files that are missing.
    """
    try:
        labels = read_labels(pool)
        human = bool(read_human_scores(pool))
        chosen = choose(labels.mos, labels.std, num)
    except (LabelsError, ScoresError, ValueError) as error:
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
        table = csv.writer(file)
        table.writerow(("path", "mos" if human else "score", "std"))
        table.writerows((p, score, "" if np.isnan(std) else std) for p, score, std in found)
    return found
