"""Checkpoints: damaged ones are passed over, failed saves stop the run."""

import os
import shutil
import types

import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.tiny_run import CONFIG, SPEC, STEPS
from vqa_jax.devices import sharding
from vqa_jax.jobs import files, places
from vqa_jax.training import checkpoint, train
from vqa_jax.weights import bundle


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


def _files_of(step, folder):
    return [path for path in (folder / "checkpoints" / str(step)).rglob("*") if path.is_file()]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "damage",
    [
        *("bit", "unvouched", "list"),
        pytest.param("metadata", marks=SLOW),
        pytest.param("empty list", marks=SLOW),
    ],
)
def test_changed_bytes_fall_back_to_the_checkpoint_before(
    corpus, finished, tmp_path, monkeypatch, damage
):
    """All sizes are right: a flipped bit of the weights, zeros for what describes them.

    "unvouched": there is no list of hashes, but it cannot be read.
    """
    workdir = str(tmp_path)
    shutil.copytree(finished, workdir, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "student")
    path = max(_files_of(STEPS, tmp_path), key=lambda p: p.stat().st_size)
    if damage in ("metadata", "unvouched"):
        path = next(p for p in _files_of(STEPS, tmp_path) if p.name == "_METADATA")
        path.write_bytes(bytes(path.stat().st_size))
        if damage == "unvouched":
            (tmp_path / "checkpoints" / f"{STEPS}.files.json").unlink()
    elif damage == "bit":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path = tmp_path / "checkpoints" / f"{STEPS}.files.json"
        path.write_text("" if damage == "list" else "{}")
    warned = []
    monkeypatch.setattr(checkpoint.logging, "warning", lambda text, *a: warned.append(text % a))
    train.train(CONFIG, SPEC, corpus, workdir)
    found = [text for text in warned if f"step {STEPS} is damaged" in text]
    assert len(found) == 1 and (path.name in found[0] or damage == "unvouched")
    assert (tmp_path / "damaged_checkpoints" / str(STEPS)).is_dir()
    weights = os.path.join("student", bundle.WEIGHTS_FILE)
    assert files.file_sha256(os.path.join(workdir, weights)) == files.file_sha256(
        os.path.join(finished, weights)
    )


def test_every_file_of_a_checkpoint_is_listed_and_every_flip_noticed(finished, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    identity = files.read_json(str(root / "checkpoints" / "identity.json"))
    saved = checkpoint.Checkpointer(str(root), identity)
    listed = files.read_json(str(root / "checkpoints" / f"{STEPS}.files.json"))
    folder = root / "checkpoints" / str(STEPS)
    assert set(listed) == {str(p.relative_to(folder)) for p in _files_of(STEPS, root)}
    rng = np.random.default_rng(0)
    for path in rng.choice(sorted(map(str, _files_of(STEPS, root))), 20):
        with open(path, "rb") as file:
            whole = file.read()
        if not whole:
            continue
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        with open(path, "wb") as file:
            file.write(data)
        assert os.path.basename(path) in saved._damage(STEPS, whole=True)
        with open(path, "wb") as file:
            file.write(whole)
    assert saved._damage(STEPS, whole=True) is None
    saved.close()


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    saved = checkpoint.Checkpointer(str(tmp_path), {}, keep_best=1)
    for step, loss in enumerate((3.0, 1.0, 2.0, 4.0, 5.0), 1):
        saved.save(step, {"step": np.int32(step)}, loss)
    saved.wait()
    saved.close()
    folders = {path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()}
    assert folders == {"2", "4", "5"}


def test_checkpoints_of_earlier_versions_are_used(corpus, finished, tmp_path, monkeypatch):
    """Their lists tell sizes alone, and their identity nothing of the corpus's pictures."""
    workdir = str(tmp_path)
    shutil.copytree(finished, workdir, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "student")
    identity = str(tmp_path / "checkpoints" / "identity.json")
    facts = files.read_json(identity)
    del facts["corpus"]
    files.write_json(identity, facts)
    path = str(tmp_path / "checkpoints" / f"{STEPS}.files.json")
    files.write_json(path, {name: told["bytes"] for name, told in files.read_json(path).items()})
    told = []
    heard = types.SimpleNamespace(info=lambda text, *a: told.append(text % a), warning=pytest.fail)
    monkeypatch.setattr(checkpoint, "logging", heard)  # Orbax has the same module
    train.train(CONFIG, SPEC, corpus, workdir)
    assert sum("no list of hashes" in text for text in told) == 1
    assert sum("does not tell its corpus" in text for text in told) == 1
    assert f"resumed from step {STEPS}" in told
    assert "corpus" in files.read_json(identity)


def test_a_run_whose_checkpoints_cannot_be_read_does_not_start_anew_unasked(
    corpus, finished, tmp_path
):
    workdir = str(tmp_path)
    shutil.copytree(finished, workdir, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "student")
    for path in (tmp_path / "checkpoints").glob("*.files.json"):
        path.unlink()
    for path in (tmp_path / "checkpoints").rglob("_METADATA"):
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint is left"):
        train.train(CONFIG, SPEC, corpus, workdir)


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


_LIST = "run/checkpoints/2.files.json"


def test_saves_go_to_an_object_store_and_one_that_cannot_is_told(s3, tmp_path, monkeypatch):
    copy = places.output("s3://bucket/run", is_folder=True)
    os.mkdir(copy.path)
    saving = checkpoint.Checkpointer(copy.path, {"settings": 1})
    saving.save(1, {"x": np.arange(4)})
    saving.wait()
    names = s3.read("run/checkpoints/").keys()
    assert {"1/_CHECKPOINT_METADATA", "1.files.json", "identity.json"} <= names
    assert not [name for name in names if "tmp" in name]
    s3.disturb = lambda method, key: "500" if (method, key) == ("PUT", _LIST) else None
    saving.save(2, {"x": np.arange(4) + 1})
    told = r"step 2 is saved here alone: s3://bucket/run/checkpoints/2\.files\.json: .*same command"
    with pytest.raises(checkpoint.CheckpointError, match=told):
        saving.close()
    s3.disturb = lambda method, key: None
    monkeypatch.setenv("VQA_JAX_STAGE", str(tmp_path / "another machine"))
    elsewhere = places.output("s3://bucket/run", is_folder=True).path
    assert elsewhere != copy.path
    with checkpoint.Checkpointer(elsewhere, {"settings": 1}) as saving:
        restored = saving.restore({"x": np.zeros(4, int)})
        # Step 2 has come whole but for its list: a checkpoint is used, with or without one.
        np.testing.assert_array_equal(restored["x"], np.arange(4) + 1)
