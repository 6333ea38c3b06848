"""Checkpoints: damaged ones are passed over, failed saves stop the run."""

import os
import shutil

import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.tiny_run import CONFIG, SPEC, STEPS
from vqa_jax.devices import sharding
from vqa_jax.training import checkpoint, train


def test_truncated_newest_checkpoint_falls_back_to_the_one_before(
    corpus, finished, tmp_path, monkeypatch
):
    workdir = str(tmp_path)
    shutil.copytree(finished, workdir, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "student")
    newest = tmp_path / "checkpoints" / str(STEPS)
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    warned = []
    monkeypatch.setattr(checkpoint.logging, "warning", lambda text, *a: warned.append(text % a))
    train.train(CONFIG, SPEC, corpus, workdir)
    assert any(f"step {STEPS} is damaged" in text and largest.name in text for text in warned)
    assert (tmp_path / "damaged_checkpoints" / str(STEPS)).is_dir()
    assert tiny_corpus.losses(workdir) == tiny_corpus.losses(finished)


def test_save_that_fails_stops_the_run(corpus, tmp_path, monkeypatch):
    """The folder becomes a file under the run, which no permission of root's can write into."""
    real, calls = sharding.put_batch, []

    def put(batch, mesh, size):
        calls.append(1)
        if len(calls) == 2:
            shutil.rmtree(tmp_path / "checkpoints")
            (tmp_path / "checkpoints").write_text("in the way")
        return real(batch, mesh, size)

    monkeypatch.setattr(sharding, "put_batch", put)
    with pytest.raises(checkpoint.CheckpointError, match=r"saving step 3 .*failed.*same command"):
        train.train(CONFIG, SPEC, corpus, str(tmp_path))
    assert not os.path.exists(tmp_path / "student")
