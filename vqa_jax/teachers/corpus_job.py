"""Scores of teachers for a prepared corpus, simulated versions included, resumable by shard.

Light teachers look at stored key frames; what the tower of a frozen student made of them already is
taken from its tokens. A version of a picture that a teacher was fitted on is scored by the
regression that did not see the picture; which one, the table `oof.csv` of `teachers fit` tells.
Neural teachers look at the views that the corpus was told to keep (`prep.teacher_views`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from vqa_jax.corpus import shards, store, view_coding
from vqa_jax.jobs.files import CorpusError, file_sha256, key_hash, read_json
from vqa_jax.jobs.ranges import Share
from vqa_jax.teachers import job, looks
from vqa_jax.teachers.cards import VideoTeacher
from vqa_jax.teachers.light import features
from vqa_jax.teachers.light.folds import FoldTable, read_folds
from vqa_jax.teachers.light.teacher import LightTeacher
from vqa_jax.weights import towers

_VIDEOS, _TOKENS = "vqa_videos", "vqa_tokens"
_SHIPPED_LITE = 0
_AT_ONCE, _VIEWS_AT_ONCE = 32, 4  # videos that are scored together, with frames and with views
_SEEN = "out of fold"
_UNKNOWN = "shows none of the pictures of the fit by its name: nobody knows whether one is in it"

Records = Mapping[str, Mapping[str, Any]]  # of one video, by dataset


class _Light:
    """A light teacher of a corpus's frames, or of what its tower made of them."""

    def __init__(self, teacher: LightTeacher, has_tokens: bool, table: FoldTable):
        self.name, self.fingerprint = teacher.name, teacher.fingerprint
        self.higher_is_better = teacher.higher_is_better
        self._teacher, self._table = teacher, table
        by_tokens = has_tokens and features.FAMILIES[teacher.card.family].lite == _SHIPPED_LITE
        self._dataset = _TOKENS if by_tokens else _VIDEOS
        self.datasets = [self._dataset]

    def keep(self, records: Records) -> tuple[np.ndarray, int | None]:
        """Frames or tokens, and the fold."""
        record = records[self._dataset]
        return record["frames"], self._table.of(record["path"])

    def score(self, kept: Sequence[tuple[np.ndarray, int | None]]) -> np.ndarray:
        """Scores float64 [n]; NaN where nobody knows the fold."""
        seen, folds = zip(*kept, strict=True)
        teacher = self._teacher
        score = teacher.score_tokens if self._dataset == _TOKENS else teacher.score
        unknown = [bool(self._table) and fold is None for fold in folds]
        return np.where(unknown, np.nan, score(seen, folds))


class _Neural:
    """A neural teacher of a corpus's views."""

    def __init__(self, teacher: VideoTeacher):
        self.name, self.fingerprint = teacher.name, teacher.fingerprint
        self.higher_is_better = teacher.higher_is_better
        self.score, self._reduce = teacher.score, teacher.reduce
        self._views = {name: looks.dataset(name) for name in looks.LOOKS[teacher.name]}
        self.datasets = [*self._views.values()]

    def keep(self, records: Records) -> Any:
        """As `VideoTeacher.reduce`."""
        return self._reduce({k: view_coding.decode(records[n]) for k, n in self._views.items()})


