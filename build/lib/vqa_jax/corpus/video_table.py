"""The table of a corpus's videos: one row a video, in Parquet, for millions of rows.

`videos.parquet` says of every video where it comes from, what was done to it, its split and the
built-in teachers' scores, so that pairs are drawn and labelled without reading a frame. Columns are
those of FIELDS and one `score:NAME` a teacher; any Parquet reader can use them. Equal rows give
equal bytes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqa_jax.corpus.shards import MANIFEST
from vqa_jax.jobs import files
from vqa_jax.jobs.contents import checked_sha256
from vqa_jax.jobs.files import CorpusError, file_sha256, read_json, replacing
from vqa_jax.pairs.simulators import SimulatedSets

VIDEO_TABLE = "videos.parquet"
FIELDS = pa.schema(
    [
        ("video_id", pa.string()),
        ("source_id", pa.string()),
        ("path", pa.string()),
        ("segment", pa.int32()),
        ("simulator", pa.string()),  # "source" for the undistorted segment
        ("level", pa.int32()),  # 0 is the source, higher is worse
        ("effective", pa.bool_()),  # differs, as the student sees it, from the level before
        ("parameter", pa.string()),  # JSON of the simulator's parameters
        ("split", pa.string()),
        ("num_frames", pa.int64()),
        ("fps", pa.float64()),
        ("notes", pa.string()),  # of the source's file, as "102 of 524 frames"
        ("vmaf", pa.float64()),  # of a version against its source, 0..100; null where not measured
    ]
)
_LATER = {"num_frames", "fps", "notes", "vmaf"}  # tables of earlier versions lack them
_SCORE = "score:"
_REPEATED = ["source_id", "path", "simulator", "parameter", "split", "notes"]  # stored once a value
_GROUP_ROWS = 16384  # rows of a row group: what writing holds in memory
_BATCH_ROWS = 4096  # rows that become dicts at a time


class VideoTable(Sequence[dict[str, Any]]):
    """Rows of the video table: a sequence of dicts made on demand over compact columns.

    A row is {"video_id", ..., "split", "scores": {teacher: score}} with the fields that were read;
    a score that is missing has no entry. `column` and `scores` give whole columns without rows.
    """

    def __init__(self, table: pa.Table):
        """Takes a table of columns as `read_video_table` reads them."""
        self._table = table

    @classmethod
    def empty(cls) -> VideoTable:
        """A table without rows."""
        return cls(FIELDS.empty_table())

    def __len__(self) -> int:
        return self._table.num_rows

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> VideoTable: ...

    def __getitem__(self, index):
        """A row, or a table of the rows of a slice."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return _rows(self._table.slice(index % len(self), 1))[0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _BATCH_ROWS):
            yield from _rows(self._table.slice(start, _BATCH_ROWS))

    def column(self, name: str) -> np.ndarray:
        """One of FIELDS [rows]: numbers (NaN where one is missing), bools, or str objects."""
        values = self._table.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.cast(pa.string())
        return values.to_numpy()

    def scores(self) -> dict[str, np.ndarray]:
        """Teacher -> float64 scores [rows] as written, NaN where missing."""
        names = [name for name in self._table.column_names if name.startswith(_SCORE)]
        return {name.removeprefix(_SCORE): self._table.column(name).to_numpy() for name in names}

    def take(self, rows: Sequence[int] | np.ndarray) -> VideoTable:
        """The rows of these numbers, in this order."""
        return VideoTable(self._table.take(pa.array(rows, pa.int64())))

    def where(self, **wanted: str | int | bool) -> VideoTable:
        """The rows whose fields equal the values given, e.g. where(split="train", level=0)."""
        table = self._table
        for name, value in wanted.items():
            table = table.filter(pc.equal(table.column(name), value))
        return VideoTable(table)


