"""Rows as Parquet and as CSV; apart from `files`, which every command needs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from vqa_jax.jobs import csv_cells
from vqa_jax.jobs.files import replacing, written


def write_tables(stem: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of equal keys as `stem`.parquet and `stem`.csv, whole or not at all."""
    with replacing(stem + ".parquet") as temporary:
        parquet.write_table(pa.Table.from_pylist(list(rows)), temporary)
    with written(stem + ".csv", newline="") as f:
        writer = csv_cells.dict_writer(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
