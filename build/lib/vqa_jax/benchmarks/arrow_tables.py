"""Files of scores as Arrow tables: CSV, Parquet and JSON lines, told by the ending."""

from __future__ import annotations

import os

import pyarrow as pa
from pyarrow import csv, json, parquet

from vqa_jax.benchmarks import text_table
from vqa_jax.errors import VqaError

MAX_CELLS = 1 << 27
MAX_COLUMNS = 1024  # of a CSV file; all are read as text first
_KINDS = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
}


class ScoresError(VqaError):
    """A score table cannot be used; the message names file, place and remedy."""


def read_table(path: str) -> tuple[pa.Table, int]:
    """A file's table, a CSV's cells as text, and the number of its first row.

    Raises:
      ScoresError: it cannot be read, a row has more or fewer cells than the header, or the table
        is larger than any of scores.
    """
    kind = _KINDS.get(os.path.splitext(path)[1].lower(), "CSV in UTF-8")
    try:
        size = os.path.getsize(path)
        if size > text_table.MAX_BYTES:
            raise ScoresError(f"{path} is larger than any table of scores: is it another file?")
        if kind == "Parquet":
            return _parquet(path), 1
        if not size:
            return pa.table({}), 1
        if kind == "JSON lines":
            return json.read_json(path), 1
        return _csv(path), 2
    except (OSError, pa.ArrowException) as error:
        raise ScoresError(f"{path}: cannot be read as {kind}: {error}") from error


def _parquet(path: str) -> pa.Table:
    """A table whose size is looked at as it is read: a few bytes can stand for many rows."""
    with parquet.ParquetFile(path) as file:
        facts = file.metadata
        nbytes, batches = 0, []
        if facts.num_rows * facts.num_columns <= MAX_CELLS:
            for batch in file.iter_batches(batch_size=4096):
                nbytes += batch.nbytes
                if nbytes > 4 * text_table.MAX_BYTES:
                    break
                batches.append(batch)
            else:
                return pa.Table.from_batches(batches, file.schema_arrow)
    raise ScoresError(
        f"{path}: {facts.num_rows} rows of {facts.num_columns} columns are larger than any table"
        " of scores: is it another file?"
    )


def _csv(path: str) -> pa.Table:
    with open(path, "rb") as file:  # not by its name: that would unpack a compressed one unbounded
        first = file.readline(1 << 20).decode("utf-8-sig", "replace")
        file.seek(0)
        # Header included as data: the types of columns can be given only by names known before.
        text = {f"f{k}": pa.string() for k in range(MAX_COLUMNS)}
        table = csv.read_csv(
            file,
            # In one thread: only so an error names its row.
            read_options=csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
            parse_options=csv.ParseOptions(
                newlines_in_values=True, delimiter=text_table.delimiter(first.strip("\r\n"))
            ),
            convert_options=csv.ConvertOptions(column_types=text),
        )
    header = [column[0].as_py() or "" for column in table.columns]
    return table.slice(1).rename_columns(header)
