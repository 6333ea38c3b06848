"""Anchors that people bring: a table of videos and their scores (METHOD 8).

`anchors.csv` has a column `path` (relative to the table) and either `mos`, what people gave, or
`score`, anything else: then the scale is arbitrary and every output says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from vqa_jax.anchors import AnchorError, AnchorSet
from vqa_jax.benchmark_labels import LabelsError, read_labels
from vqa_jax.media import MediaError
from vqa_jax.score_tables import ScoresError, read_human_scores
from vqa_jax.scoring import VideoInput


def read_anchors(path: str | os.PathLike[str], read: Callable[[str], VideoInput]) -> AnchorSet:
    """Reads a table and its videos.

    Args:
      path: the table; CSV, Parquet or JSON lines.
      read: decodes one file as the student sees it.

    Raises:
      AnchorError: no such table, fewer than two videos with a score, or a video that cannot be
        read. All unreadable ones are named.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise AnchorError(f"{path} is missing: name a table with the columns path and mos")
    try:
        found = read_human_scores(path)
        human = bool(found)
        if not human:
            labels = read_labels(path)
            found = dict(zip(labels.names, labels.mos.tolist(), strict=True))
    except (LabelsError, ScoresError) as error:
        raise AnchorError(str(error)) from error
    if len(found) < 2:
        raise AnchorError(f"{path} has {len(found)} videos with a score: two are the least")
    folder, inputs, problems = os.path.dirname(os.path.abspath(path)), {}, []
    for name in sorted(found, key=lambda name: (found[name], name)):
        try:
            inputs[name] = read(os.path.join(folder, name))
        except MediaError as error:
            problems.append(str(error))
    if problems:
        raise AnchorError(f"{path}: anchors that cannot be read: {'; '.join(problems)}")
    return AnchorSet(
        names=tuple(inputs),
        inputs=tuple(inputs.values()),
        scores=tuple(found[name] for name in inputs),
        scale=f"{'mean opinion scores' if human else 'scores'} of {os.path.basename(path)}",
        arbitrary=not human,
    )
