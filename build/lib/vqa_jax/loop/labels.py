"""Labels of gMAD pairs: by the student, or by it and the old teachers together (method 3.1, 7)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from vqa_jax.pairs import gmad, levels
from vqa_jax.pairs.gmad import GmadPair
from vqa_jax.pairs.table import STUDENT, Pair
from vqa_jax.teachers.corpus_scores import Votes
from vqa_jax.teachers.scales import unite

ENSEMBLE = "ensemble"


@dataclasses.dataclass(frozen=True)
class Opinions:
    """What student and teachers think of each video of the pool.

    Attributes:
      ids: [N] keys.
      student: float64 [N], its Thurstone score; NaN where the video could not be read.
      student_std: float64 [N], of it.
      teachers: float64 [N, T] on one scale, 0..100, higher is better; NaN where missing.
      everyone: float64 [N, T + 1], the student as the last teacher, on the same scale.
    """

    ids: list[str]
    student: np.ndarray
    student_std: np.ndarray
    teachers: np.ndarray
    everyone: np.ndarray

    @classmethod
    def of(cls, videos: pa.Table, ids: Sequence[str], united: Votes, method: str) -> Opinions:
        """Joins the student's table (`looks.Looks`) and the votes on videos `ids`."""
        row = {key: k for k, key in enumerate(videos.column("video_id").to_pylist())}
        order = [row[key] for key in ids]
        q, std = (
            videos.column(name).to_numpy(zero_copy_only=False).astype(np.float64)[order]
            for name in ("q", "q_std")
        )
        everyone, _ = unite(np.column_stack([united.scores, q]), method)
        return cls(list(ids), q, std, united.scores, everyone)


def by_votes(
    scores: np.ndarray, first: int, second: int, std_floor: float
) -> tuple[str, float, float] | None:
    """(label, D, s_D) by the teachers, columns of `scores`, that scored both videos (method 3.1).

    None where no teacher did.
    """
    both = np.isfinite(scores[first]) & np.isfinite(scores[second])
    if not both.any():
        return None
    margin, std = levels.teacher_margin(scores[first, both], scores[second, both], std_floor)
    return levels.label_from_margin(margin, std), margin, std


def label_gmad(
    found: Sequence[gmad.GmadPair],
    probs: np.ndarray,
    opinions: Opinions,
    labels: str,
    std_floor: float,
) -> list[Pair]:
    """Labels gMAD pairs.

    Args:
      found: pairs of videos that the student has scored.
      probs: `levels.posterior` of each.
      opinions: of student and teachers.
      labels: "student": its posterior is the soft label. "ensemble": the level that the scores of
        all teachers and the student give, without a soft label.
      std_floor: lowest s_D of an ensemble.
    """
    if labels != ENSEMBLE:
        columns = (opinions.ids, opinions.student.tolist(), opinions.student_std.tolist())
        scores = {key: (q, std) for key, q, std in zip(*columns, strict=True)}
        return label_by_student(found, probs, scores)
    row = {key: k for k, key in enumerate(opinions.ids)}
    labelled = []
    for pair in found:
        first, second = row[pair.first_id], row[pair.second_id]
        vote = by_votes(opinions.everyone, first, second, std_floor)
        assert vote is not None  # the student has scored both
        label, margin, std = vote
        one, other = opinions.everyone[first], opinions.everyone[second]
        both = np.isfinite(one) & np.isfinite(other)
        labelled.append(
            Pair(
                pair.first_id,
                pair.second_id,
                label,
                STUDENT,
                margin=margin,
                first_mean=float(one[both].mean()),
                first_std=float(one[both].std()),
                second_mean=float(other[both].mean()),
                second_std=float(other[both].std()),
                normalized_margin=margin / std if std else 0.0,
            )
        )
    return labelled


def label_by_student(
    pairs: Sequence[GmadPair],
    level_probs: np.ndarray,
    scores: Mapping[str, tuple[float, float]],
    soft: bool = True,
) -> list[Pair]:
    """Label gMAD pairs with the promoted student (method 7).

    Args:
      pairs: what `gmad_pairs` found.
      level_probs: [len(pairs), 5] the student's level probabilities of (first, second), best
        averaged over both orders.
      scores: video key -> (student's score, its std).
      soft: keep the probabilities as soft label; else the most probable level alone.
    """
    probs = np.asarray(level_probs, np.float64)
    if probs.shape != (len(pairs), len(levels.LEVELS)):
        raise ValueError(f"level_probs must be [{len(pairs)}, 5], got {probs.shape}")
    labelled = []
    for pair, row in zip(pairs, probs, strict=True):
        first, second = scores[pair.first_id], scores[pair.second_id]
        labelled.append(
            Pair(
                pair.first_id,
                pair.second_id,
                levels.LEVELS[int(row.argmax())],
                STUDENT,
                margin=second[0] - first[0],
                first_mean=first[0],
                first_std=first[1],
                second_mean=second[0],
                second_std=second[1],
                level_probs=tuple(map(float, row)) if soft else None,
            )
        )
    return labelled
