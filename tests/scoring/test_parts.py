"""Parts of scores: resumed, shared, replaced, and the rows of the table."""

import json
import os

import pytest
from pyarrow import parquet

from tests.scoring.test_job import CONFIG, Student
from vqa_jax.jobs import files
from vqa_jax.jobs.files import CorpusError
from vqa_jax.jobs.ranges import Share
from vqa_jax.scoring import job, parts
from vqa_jax.scoring.results import COLUMNS, row_of
from vqa_jax.settings import ScoreConfig


def _rows(out, form):
    found = []
    for name in sorted(os.listdir(out)):
        if name.endswith(".jsonl"):
            found += map(json.loads, (out / name).read_text().splitlines())
        elif name.endswith(".parquet"):
            found += parquet.read_table(out / name).to_pylist()
    return found


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_parts_hold_the_rows_of_the_table_after_any_end(tmp_path, paths, form):
    out = tmp_path / "out"
    wanted = [row_of(result) for result in job.score(Student(), paths, CONFIG, lambda _: None)]
    with pytest.raises(KeyboardInterrupt):
        parts.run(Student(4), paths, CONFIG, str(out), form)
    assert not (out / parts.MANIFEST).exists()
    again = Student()
    told = parts.run(again, paths, CONFIG, str(out), form)
    assert again.asked == paths[3:]  # the first range of three was kept
    found = _rows(out, form)
    assert list(found[0]) == list(COLUMNS)
    for row in wanted:  # Arrow's text is UTF-8
        if form == "parquet":
            row["path"] = row["path"].encode("utf-8", "backslashreplace").decode()
    assert found == wanted
    assert (told["rows"], told["failed"], told["model"]) == (7, 1, "f" * 16)
    names = [f"part-00000{k}.{form}" for k in range(3)]
    assert sorted(os.listdir(out)) == sorted(["manifest.json", *names])
    assert {n: p["sha256"] for n, p in told["parts"].items()} == {
        name: files.file_sha256(str(out / name)) for name in names
    }
    finished = Student()
    assert parts.run(finished, paths, CONFIG, str(out), form) == told and not finished.asked


def test_processes_share_parts_and_other_work_takes_their_place(tmp_path, paths):
    out = tmp_path / "out"
    assert parts.run(Student(), paths, CONFIG, str(out), "jsonl", Share(1, 2)) is None
    assert parts.run(Student(), paths, CONFIG, str(out), "jsonl", Share(0, 2))["rows"] == 7
    (out / "mine.txt").write_text("stays")
    assert parts.run(Student(), paths[:2], CONFIG, str(out), "jsonl")["rows"] == 2
    assert sorted(os.listdir(out)) == ["manifest.json", "mine.txt", "part-000000.jsonl"]


def test_files_of_others_are_not_replaced(tmp_path, paths):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CorpusError, match="name another folder"):
        parts.run(Student(), paths, CONFIG, str(tmp_path), "jsonl")
    os.remove(tmp_path / "manifest.json")
    (tmp_path / "part-000000.jsonl").write_text("mine")
    with pytest.raises(CorpusError, match="written by no such job"):
        parts.run(Student(), paths, CONFIG, str(tmp_path), "jsonl")
    assert (tmp_path / "part-000000.jsonl").read_text() == "mine"


@pytest.mark.parametrize("other", ["same", "settings", "division"])
def test_two_jobs_at_one_folder_are_kept_apart(tmp_path, paths, other):
    config = ScoreConfig(both_orders=other == "settings")
    share = Share(0, 2 if other == "division" else 1)

    class Slow(Student):
        def iter_scores(self, paths, config_):
            with pytest.raises(CorpusError, match="is being written by another job"):
                parts.run(Student(), paths_, config, str(tmp_path), "jsonl", share)
            return super().iter_scores(paths, config_)

    paths_ = paths
    assert parts.run(Slow(), paths, CONFIG, str(tmp_path), "jsonl")["rows"] == 7


def test_a_damaged_part_is_made_again(tmp_path, paths):
    with pytest.raises(KeyboardInterrupt):
        parts.run(Student(6), paths, CONFIG, str(tmp_path), "jsonl")
    _, second = sorted(tmp_path.rglob("part-*.jsonl"))
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    again = Student()
    parts.run(again, paths, CONFIG, str(tmp_path), "jsonl")
    assert again.asked == paths[3:]
