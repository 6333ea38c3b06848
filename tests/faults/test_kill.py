"""Kill -9 at any moment: the same command finishes, and the bytes are those of a quiet run."""

import multiprocessing
import os
import pathlib
import shutil
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest

from data_prep.labels.pairs import label_pairs
from data_prep.prepare import job as build_lib
from data_prep.prepare.config import PairConfig
from tests.fixtures import broken_files, prep_corpus
from vqa_jax.corpus import pair_shards
from vqa_jax.corpus import store as records
from vqa_jax.motion import job as motion_job

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAIRS = PairConfig(0, 20, 10, "rank", 3.0, 2)


class _Killed(BaseException):
    """Stands for a kill between two steps; nothing in the code may catch it."""


class _MeanExtractor:
    """Instead of a network: the clips' mean colours."""

    calls = 0

    def fingerprint(self, pre) -> str:
        return f"mean-{pre.motion_size}"

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        type(self).calls += 1
        return clips.mean(axis=(1, 2, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    for k in range(4):
        shifted = np.roll(broken_files.moving_frames(30, 64, 96), 7 * k, axis=2)
        broken_files.encode(folder / f"{k}.mp4", shifted)
    (folder / "broken.mp4").write_text("text")
    return folder


def _config():
    return prep_corpus.config(num_buckets=8)


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory):
    """A corpus that was made in peace."""
    data = tmp_path_factory.mktemp("out") / "corpus"
    build_lib.build(str(videos), str(data), _config())
    return data


def _build_in_another_process(videos: str, data: str) -> None:
    build_lib.build(videos, data, _config())


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_kill_9_during_preparation(undisturbed, videos, tmp_path, monkeypatch, kills):
    """Real kills at random moments, each of which resumes the one before."""
    rng = np.random.default_rng(kills)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data_prep.prepare.job", "tests.fixtures.prep_corpus"])
    data = str(tmp_path / "corpus")
    moments = np.sort(rng.integers(1, 20, kills))  # number of files in the work folder
    for count in moments:
        job = context.Process(target=_build_in_another_process, args=(str(videos), data))
        job.start()
        while job.is_alive() and len(_names(f"{data}/work")) < count:
            time.sleep(0.002)
        job.join(rng.uniform(0, 0.05))
        job.kill()
        job.join()
        assert job.exitcode == -signal.SIGKILL and "manifest.json" not in _names(data)
    build_lib.build(str(videos), data, _config())
    assert prep_corpus.contents(data) == prep_corpus.contents(undisturbed)


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _crash_at(monkeypatch, number: int) -> list[str]:
    """Makes the `number`-th change of a file name raise instead; returns the ones before it."""
    done: list[str] = []
    real = {name: getattr(os, name) for name in ("replace", "link", "remove")}
    real_rmtree = shutil.rmtree

    def instead(name, change):
        def call(*args, **kwargs):
            if len(done) == number:
                raise _Killed
            done.append(f"{name} {os.path.basename(str(args[-1]))}")
            return change(*args, **kwargs)

        return call

    for name, change in real.items():
        monkeypatch.setattr(os, name, instead(name, change))
    monkeypatch.setattr(shutil, "rmtree", instead("rmtree", real_rmtree))
    return done


def _crash_everywhere(monkeypatch, job: Callable[[], None], reset: Callable[[], None]) -> int:
    """Runs `job` with a crash at each step in turn; returns the number of steps.

    `reset` brings the first state back; after each crash `job` is run again and must finish.
    """
    for number in range(1000):
        reset()
        with monkeypatch.context() as patch:
            _crash_at(patch, number)
            try:
                job()
                return number
            except _Killed:
                pass
        job()
    raise AssertionError("the job has no end")


def test_a_crash_at_any_step_of_the_ending(undisturbed, videos, tmp_path, monkeypatch):
    """All buckets are there; publishing, the tables and the manifest are cut off everywhere."""
    wanted = prep_corpus.contents(undisturbed)
    data, state = tmp_path / "corpus", tmp_path / "state"
    with monkeypatch.context() as patch:
        patch.setattr(build_lib, "_finish", lambda *_: {})
        build_lib.build(str(videos), str(state), _config())
    monkeypatch.setattr(build_lib, "prepare_buckets", lambda *_: None)

    def reset():
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(state, data)

    def job():
        build_lib.build(str(videos), str(data), _config())
        assert prep_corpus.contents(data) == wanted

    assert _crash_everywhere(monkeypatch, job, reset) > 10


def test_a_crash_at_any_step_of_pair_labelling(undisturbed, tmp_path, monkeypatch):
    data = tmp_path / "corpus"
    shutil.copytree(undisturbed, data)
    label_pairs(str(data), PAIRS)
    wanted = prep_corpus.contents(data)

    def reset():
        shutil.rmtree(data)
        shutil.copytree(undisturbed, data)

    def job():
        label_pairs(str(data), PAIRS)
        assert prep_corpus.contents(data) == wanted

    assert _crash_everywhere(monkeypatch, job, reset) > 10


def test_a_crash_while_pairs_are_replaced_leaves_no_false_manifest(
    undisturbed, tmp_path, monkeypatch
):
    """The old manifest must not vouch for shards of the new pairs."""
    data = tmp_path / "corpus"
    shutil.copytree(undisturbed, data)
    label_pairs(str(data), PAIRS)
    before = tmp_path / "before"
    shutil.copytree(data, before)
    manifest = pair_shards.manifest_path(str(data), 1)

    def replace() -> None:
        pair_shards.write(str(data), 1, {"train": []}, 2, {"other": 1})

    with monkeypatch.context() as patch:
        steps = _crash_at(patch, 1_000_000)
        replace()
    shutil.rmtree(data)
    shutil.copytree(before, data)
    with monkeypatch.context() as patch:
        _crash_at(patch, steps.index(f"replace {os.path.basename(manifest)}"))
        with pytest.raises(_Killed):
            replace()
    assert not os.path.exists(manifest)


def _features(data) -> dict[str, str]:
    found = prep_corpus.contents(data)
    return {k: v for k, v in found.items() if k.startswith(("motion.", "vqa_"))}


def test_a_crash_at_any_step_of_the_motion_job(undisturbed, tmp_path, monkeypatch):
    data = tmp_path / "corpus"
    shutil.copytree(undisturbed, data)
    motion_job.run(str(data), _MeanExtractor())
    wanted = _features(data)
    quiet_calls = _MeanExtractor.calls

    def reset():
        shutil.rmtree(data)
        shutil.copytree(undisturbed, data)

    def job():
        before = _MeanExtractor.calls
        motion_job.run(str(data), _MeanExtractor())
        assert _MeanExtractor.calls - before <= quiet_calls
        assert _features(data) == wanted

    assert _crash_everywhere(monkeypatch, job, reset) > 10
    store = records.RecordStore(str(data), "vqa_motion")
    assert len(store) == len(records.RecordStore(str(data), "vqa_videos"))
