"""Rows written as tables are read back the same from both files."""

import csv

from pyarrow import parquet

from vqa_jax.jobs.tables import write_tables

ROWS = [{"name": 'a,"b"', "score": 0.5, "pairs": 3}, {"name": "ü", "score": -1e-9, "pairs": 0}]


def test_parquet_and_csv_hold_the_rows(tmp_path):
    write_tables(str(tmp_path / "rows"), ROWS)
    assert parquet.read_table(tmp_path / "rows.parquet").to_pylist() == ROWS
    with open(tmp_path / "rows.csv", newline="") as f:
        read = list(csv.DictReader(f))
    assert [{**r, "score": float(r["score"]), "pairs": int(r["pairs"])} for r in read] == ROWS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.csv", "rows.parquet"]
