"""What one run of a row said, content by content: a small file, from which all statistics follow.

A line is (set, part, content, value, of). For the sets of pictures, `folds`, `kind` and the heights
at which they are stored, part is a picture's kind, value its score and of what people said. For the
sets of simulated versions, `order` and `clips`, part is the simulator, value how many pairs are in
order and of how many there are.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable, Iterator

import numpy as np
from pyarrow import parquet

from launch.ablation import pictures
from vqa_jax.benchmarks.score_tables import read_scores
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs import csv_cells, files
from vqa_jax.teachers.light.folds import FoldTable

ORDER, CLIPS = "order", "clips"
_SETS = {pictures.FOLDS: "folds", pictures.KIND: "kind"}
_HEADER = ("set", "part", "content", "value", "of")
Line = tuple[str, str, str, float, float]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A picture that students are asked about: what `folds.csv` tells of it."""

    name: str
    fold: int
    kind: str
    group: str
    mos: float

    def line(self, score: float, name: str = "") -> Line:
        """Of its score, in the set `name` or that of its fold."""
        return name or _SETS[self.fold], self.kind, self.group, score, self.mos


def asked(world: str) -> dict[str, Asked]:
    """Pictures that a world's students do not know, by path."""
    with open(os.path.join(world, "folds.csv"), encoding="utf-8", newline="") as text:
        rows = [*csv.DictReader(text)]
    return {
        row["path"]: Asked(
            row["path"], int(row["fold"]), row["kind"], row["group"], float(row["mos"])
        )
        for row in rows
        if int(row["fold"]) != pictures.KNOWN
    }


def of_run(world: str, corpus: str, evaluation: str, clips: str = "") -> Iterator[Line]:
    """Lines of a run.

    Args:
      world: its folder, see `pictures.write_world`.
      corpus: with the pictures asked held out.
      evaluation: what `evaluate` found there.
      clips: what it found on clips; "" for none.
    """
    known = asked(world)
    groups = FoldTable({name: int(picture.group) for name, picture in known.items()})
    path_of = {row["video_id"]: row["path"] for row in read_video_table(corpus)}
    for row in _table(evaluation, "scores"):
        picture = known.get(path_of[row["video_id"]])  # not of a clip of it
        if picture is not None and row["level"] == 0 and row["error"] is None:
            yield picture.line(row["score"])
    yield from _ordered(
        ORDER, evaluation, lambda source: str(groups.of(path_of[f"{source}-000-source-0"]))
    )
    if clips:
        yield from _ordered(CLIPS, clips, lambda source: source)


def _ordered(name: str, evaluation: str, content_of: Callable[[str], str]) -> Iterator[Line]:
    """Pairs in order by simulator and content."""
    counts: dict[tuple[str, str], list[int]] = {}
    for row in _table(evaluation, "pairs"):
        source = row["first_id"].rsplit("-", 3)[0]
        count = counts.setdefault((row["simulator"], content_of(source)), [0, 0])
        count[0] += row["correct"]
        count[1] += 1
    for (simulator, content), (right, pairs) in sorted(counts.items()):
        yield name, simulator, content, right, pairs


def _table(folder: str, name: str) -> list[dict]:
    return parquet.read_table(os.path.join(folder, f"{name}.parquet")).to_pylist()


def of_scores(world: str, table: str) -> dict[str, list[Line]]:
    """Teacher -> lines of a table of scores of the pictures of asked.csv."""
    found = read_scores([table])
    known = asked(world)
    places = [(k, known["/".join(video.split("/")[-2:])]) for k, video in enumerate(found.videos)]
    return {
        teacher: [picture.line(float(column[k])) for k, picture in places if np.isfinite(column[k])]
        for teacher, column in zip(found.teachers, found.scores.T, strict=True)
    }


def write(path: str, lines: list[Line]) -> None:
    """Writes a row's file."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with files.written(path, newline="") as text:
        table = csv_cells.Writer(text)
        table.writerow(_HEADER)
        for *names, value, of in lines:
            table.writerow([*names, f"{value:.6g}", f"{of:.6g}"])


def read(path: str) -> list[Line]:
    """Reads it."""
    with open(path, encoding="utf-8", newline="") as text:
        rows = [*csv.DictReader(text)]
    return [
        (row["set"], row["part"], row["content"], float(row["value"]), float(row["of"]))
        for row in rows
    ]
