"""Whole runs: resumed ones equal uninterrupted ones, others are refused, bad steps stop."""

import dataclasses
import json
import math
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.tiny_run import CONFIG, SPEC, STEPS, KilledError, kill_before
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import settings
from vqa_jax.corpus import shards, store
from vqa_jax.jobs import files
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.training import checkpoint, metric_log, train
from vqa_jax.training import step as train_step
from vqa_jax.weights import bundle


def test_run_writes_metrics_board_and_student(finished):
    with open(os.path.join(finished, "metrics.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    wanted = {f"train/{x}" for x in ("loss", "ce", "entropy", "level_acc", "grad_norm", "lr")}
    wanted |= {"perf/pairs_per_sec", "perf/input_wait_frac", "perf/goodput"}
    for row in rows:
        assert wanted <= row.keys()
        assert all(math.isfinite(v) for v in row.values())
        assert 0 <= row["perf/input_wait_frac"] <= 1
    assert os.listdir(os.path.join(finished, "tensorboard"))
    folder = os.path.join(finished, "student")
    assert bundle.load_spec(folder) == SPEC
    student = FunctionalStudent(SPEC.student)
    params = bundle.load_params(folder, student)
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(student.init(0)), strict=True)
    ]
    assert all(moved)


@pytest.mark.parametrize("dies_at", [pytest.param(3, marks=pytest.mark.slow), 6])
def test_killed_run_resumes_to_the_same_losses_and_weights(
    corpus, finished, tmp_path, monkeypatch, dies_at
):
    """Killed before the first checkpoint (3), or between two (6)."""
    workdir = str(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_before(dies_at, patch)
        train.train(CONFIG, SPEC, corpus, workdir)
    assert not os.path.exists(os.path.join(workdir, "student"))
    before = tiny_corpus.losses(workdir)
    # The row of a step is written while the next one runs, or where its checkpoint is due.
    assert set(before) == set(range(1, dies_at - 1))
    train.train(CONFIG, SPEC, corpus, workdir)
    after = tiny_corpus.losses(workdir)
    assert after == tiny_corpus.losses(finished)  # to the last bit, each step once
    name = os.path.join("student", bundle.WEIGHTS_FILE)
    shas = {files.file_sha256(os.path.join(w, name)) for w in (workdir, finished)}
    assert len(shas) == 1


def test_finished_run_returns_at_once(corpus, finished, monkeypatch):
    monkeypatch.setattr(train_step, "make_train_step", pytest.fail)
    weights = os.path.join(finished, "student", bundle.WEIGHTS_FILE)
    before = os.stat(weights).st_mtime_ns
    assert train.train(CONFIG, SPEC, corpus, finished) == os.path.join(finished, "student")
    assert os.stat(weights).st_mtime_ns == before


def test_other_settings_students_or_data_are_refused_in_the_same_workdir(
    corpus, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(train_step, "make_train_step", pytest.fail)
    others = [
        (dataclasses.replace(CONFIG, seed=1), SPEC),
        (dataclasses.replace(CONFIG, input=tiny_corpus.input_config(swap=False)), SPEC),
        (CONFIG, dataclasses.replace(SPEC, num_frames=1)),
    ]
    for config, spec in others:
        with pytest.raises(checkpoint.CheckpointError, match="another workdir"):
            train.train(config, spec, corpus, finished)
    fewer = tiny_corpus.write_corpus(str(tmp_path), num_train=2)
    with pytest.raises(checkpoint.CheckpointError, match="another workdir"):
        train.train(CONFIG, SPEC, fewer, finished)


@pytest.mark.parametrize("name", ["vqa_videos", "vqa_motion"])
def test_other_pictures_or_motion_under_the_same_pairs_are_refused(
    corpus, finished, tmp_path, monkeypatch, name
):
    monkeypatch.setattr(train_step, "make_train_step", pytest.fail)
    data = str(tmp_path / "corpus")
    shutil.copytree(corpus, data)
    records = list(store.RecordStore(data, name).records())
    path = str(tmp_path / "shard")
    field = {"vqa_videos": "frames", "vqa_motion": "features"}[name]
    shards.write_shard(path, name, [{**r, field: r[field] // 2} for r in records])
    shards.publish(data, name, name, {"train": [path]})
    with pytest.raises(checkpoint.CheckpointError, match=r"\(other corpus\).*another workdir"):
        train.train(CONFIG, SPEC, data, finished)


def test_a_changed_pair_shard_is_named(corpus, tmp_path):
    data = str(tmp_path / "corpus")
    shutil.copytree(corpus, data)
    path = shards.dataset_shards(data, "vqa_pairs_1", "train")[1]
    whole = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(files.CorpusError, match=os.path.basename(path)):
        train.train(CONFIG, SPEC, data, str(tmp_path / "run"))
    os.remove(path)
    with pytest.raises(files.CorpusError, match=f"{os.path.basename(path)} is missing"):
        train.train(CONFIG, SPEC, data, str(tmp_path / "run"))


@pytest.fixture(scope="module")
def first_weights(tmp_path_factory):
    """Student with the weights that the seed of CONFIG draws: where `finished` began."""
    folder = str(tmp_path_factory.mktemp("first"))
    bundle.save(folder, SPEC, FunctionalStudent(SPEC.student).init(CONFIG.seed), {})
    return folder


def _first_row(workdir, name):
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[0])[name]


def test_warm_start_begins_with_the_given_students_weights(
    corpus, finished, first_weights, tmp_path, monkeypatch
):
    """Another seed draws other weights; with those given its first loss is that of the first."""
    other = dataclasses.replace(CONFIG, seed=CONFIG.seed + 1)
    first = {}
    for name, start in (("cold", ""), ("warm", first_weights)):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            kill_before(3, patch)
            config = dataclasses.replace(other, init_from=start)
            train.train(config, SPEC, corpus, str(tmp_path / name))
        first[name] = _first_row(tmp_path / name, "train/loss")
    wanted = _first_row(finished, "train/loss")
    np.testing.assert_allclose(first["warm"], wanted, **TOLERANCES["scores_and_losses"])
    assert abs(first["cold"] - wanted) > 100 * TOLERANCES["scores_and_losses"]["rtol"] * wanted


def test_warm_start_from_a_student_with_another_auxiliary_head(
    corpus, finished, first_weights, tmp_path
):
    student = dataclasses.replace(SPEC.student, num_severity_classes=0)
    spec = dataclasses.replace(SPEC, student=student, severity_simulators=())
    optim = dataclasses.replace(CONFIG.optim, total_steps=2, warmup_steps=1)
    config = dataclasses.replace(
        CONFIG, seed=CONFIG.seed + 1, severity_weight=0.0, optim=optim, init_from=first_weights
    )
    for name in ("tokenizer.json", "slowfast.safetensors"):  # what this student does not need
        pathlib.Path(first_weights, name).write_text(name)
    folder = train.train(config, spec, corpus, str(tmp_path))
    assert bundle.load_spec(folder).student == student
    for name in ("tokenizer.json", "slowfast.safetensors"):
        assert pathlib.Path(folder, name).read_text() == name
    # The head says nothing about levels: their loss is that of the run which began alike.
    warm, wanted = (_first_row(run, "train/ce") for run in (tmp_path, finished))
    np.testing.assert_allclose(warm, wanted, **TOLERANCES["scores_and_losses"])


def test_unknown_config_fields_are_errors():
    fields = dataclasses.asdict(CONFIG)
    fields["input"]["mix"] = dict(fields["input"]["mix"])
    assert settings.TrainConfig.from_dict(fields) == CONFIG
    for part in ({"warm": 1}, {"optim": {**fields["optim"], "momentum": 0.9}}):
        with pytest.raises(TypeError):
            settings.TrainConfig.from_dict({**fields, **part})


@pytest.mark.slow
def test_run_on_groups_counts_its_pairs(corpus, tmp_path, monkeypatch):
    real, added = metric_log.MetricLog.add, []

    def add(log, values):
        added.append(dict(values))
        real(log, values)

    monkeypatch.setattr(metric_log.MetricLog, "add", add)
    grouped = tiny_corpus.input_config(batch_size=32, group_size=4)
    config = tiny_corpus.train_config(3, input=grouped)
    folder = train.train(config, SPEC, corpus, str(tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(v) for row in rows for v in row.values())
    assert len(rows) == len(added) == 3
    for values in added:
        pairs = sum(v for name, v in values.items() if name.startswith(metric_log.PAIRS))
        assert 8 < pairs <= 32, values  # more than groups, at most four a group
    student = FunctionalStudent(SPEC.student)
    before, after = student.init(config.seed), bundle.load_params(folder, student)
    assert not np.array_equal(before["newline"], after["newline"])
