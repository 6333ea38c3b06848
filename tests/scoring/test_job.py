"""Scores as a job: resumed after any end, shared, and never two at one table."""

import os
import types

import numpy as np
import pytest

from tests.fixtures.known_qualities import anchors_of
from vqa_jax.jobs import files
from vqa_jax.jobs.ranges import Share
from vqa_jax.scoring import job
from vqa_jax.scoring.predictor import BATCH_SIZE
from vqa_jax.scoring.results import Result
from vqa_jax.settings import ScoreConfig

CONFIG = ScoreConfig()


class Student:
    """Scores a file by its size; is killed at the file of a number, counted over its life."""

    fingerprint = "f" * 16
    batch_size = BATCH_SIZE

    def __init__(self, dies_at: int = -1):
        self.judge = types.SimpleNamespace(anchors=anchors_of(), describe=lambda: "test scale")
        self.asked: list[str] = []
        self._dies_at = dies_at

    def iter_scores(self, paths, config):
        for path in paths:
            if len(self.asked) == self._dies_at:
                raise KeyboardInterrupt
            self.asked.append(path)
            if not os.path.exists(path):
                yield Result(path, error="is missing [open]")
            else:
                yield Result(path, os.path.getsize(path) / 3, model=self.fingerprint)


def _run(student, paths, table, config=CONFIG, share=Share()):
    """The published results, None while ranges are missing."""
    found = []
    done = job.run(student, paths, config, str(table), found.extend, share)
    return found if done else None


def test_a_killed_job_repeats_at_most_one_range(tmp_path, paths):
    table = tmp_path / "scores.csv"
    told = []
    whole = job.score(Student(), paths, CONFIG, told.append)
    assert told == whole and [r.path for r in whole] == paths
    for dies_at in range(7):
        with pytest.raises(KeyboardInterrupt):
            _run(Student(dies_at), paths, table)
        again = Student()
        assert _run(again, paths, table) == whole
        assert again.asked == paths[dies_at // 3 * 3 :]
        assert not os.path.exists(f"{table}.work")


def test_a_damaged_range_is_scored_again(tmp_path, paths):
    table = tmp_path / "scores.csv"
    with pytest.raises(KeyboardInterrupt):
        _run(Student(6), paths, table)
    kept = sorted((tmp_path / "scores.csv.work").rglob("range-*.json"))
    assert len(kept) == 2
    data = bytearray(kept[0].read_bytes())
    data[data.index(b"0.0")] ^= 1
    kept[0].write_bytes(data)
    again = Student()
    assert _run(again, paths, table) == job.score(Student(), paths, CONFIG, lambda _: None)
    assert len(again.asked) == 4


@pytest.mark.parametrize("change", ["file", "student", "settings", "files"])
def test_what_is_kept_is_of_the_same_work_alone(tmp_path, paths, change):
    table, config, again = tmp_path / "scores.csv", CONFIG, Student()
    with pytest.raises(KeyboardInterrupt):
        _run(Student(6), paths, table)
    if change == "file":
        with open(paths[1], "wb") as file:
            file.write(b"x")  # of the same size
    elif change == "student":
        again.fingerprint = "e" * 16
    elif change == "settings":
        config = ScoreConfig(both_orders=True)
    else:
        paths = paths[:-1]
    assert _run(again, paths, table, config) is not None
    assert again.asked == paths and not os.path.exists(f"{table}.work")


def test_processes_share_the_files(tmp_path, paths):
    table = tmp_path / "scores.csv"
    first, second = Student(), Student()
    assert _run(first, paths, table, share=Share(0, 2)) is None
    whole = job.score(Student(), paths, CONFIG, lambda _: None)
    assert _run(second, paths, table, share=Share(1, 2)) == whole
    assert first.asked == [*paths[:3], paths[6]] and second.asked == paths[3:6]


@pytest.mark.parametrize("other", ["same", "settings", "division"])
def test_two_jobs_at_one_table_are_kept_apart(tmp_path, paths, other):
    """The second starts while the first is at work."""
    table = tmp_path / "scores.csv"
    config = ScoreConfig(both_orders=other == "settings")
    share = Share(0, 2 if other == "division" else 1)

    class Slow(Student):
        def iter_scores(self, paths, config_):
            with pytest.raises(files.CorpusError, match=r"scores\.csv is being written by another"):
                _run(Student(), paths_, table, config, share)
            return super().iter_scores(paths, config_)

    paths_ = paths
    whole = job.score(Student(), paths, CONFIG, lambda _: None)
    assert _run(Slow(), paths, table) == whole


def test_a_full_disk_loses_no_row(tmp_path, paths, monkeypatch):
    table = tmp_path / "scores.csv"

    def full(path, value):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(files, "write_sealed", full)
    told = []
    monkeypatch.setattr(job.logging, "warning", lambda text, *a: told.append(text % a))
    assert _run(Student(), paths, table) == job.score(Student(), paths, CONFIG, lambda _: None)
    assert len(told) == 3 and "the work goes on" in told[0]


def test_what_cannot_be_published_is_kept(tmp_path, paths):
    table = tmp_path / "scores.csv"

    def fails(results):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        job.run(Student(), paths, CONFIG, str(table), fails)
    again = Student()
    found = _run(again, paths, table)
    assert again.asked == [] and np.isclose(found[3].score, 1.0)
