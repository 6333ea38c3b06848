"""Scores of light teachers for a prepared corpus, simulated versions included, resumable by shard.

Teachers look at stored key frames; what the tower of a frozen student made of them already is taken
from its tokens. A version of a picture that a teacher was fitted on is scored by the regression
that did not see the picture; which one, the table `oof.csv` of `teachers fit` tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from vqa_jax.corpus import shards, store
from vqa_jax.jobs.files import CorpusError, file_sha256, read_json
from vqa_jax.jobs.ranges import Share
from vqa_jax.teachers import job
from vqa_jax.teachers.light import features
from vqa_jax.teachers.light.folds import FoldTable, read_folds
from vqa_jax.teachers.light.teacher import LightTeacher
from vqa_jax.weights import towers

_VIDEOS, _TOKENS = "vqa_videos", "vqa_tokens"
_SHIPPED_LITE = 0
_AT_ONCE = 32  # videos whose frames are in memory
_SEEN = "out of fold"
_UNKNOWN = "shows none of the pictures of the fit by its name: nobody knows whether one is in it"


def run(
    data: str,
    teachers: Sequence[LightTeacher],
    out: str,
    folds: str = "",
    process: int = 0,
    processes: int = 1,
) -> job.TeacherOutcome:
    """Writes the score table of a corpus, as `job.run` does of files; videos by their ids.

    Args:
      data: corpus folder.
      teachers: with the regressions of their folds, if `folds` is given.
      out: folder to write.
      folds: `oof.csv` of the fit; "" where the corpus shows none of the pictures of the fit. With
        it, a source that has none of their names gets no score.
      process, processes: number of this process, 0 <= process < processes.

    Raises:
      CorpusError: the corpus is incomplete or of another view, or `out` holds another table.
    """
    shape = {"datasets": {str: shards.DATASET, _VIDEOS: dict}, "video_table_sha256": str}
    manifest = read_json(os.path.join(data, shards.MANIFEST), shape)
    shards.check_present(data, manifest["datasets"])
    view = shards.read_view(data).view
    if view != "fit":
        raise CorpusError(
            f'{data} was prepared for the view "{view}", which does not keep pictures as people see'
            ' them: prepare it with view "fit", or score the original files with --videos'
        )
    table = read_folds(folds) if folds else FoldTable({})
    tokens = _tokens(data, manifest["video_table_sha256"])
    by_tokens = [
        tokens is not None and features.FAMILIES[teacher.card.family].lite == _SHIPPED_LITE
        for teacher in teachers
    ]
    kind, dataset = _VIDEOS, manifest["datasets"][_VIDEOS]
    if all(by_tokens):  # then nobody looks at frames, which take longer to read than to judge
        tokens_path = os.path.join(data, store.TOKENS_MANIFEST)
        kind, dataset = _TOKENS, read_json(tokens_path, {"dataset": shards.DATASET})["dataset"]
    folder = shards.builder_dir(data, kind)
    parts = [
        (os.path.join(folder, row["name"]), row["records"])
        for _, rows in sorted(dataset["splits"].items())
        for row in rows
    ]
    identity = {
        "corpus": manifest["video_table_sha256"],
        "folds": file_sha256(folds) if folds else "",
    }

    def rows(k: int, bar: tqdm) -> pa.Table:
        found = store.shard_records(parts[k][0], kind)
        return _rows(found, teachers, by_tokens, table, tokens, bar)

    share = Share(process, processes)
    return job.write_ranges(out, identity, [n for _, n in parts], rows, teachers, share)


def _tokens(data: str, corpus: str) -> store.RecordStore | None:
    """What the tower of light teachers made of this build of a corpus; None where nobody asked."""
    if not os.path.exists(os.path.join(data, store.TOKENS_MANIFEST)):
        return None
    tower = towers.fingerprint(towers.shipped_path(_SHIPPED_LITE))
    found = read_json(os.path.join(data, store.TOKENS_MANIFEST), {"identity": dict})["identity"]
    is_ours = found == {"tower": tower, "corpus": corpus}
    return store.RecordStore(data, _TOKENS) if is_ours else None


def _rows(
    records: Iterable[dict[str, Any]],
    teachers: Sequence[LightTeacher],
    by_tokens: Sequence[bool],
    table: FoldTable,
    tokens: store.RecordStore | None,
    bar: tqdm,
) -> pa.Table:
    """Scores of the records of one shard, of tokens where all teachers take them."""
    keys: list[str] = []
    notes: list[str] = []
    reasons: list[str | None] = []
    scores: list[np.ndarray] = []
    group: list[dict[str, Any]] = []

    def score() -> None:
        folds = [table.of(record["path"]) for record in group]
        kept = [record["frames"] for record in group]
        keys.extend(record["video_id"] for record in group)
        notes.extend("" if fold is None else f"{_SEEN} {fold}" for fold in folds)
        unknown = [bool(table) and fold is None for fold in folds]
        reasons.extend(_UNKNOWN if row else None for row in unknown)
        seen = kept
        if tokens is not None and any(by_tokens) and not all(by_tokens):
            seen = [tokens[record["video_id"]]["frames"] for record in group]
        found = np.stack(
            [
                t.score_tokens(seen, folds) if told else t.score(kept, folds)
                for t, told in zip(teachers, by_tokens, strict=True)
            ],
            1,
        )
        found[unknown] = np.nan
        scores.append(found)
        bar.update(len(group))
        group.clear()

    for record in records:
        group.append(record)
        if len(group) == _AT_ONCE:
            score()
    if group:
        score()
    return job.table_of(keys, teachers, np.concatenate(scores), reasons, notes)
