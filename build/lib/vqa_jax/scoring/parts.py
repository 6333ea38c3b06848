"""Scores of very many files as a folder of parts: Parquet or JSON lines, a manifest last.

A part holds the rows of one range of the files, in their order. Finished parts wait in a folder of
the job's own until all are there; then they take the place of whatever such a job wrote before.
No more than one range's rows are ever in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet
from tqdm import tqdm

from vqa_jax.jobs import files, ranges
from vqa_jax.jobs.files import CorpusError
from vqa_jax.jobs.published import Manifest, Publication
from vqa_jax.jobs.replaced import replacing_set
from vqa_jax.scoring import job
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.scoring.results import COLUMNS, Result, row_of
from vqa_jax.settings import ScoreConfig

MANIFEST = "manifest.json"
_WORK = ".parts"
_FACTS = ".json"  # beside a part, written after it: counts and hash
_TOLD = {"rows": int, "failed": int, "sha256": str}
_IDENTITY = re.compile("[0-9a-f]{16}-(parquet|jsonl)")
_TYPES = {"str": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}
# The same in every part, also where a column is empty.
SCHEMA = pa.schema(
    [
        *((f.name, _TYPES[f.type.partition(" ")[0]]) for f in dataclasses.fields(Result)),
        ("direction", pa.string()),
    ]
)


def run(
    student: Predictor,
    paths: Sequence[str],
    config: ScoreConfig,
    out: str,
    form: str,
    share: ranges.Share = ranges.Share(),
) -> Manifest | None:
    """Scores this process's share of the files; publishes all parts if none is missing.

    Args:
      student: with anchors.
      paths: of the files.
      config: how to score.
      out: folder; other files in it stay.
      form: "parquet" or "jsonl".
      share: of this process.

    Returns:
      The manifest: counts (`rows`, `failed`), `scale`, `model`, and of every part its name, rows,
      failures and SHA-256. None while ranges are left to other processes.

    Raises:
      CorpusError: a file that no such job wrote is in the way, or another job is at work there.
    """
    units = job.units_of(student, paths)
    identity = {"work": job.identity_of(student, paths, config), "format": form}
    work = os.path.join(out, _WORK, f"{identity['work']}-{form}")
    path = os.path.join(out, MANIFEST)
    lock = os.path.dirname(work)  # shared with jobs of other settings
    publication = Publication(path, work, lambda m: m.get("identity") == identity, lock)
    if (found := publication.found()) is not None:
        return found
    kept = [os.path.join(work, f"part-{k:06d}.{form}") for k in range(len(units))]

    def make(k: int, bar: tqdm) -> None:
        rows = []
        for result in student.iter_scores(units[k], config):
            rows.append(row_of(result))
            bar.update()
        _write(kept[k], rows)
        failed = sum(row["error"] is not None for row in rows)
        told = {"rows": len(rows), "failed": failed, "sha256": files.file_sha256(kept[k])}
        files.write_sealed(kept[k] + _FACTS, told)

    def publish() -> Manifest:
        facts = {"scale": student.judge.describe(), "model": student.fingerprint}
        return _publish(out, kept, {"identity": identity, "columns": list(COLUMNS), **facts})

    with job.alone(out, work, share):
        missing = ranges.compute(
            [len(unit) for unit in units],
            [part + _FACTS for part in kept],
            make,
            share,
            "score",
            lambda k: _is_whole(kept[k]),
        )
        manifest = publication.publish(missing, publish)
        if manifest is not None:
            for name in filter(_IDENTITY.fullmatch, os.listdir(lock)):  # of other settings
                shutil.rmtree(os.path.join(lock, name), ignore_errors=True)
    if manifest is not None:
        files.remove_own(lock, "")
    return manifest


def _is_whole(part: str) -> bool:
    """Whether a part is there, and as it was written."""
    if not (os.path.exists(part) and os.path.exists(part + _FACTS)):
        return False
    with contextlib.suppress(CorpusError):
        return files.read_json(part + _FACTS, _TOLD)["sha256"] == files.file_sha256(part)
    return False


def _publish(out: str, kept: Sequence[str], facts: Mapping[str, Any]) -> Manifest:
    told = {os.path.basename(part): files.read_json(part + _FACTS, _TOLD) for part in kept}
    totals = {name: sum(part[name] for part in told.values()) for name in ("rows", "failed")}
    with replacing_set(out, MANIFEST, _set_before(out)) as new:
        for part in kept:
            _linked(part, os.path.join(new, os.path.basename(part)))
        files.write_sealed(os.path.join(new, MANIFEST), {**facts, **totals, "parts": told})
    return files.read_json(os.path.join(out, MANIFEST))


def _set_before(out: str) -> dict[str, str | None]:
    """Files of the parts that are in the folder, with their hashes.

    Raises:
      CorpusError: the manifest is another kind of job's.
    """
    path = os.path.join(out, MANIFEST)
    if not os.path.exists(path):
        return {}
    try:
        before = files.read_json(path, {"parts": {str: {"sha256": str}}})["parts"]
    except CorpusError as error:
        raise CorpusError(f"{error}; or name another folder") from error
    return {name: part["sha256"] for name, part in before.items()} | {MANIFEST: None}


def _linked(path: str, target: str) -> None:
    """The same file under another name too: a job that is killed here has lost nothing."""
    try:
        os.link(path, target)
    except OSError:  # a file system without links
        shutil.copyfile(path, target)


def _write(path: str, rows: Iterable[Mapping[str, Any]]) -> None:
    if path.endswith(".jsonl"):
        with files.written(path) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return
    with files.replacing(path) as temporary:
        # Arrow's text is UTF-8; names may hold other bytes, which are shown escaped.
        told = [{name: _text(value) for name, value in row.items()} for row in rows]
        parquet.write_table(pa.Table.from_pylist(told, SCHEMA), temporary)


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode()
