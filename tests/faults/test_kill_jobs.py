"""Kill -9 of whole training and relabel processes, at random moments, again and again."""

import dataclasses
import multiprocessing
import os
import pathlib
import shutil

import pytest

from tests.fixtures import killed, stub_student, tiny_corpus
from vqa_jax import loading
from vqa_jax.jobs import files, ranges
from vqa_jax.loop import relabel
from vqa_jax.training import train
from vqa_jax.weights import bundle

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 60
KILLS = 10
RELABEL = dataclasses.replace(stub_student.RELABEL, range_videos=4)


def _train(data: str, workdir: str, told) -> None:
    config = tiny_corpus.train_config(STEPS, checkpoint_every=5)
    told.set()
    train.train(config, tiny_corpus.student_spec(), data, workdir)


def _relabel(data: str, student: str, told) -> None:
    loaded = loading.load(student)
    told.set()
    relabel.relabel(loaded.judge, data, 2, RELABEL)


@pytest.fixture(autouse=True)
def _paths_of_children(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.slow
def test_kill_9_during_training(corpus, tmp_path):
    config = tiny_corpus.train_config(STEPS, checkpoint_every=5)
    quiet, other = str(tmp_path / "quiet"), str(tmp_path / "killed")
    train.train(config, tiny_corpus.student_spec(), corpus, quiet)
    assert (
        killed.until_done(_train, corpus, other, kills=KILLS, most_seconds=6.0, seed=0)
        >= KILLS // 2
    )
    assert tiny_corpus.losses(other) == tiny_corpus.losses(quiet)
    name = os.path.join("student", bundle.WEIGHTS_FILE)
    shas = {files.file_sha256(os.path.join(w, name)) for w in (quiet, other)}
    assert len(shas) == 1


def _contents(root) -> dict[str, str]:
    return {
        os.path.relpath(path, root): sha
        for path, sha in stub_student.digests(root).items()
        if ".tmp" not in path
    }


@pytest.mark.slow
def test_kill_9_during_relabelling(corpus, known, tmp_path):
    quiet, other = (str(shutil.copytree(corpus, tmp_path / x)) for x in ("quiet", "killed"))
    loaded = loading.load(known)
    relabel.relabel(loaded.judge, quiet, 2, RELABEL)
    assert (
        killed.until_done(_relabel, other, known, kills=KILLS, most_seconds=4.0, seed=1)
        >= KILLS // 2
    )
    assert _contents(other) == _contents(quiet)


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