def column_of(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """One field of rows of the video table [rows], as `VideoTable.column`, whatever holds them."""
    if isinstance(rows, VideoTable):
        return rows.column(name)
    kind = {pa.string(): object, pa.int32(): np.int32, pa.bool_(): bool}[FIELDS.field(name).type]
    return np.array([row[name] for row in rows], kind)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows = table.to_pylist()
    names = [name for name in table.column_names if name.startswith(_SCORE)]
    for row in rows:
        scores = {name.removeprefix(_SCORE): row.pop(name) for name in names}
        row["scores"] = {name: score for name, score in scores.items() if score is not None}
    return rows


def table_path(data: str) -> str:
    """Path of a corpus's video table."""
    return os.path.join(data, VIDEO_TABLE)


def table_sha256(data: str) -> str:
    """SHA-256 of a corpus's video table: what pairs and evaluations say they follow from.

    Raises:
      CorpusError: there is none.
    """
    try:
        return file_sha256(table_path(data))
    except FileNotFoundError as e:
        raise _missing(data) from e


def write_video_table(data: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Writes the video table of a corpus, a row group in memory at a time.

    Args:
      data: corpus folder.
      rows: every field of FIELDS (`notes` and `vmaf` may be left out) and "scores": teacher ->
        score. The first row's teachers are the columns; others' may be missing there.

    Returns:
      SHA-256 of the file.

    Raises:
      ValueError: a row has other fields, or a teacher that the first row has not.
    """
    rows = iter(rows)
    first = next(rows, None)
    teachers = sorted(first["scores"]) if first else []
    schema = pa.schema([*FIELDS, *(pa.field(_SCORE + name, pa.float64()) for name in teachers)])
    everything = itertools.chain([first] if first else [], rows)
    with (
        replacing(table_path(data)) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        while group := list(itertools.islice(everything, _GROUP_ROWS)):
            flat = [_flat(row, teachers) for row in group]
            writer.write_table(pa.Table.from_pylist(flat, schema=schema))
    return file_sha256(table_path(data))


def _flat(row: Mapping[str, Any], teachers: Sequence[str]) -> dict[str, Any]:
    row = {"notes": "", "vmaf": None, **row}
    wrong = row.keys() ^ {*FIELDS.names, "scores"} or row["scores"].keys() - set(teachers)
    if wrong:
        raise ValueError(f"row {row.get('video_id')!r} lacks, or should not have, {sorted(wrong)}")
    scores = {_SCORE + name: row["scores"].get(name) for name in teachers}
    return {**{name: row[name] for name in FIELDS.names}, **scores}


def read_video_table(data: str, columns: Sequence[str] | None = None) -> VideoTable:
    """Reads the video table of a corpus.

    Args:
      data: corpus folder.
      columns: the fields needed; None reads all, and the scores.

    Raises:
      CorpusError: there is none, it cannot be read, or it is not what the manifest tells.
    """
    path = table_path(data)
    manifest = os.path.join(data, MANIFEST)
    if os.path.exists(path) and os.path.exists(manifest):
        recorded = read_json(manifest, {"video_table_sha256": str})["video_table_sha256"]
        checked_sha256(path, recorded, f"restore it, or delete {data} and prepare it anew")
    try:
        table = pq.read_table(
            path, columns=None if columns is None else list(columns), read_dictionary=_REPEATED
        )
    except FileNotFoundError as e:
        raise _missing(data) from e
    except (pa.ArrowException, OSError) as e:
        raise CorpusError(f"{path} cannot be read ({e}): delete {data} and prepare it anew") from e
    wanted = set(FIELDS.names) - _LATER if columns is None else set(columns)
    lacking = wanted - set(table.column_names)
    if lacking:
        raise CorpusError(f"{path} has no columns {sorted(lacking)}: prepare {data} anew")
    return VideoTable(table)


def _missing(data: str) -> CorpusError:
    return CorpusError(f"{table_path(data)} is missing: run `python -m data_prep build` first")


def simulated_sets(table: Sequence[Mapping[str, Any]], split: str) -> SimulatedSets:
    """Groups the video table's rows by segment and simulator, effective levels and source only.

    Raises:
      CorpusError: a segment has versions, but no source.
    """
    fields = ("split", "source_id", "segment", "simulator", "level", "effective", "video_id")
    column = {name: column_of(table, name) for name in fields}
    mine = column["split"] == split
    base = np.flatnonzero(mine & (column["level"] == 0))
    rows = np.flatnonzero(mine & (column["level"] > 0) & column["effective"])
    segments = _segments(column, rows)
    order = pc.sort_indices(
        pa.table(
            {
                "simulator": pa.array(column["simulator"][rows], pa.string()),
                "segment": segments,
                "level": column["level"][rows],
            }
        ),
        sort_keys=[(name, "ascending") for name in ("simulator", "segment", "level")],
    ).to_numpy()
    rows, segment = rows[order], segments.to_numpy(zero_copy_only=False)[order]
    simulator = column["simulator"][rows]
    new = np.ones(len(rows), bool)
    new[1:] = (segment[1:] != segment[:-1]) | (simulator[1:] != simulator[:-1])
    starts = np.flatnonzero(new)
    found = pc.index_in(pa.array(segment[starts], pa.string()), _segments(column, base))
    if found.null_count:
        lost = segment[starts[pc.index(found.is_null(), True).as_py()]]
        raise files.CorpusError(f"segment {lost} has versions, but no source: prepare it anew")
    sources = column["video_id"][base][found.to_numpy()]
    return SimulatedSets(
        source_id=segment[starts],
        simulator=simulator[starts],
        lengths=np.diff(np.append(starts, len(rows))) + 1,
        severity=np.insert(column["level"][rows].astype(np.int64), starts, 0),
        video_id=np.insert(column["video_id"][rows], starts, sources),
    )


def _segments(column: Mapping[str, np.ndarray], rows: np.ndarray) -> pa.Array:
    """Names of the rows' segments: source and number, of three figures or more."""
    number = pc.utf8_lpad(pa.array(column["segment"][rows]).cast(pa.string()), 3, "0")
    source = pa.array(column["source_id"][rows], pa.string())
    return pc.binary_join_element_wise(source, number, "-")
