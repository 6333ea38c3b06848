"""Chooses anchors of simulated quality from a corpus, for students without human-scored ones."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vqa_jax.benchmarks.labels import LabelsError, read_labels
from vqa_jax.corpus.store import VideoStore
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs import files
from vqa_jax.pairs.levels import preference
from vqa_jax.scoring import calibration, thurstone
from vqa_jax.scoring.anchors import ANCHOR_FILE, AnchorError, AnchorSet
from vqa_jax.scoring.engine import EncodedVideo, Engine, VideoInput
from vqa_jax.scoring.judge import Judge
from vqa_jax.scoring.predictor import Predictor

STEPS = (1.0, 0.75, 0.5, 0.25, 0.0)  # share of a simulator's severity, worst first
CANDIDATES_PER_STEP = 6
SCALE = "simulated severity (100 = undistorted, 0 = a simulator's worst level)"


def _candidates(table: Sequence[dict[str, Any]], simulators: Sequence[str]) -> list[list[str]]:
    """Ids of training videos of every severity step, from different sources by key hash."""
    worst: dict[str, int] = {}
    for row in table:
        worst[row["simulator"]] = max(worst.get(row["simulator"], 0), row["level"])
    steps: list[list[str]] = []
    for share in STEPS:
        rows = [
            r
            for r in table
            if r["split"] == "train"
            and r["effective"]
            and (
                r["level"] == 0
                if share == 0
                else r["simulator"] in simulators
                and r["level"] == round(share * worst[r["simulator"]])
            )
        ]
        rows.sort(key=lambda r: files.key_hash("anchor:" + r["video_id"]))
        steps.append([r["video_id"] for r in rows[:CANDIDATES_PER_STEP]])
    return steps


def make_anchors(student: Predictor, folder: str, data: str) -> str:
    """Chooses five anchors of a corpus's training split and saves them into the student's folder.

    Their scores are nominal (100, 75, ... by severity), so the scale is arbitrary.

    Returns:
      Path of the anchors' file; existing anchors are kept.

    Raises:
      AnchorError: the corpus lacks a severity, or the student does not tell the anchors apart.
    """
    target = os.path.join(folder, ANCHOR_FILE)
    if os.path.exists(target):
        return target
    table = read_video_table(data)
    spec = student.engine.spec
    named = spec.severity_simulators or sorted({r["simulator"] for r in table} - {"source"})
    steps = _candidates(table, named)
    if any(not s for s in steps):
        raise AnchorError(
            f"{data} has no training video of some severity: prepare more simulators, name another"
            " prepared corpus, or score with --anchors TABLE"
        )
    videos = VideoStore(data, spec.extractor, spec.tower)

    def read(key: str) -> VideoInput:
        record, features = videos[key]
        return VideoInput.of_view(record["frames"], features, spec)

    inputs = [[read(key) for key in step] for step in steps]
    encoded = [list(student.engine.encode(step)) for step in inputs]
    chosen = choose_evenly(student.engine, encoded)
    found = AnchorSet(
        names=tuple(step[i] for step, i in zip(steps, chosen, strict=True)),
        inputs=tuple(step[i] for step, i in zip(inputs, chosen, strict=True)),
        scores=tuple(100.0 * (1.0 - share) for share in STEPS),
        scale=SCALE,
        arbitrary=True,
    )
    Judge(student.engine, found, student.fingerprint)  # a student that cannot judge gets none
    found.save(folder)
    return target


def adopt_anchors(student: Predictor, folder: str, table: str) -> str:
    """Takes the videos of a table (`anchor_sources`) as anchors into the student's folder.

    Behind a frozen tower its tokens are kept instead of pictures, which nobody can get back. The
    anchors are called by their paths below the folder that holds them all.

    Returns:
      Path of the anchors' file; existing anchors are replaced.

    Raises:
      AnchorError: the table or its videos cannot be used, or the student does not tell them apart.
    """
    student.use_anchors(table)
    given = student.judge.anchors  # a student that cannot judge gets none
    inputs = tuple(student.engine.tower_tokens(given.inputs))
    # Students travel: where the pictures lay is nobody's business.
    paths = list(map(os.path.abspath, given.names))
    top = os.path.commonpath(list(map(os.path.dirname, paths)))
    names = tuple(os.path.relpath(path, top) for path in paths)
    dataclasses.replace(given, inputs=inputs, names=names).save(folder)
    return os.path.join(folder, ANCHOR_FILE)


def calibrate(folder: str, scores: str, labels: str) -> int:
    """Measures how far people are from a student's scores, and tells it to its anchors.

    Args:
      folder: the student's, with its anchors.
      scores: table with path and score, as `score --csv` writes it, of that student, or better of
        one made alike that never met these files.
      labels: table of human scores of the same files, on the anchors' scale.

    Returns:
      How many files both tables know.

    Raises:
      AnchorError: no anchors, or tables that do not fit.
    """
    anchors = AnchorSet.load(folder)
    try:
        found, people = (
            dict(zip(map(os.path.basename, table.names), table.mos.tolist(), strict=True))
            for table in map(read_labels, (scores, labels))
        )
        known = sorted(found.keys() & people.keys())
        knots = calibration.fit([found[n] for n in known], [people[n] for n in known])
    except (LabelsError, ValueError) as error:
        raise AnchorError(f"{scores} and {labels}: {error}") from error
    told = f"{len(known):,} files of {os.path.basename(labels)}"
    dataclasses.replace(anchors, calibration=knots, calibrated_on=told).save(folder)
    return len(known)


def choose_evenly(
    engine: Engine, candidates: Sequence[Sequence[EncodedVideo]], tau: float = 1.0
) -> list[int]:
    """Picks one candidate of each quality step, so that the student sees them evenly spread.

    All candidates are compared with each other and solved together; of step k the one is taken
    whose q is nearest to the k-th of evenly spaced targets between the 10th and 90th percentile.

    Args:
      engine: the student.
      candidates: per quality step, worst first, the videos of that step.
      tau: temperature of the level softmax.

    Returns:
      Index of the chosen candidate within each step.
    """
    videos = [v for step in candidates for v in step]
    count = len(videos)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    logits = engine.compare([(videos[i], videos[j]) for i, j in pairs])
    matrix = np.full((count, count), 0.5)
    for (i, j), p in zip(pairs, preference(logits, tau), strict=True):
        matrix[j, i], matrix[i, j] = p, 1 - p
    q, _ = thurstone.map_scores(matrix)
    targets = np.linspace(*np.percentile(q, [10, 90]), len(candidates))
    chosen, start = [], 0
    for step, target in zip(candidates, targets, strict=True):
        chosen.append(int(np.argmin(np.abs(q[start : start + len(step)] - target))))
        start += len(step)
    return chosen