def run(
    data: str,
    teachers: Sequence[LightTeacher | VideoTeacher],
    out: str,
    folds: str = "",
    process: int = 0,
    processes: int = 1,
    workers: int = 2,
) -> job.TeacherOutcome:
    """Writes the score table of a corpus, as `job.run` does of files; videos by their ids.

    Args:
      data: corpus folder.
      teachers: light ones, with the regressions of their folds if `folds` is given; others are
        those of `looks.LOOKS`.
      out: folder to write.
      folds: `oof.csv` of the fit; "" where the corpus shows none of the pictures of the fit. With
        it, a source that has none of their names gets no score by light teachers.
      process, processes: number of this process, 0 <= process < processes.
      workers: threads that read.

    Raises:
      CorpusError: the corpus is incomplete, of another view, or does not keep what the teachers
        look at, or `out` holds another table.
    """
    names = [teacher.name for teacher in teachers]
    manifest = check(data, names)
    table = read_folds(folds) if folds else FoldTable({})
    tokens = _tokens(data, manifest["video_table_sha256"])
    scorers = [
        _Neural(t) if t.name in looks.LOOKS else _Light(t, tokens is not None, table)
        for t in teachers
    ]
    entries = {**manifest["datasets"], _TOKENS: tokens}
    needed = sorted({name for scorer in scorers for name in scorer.datasets})
    parts = [_shards(data, name, entries[name]) for name in needed]
    identity = {
        "corpus": manifest["video_table_sha256"],
        "folds": file_sha256(folds) if folds else "",
    }
    views = {name: entries[name] for name in needed if name not in (_VIDEOS, _TOKENS)}
    if views:  # which depend on the seed and on decoders, as the table of videos does not
        identity["views"] = f"{key_hash(repr(views)):016x}"
    at_once = _VIEWS_AT_ONCE if views else _AT_ONCE

    def rows(k: int, bar: tqdm) -> pa.Table:
        readers = {
            name: store.ShardReader(of[k][0], entries[name]["kind"])
            for name, of in zip(needed, parts, strict=True)
        }
        keys = read_json(parts[0][k][0] + ".json", {"ids": [str]})["ids"]

        def look(number: int) -> job.Look:
            records = {name: reader[number] for name, reader in readers.items()}
            for name, record in records.items():
                if record["video_id"] != keys[number]:
                    raise CorpusError(f"{data}: records of {name} and {needed[0]} differ in order")
            return _look(records, scorers, table)

        return job.scored_rows(keys, look, scorers, at_once, workers, bar)

    sizes = [count for _, count in parts[0]]
    return job.write_ranges(out, identity, sizes, rows, scorers, Share(process, processes))


def check(data: str, names: Iterable[str]) -> dict[str, Any]:
    """The manifest of a corpus that teachers of these names can score; reads no shard.

    Raises:
      CorpusError: the corpus is incomplete, or is not prepared for them.
    """
    shape = {"datasets": {str: shards.DATASET, _VIDEOS: dict}, "video_table_sha256": str}
    manifest = read_json(os.path.join(data, shards.MANIFEST), shape)
    shards.check_present(data, manifest["datasets"])
    neural = [name for name in names if name in looks.LOOKS]
    for dataset in map(looks.dataset, looks.needed(neural)):
        kept = dataset in manifest["datasets"]
        if not kept or not os.path.isdir(shards.builder_dir(data, dataset)):
            raise CorpusError(
                f"{data} {'no longer holds' if kept else 'does not hold'} {dataset}, which"
                f" {', '.join(neural)} look at: prepare it with prep.teacher_views naming them, or"
                " score the original files with --videos"
            )
    view = shards.read_view(data).view
    if len(neural) < len([*names]) and view != "fit":
        raise CorpusError(
            f'{data} was prepared for the view "{view}", which does not keep pictures as people see'
            ' them: prepare it with view "fit", or score the original files with --videos'
        )
    return manifest


def _shards(data: str, dataset: str, entry: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Paths and sizes of a dataset's shards; those of one corpus hold the same videos, in order."""
    folder = shards.builder_dir(data, dataset)
    return [
        (os.path.join(folder, row["name"]), row["records"])
        for _, rows in sorted(entry["splits"].items())
        for row in rows
    ]


def _tokens(data: str, corpus: str) -> Mapping[str, Any] | None:
    """Manifest entry of what the tower of light teachers made of this build of a corpus; None
    where nobody asked."""
    path = os.path.join(data, store.TOKENS_MANIFEST)
    if not os.path.exists(path):
        return None
    tower = towers.fingerprint(towers.shipped_path(_SHIPPED_LITE))
    found = read_json(path, {"identity": dict, "dataset": shards.DATASET})
    is_ours = found["identity"] == {"tower": tower, "corpus": corpus}
    return found["dataset"] if is_ours else None


def _look(records: Records, scorers: Sequence[_Light | _Neural], table: FoldTable) -> job.Look:
    kept = [[scorer.keep(records) for scorer in scorers]]
    path = next((record["path"] for record in records.values() if "path" in record), None)
    fold = None if path is None else table.of(path)
    if fold is not None:
        return job.Look(kept, f"{_SEEN} {fold}")
    return job.Look(kept, error=_UNKNOWN if table and path is not None else None)
