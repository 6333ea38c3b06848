"""Files of scores within bounds."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from vqa_jax.benchmarks import arrow_tables, text_table


def test_rows_are_counted_as_an_editor_does(tmp_path):
    (tmp_path / "s.csv").write_text("\ufeffvideo;t\na;1\n", encoding="utf-8")
    table, first = arrow_tables.read_table(str(tmp_path / "s.csv"))
    assert (table.to_pylist(), first) == ([{"video": "a", "t": "1"}], 2)
    (tmp_path / "s.jsonl").write_text('{"video": "a"}\n', encoding="utf-8")
    assert arrow_tables.read_table(str(tmp_path / "s.jsonl"))[1] == 1


def test_tables_that_unpack_to_more_than_any_are_refused(tmp_path, monkeypatch):
    path = str(tmp_path / "s.parquet")
    parquet.write_table(pa.table({"t": np.zeros(100_000)}), path)
    assert arrow_tables.read_table(path)[0].num_rows == 100_000
    with monkeypatch.context() as few:
        few.setattr(arrow_tables, "MAX_CELLS", 1000)
        with pytest.raises(arrow_tables.ScoresError, match=r"s\.parquet: 100000 rows of 1 columns"):
            arrow_tables.read_table(path)
    monkeypatch.setattr(text_table, "MAX_BYTES", 100_000)
    with pytest.raises(arrow_tables.ScoresError, match="larger than any"):
        arrow_tables.read_table(path)
    (tmp_path / "s.csv").write_text("video,t\n" + "a,1\n" * 40_000, encoding="utf-8")
    with pytest.raises(arrow_tables.ScoresError, match="larger than any"):
        arrow_tables.read_table(str(tmp_path / "s.csv"))


def test_a_compressed_table_is_not_unpacked(tmp_path):
    with gzip.open(tmp_path / "s.csv.gz", "wt") as file:
        file.write("video,t\n" + "a,1\n" * 1000)
    with pytest.raises(arrow_tables.ScoresError, match=r"s\.csv\.gz: cannot be read as CSV"):
        arrow_tables.read_table(str(tmp_path / "s.csv.gz"))
