"""A job's result is published once, by whoever ends last, and kept for whoever comes later."""

import json
import os
import threading

import pytest

from vqa_jax.jobs import files
from vqa_jax.jobs.published import Publication
from vqa_jax.jobs.ranges import Share, compute

RANGES = 5


class Sum:
    """Adds numbers, a number a range; every call of `run` is one process's."""

    def __init__(self, out, numbers=(3, 1, 4, 1, 5)):
        self.out, self.numbers = str(out), numbers
        self.computed, self.published = [], 0
        self.work = os.path.join(self.out, f"work_{files.key_hash(repr(numbers)):016x}")
        self.paths = [os.path.join(self.work, f"range-{k}.json") for k in range(RANGES)]

    def run(self, process=0, processes=1):
        job = Publication(
            os.path.join(self.out, "sum.json"),
            self.work,
            lambda found: found["numbers"] == list(self.numbers),
        )
        if done := job.found():
            return done

        def make(k, bar):
            self.computed.append(k)
            files.write_json(self.paths[k], self.numbers[k])
            bar.update()

        share = Share(process, processes)
        missing = compute([1] * RANGES, self.paths, make, share, "sum")
        return job.publish(missing, self._write)

    def _write(self):
        self.published += 1
        total = {"numbers": self.numbers, "sum": sum(map(files.read_json, self.paths))}
        files.write_json(os.path.join(self.out, "sum.json"), total)
        return total


def test_result_is_made_once_and_kept(tmp_path):
    job = Sum(tmp_path)
    assert job.run()["sum"] == 14 and sorted(job.computed) == list(range(RANGES))
    assert os.listdir(tmp_path) == ["sum.json"]
    assert job.run()["sum"] == 14 and len(job.computed) == RANGES and job.published == 1
    other = Sum(tmp_path, (1, 1, 1, 1, 1))  # of other inputs: nothing of the first is taken
    assert other.run()["sum"] == 5 and json.loads((tmp_path / "sum.json").read_text())["sum"] == 5


def test_the_last_process_publishes(tmp_path):
    job = Sum(tmp_path)
    assert job.run(1, 3) is None and job.run(0, 3) is None and job.published == 0
    assert job.run(2, 3)["sum"] == 14 and sorted(job.computed) == list(range(RANGES))
    assert not os.path.exists(job.work)


def test_what_a_killed_process_left_is_kept(tmp_path):
    job = Sum(tmp_path)
    os.makedirs(job.work)
    files.write_json(job.paths[2], 100)  # as if computed before
    assert job.run()["sum"] == 110 and 2 not in job.computed
    os.makedirs(job.work)  # of a process killed between publishing and tidying up
    assert job.run()["sum"] == 110 and not os.path.exists(job.work)


def test_processes_that_run_at_once_publish_one_result(tmp_path):
    job, found = Sum(tmp_path), []
    threads = [
        threading.Thread(target=lambda process: found.append(job.run(process, RANGES)), args=(k,))
        for k in range(RANGES)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == RANGES and job.published == 1
    assert {total["sum"] for total in found if total} == {14}


@pytest.mark.parametrize("process", [-1, 3])
def test_a_share_that_does_not_exist_is_refused(process):
    with pytest.raises(files.CorpusError, match="0 to 2"):
        Share(process, 3)
