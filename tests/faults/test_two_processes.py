"""Two whole processes share one relabelling."""

import dataclasses
import multiprocessing
import os
import pathlib
import shutil

import pytest

from tests.fixtures import stub_student
from vqa_jax import loading
from vqa_jax.jobs import ranges
from vqa_jax.loop import relabel

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELABEL = dataclasses.replace(stub_student.RELABEL, range_videos=4)


@pytest.fixture(autouse=True)
def _paths_of_children(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def _contents(root) -> dict[str, str]:
    return {
        os.path.relpath(path, root): sha
        for path, sha in stub_student.digests(root).items()
        if ".tmp" not in path
    }


def _relabel_share(data: str, student: str, process: int) -> None:
    loaded = loading.load(student)
    share = ranges.Share(process, 2)
    relabel.relabel(loaded.judge, data, 2, RELABEL, share=share)


@pytest.mark.slow
def test_two_processes_relabel_as_one(corpus, known, tmp_path):
    quiet, shared = (str(shutil.copytree(corpus, tmp_path / x)) for x in ("quiet", "shared"))
    loaded = loading.load(known)
    relabel.relabel(loaded.judge, quiet, 2, RELABEL)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_relabel_share, args=(shared, known, k)) for k in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert _contents(shared) == _contents(quiet)
