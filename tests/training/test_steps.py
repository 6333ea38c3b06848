"""The loop: steps are handed over before the last one is looked at; bad ones stop it."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.tiny_run import CONFIG, SPEC
from vqa_jax.devices import sharding
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.training import goodput, metric_log, steps, train
from vqa_jax.training import step as train_step
from vqa_jax.weights import bundle


def test_a_step_is_handed_over_before_anyone_looks_at_the_one_before(corpus, tmp_path, monkeypatch):
    make, events = train_step.make_train_step, []

    def noted(*args):
        step = make(*args)

        def call(state, batch):
            events.append("step")
            return step(state, batch)

        return call

    monkeypatch.setattr(train_step, "make_train_step", noted)
    add = metric_log.MetricLog.add
    monkeypatch.setattr(
        metric_log.MetricLog, "add", lambda log, values: (events.append("look"), add(log, values))
    )
    train.train(CONFIG, SPEC, corpus, str(tmp_path))
    # Every third is saved, the seventh the last: nothing is handed over before these are good.
    until_saved = ["step", "step", "look", "step", "look", "look"]
    assert events == [*until_saved * 2, "step", "look"]


def test_step_that_is_not_finite_is_saved_before_and_drawn_anew(
    corpus, finished, tmp_path, monkeypatch
):
    """The batch of step 5 is poison whenever it comes; the same command ends the run without it."""
    real, seen, poison = sharding.put_batch, [], []

    def put(batch, mesh, size):
        seen.append(batch["motion"].copy())
        if len(seen) == 5 and not poison:
            poison.append(seen[-1])
        if any(np.array_equal(batch["motion"], bad) for bad in poison):
            batch = {**batch, "motion": batch["motion"] * np.float32(np.nan)}
        return real(batch, mesh, size)

    monkeypatch.setattr(sharding, "put_batch", put)
    with pytest.raises(steps.TrainingError, match=r"step 5.*step 4 is saved.*same.*last_good"):
        train.train(CONFIG, SPEC, corpus, str(tmp_path))
    kept = bundle.load_params(str(tmp_path / "last_good"), FunctionalStudent(SPEC.student))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(kept))
    assert not os.path.exists(tmp_path / "student")
    # Of itself it would be saved every third step: moments and all of step 4 are there.
    assert (tmp_path / "checkpoints" / "4").is_dir()
    seen.clear()
    train.train(CONFIG, SPEC, corpus, str(tmp_path))
    assert not any(np.array_equal(batch, poison[0]) for batch in seen)
    losses, wanted = tiny_corpus.losses(str(tmp_path)), tiny_corpus.losses(finished)
    assert losses.keys() == wanted.keys()
    assert [losses[step] == wanted[step] for step in range(1, 6)] == [True] * 4 + [False]
    where = goodput.shares(goodput.read(str(tmp_path / goodput.FILE)))
    assert sum(where.values()) == pytest.approx(1)
    assert min(where["steps"], where["start"], where["stopped"]) > 0 and where["again"] == 0


@pytest.mark.slow  # two programs; which sizes there are: test_input_pipeline
def test_programs_of_every_size_are_compiled_before_the_first_step(corpus, tmp_path, monkeypatch):
    """The pairs of one motion clip and those of two have programs of their own."""
    sizes = dataclasses.replace(CONFIG.input, buckets=((CONFIG.input.num_frames, 1),))
    optim = dataclasses.replace(CONFIG.optim, total_steps=8)
    config = dataclasses.replace(CONFIG, input=sizes, optim=optim, checkpoint_every=8)
    told, seen = [], []
    monkeypatch.setattr(metric_log.Compilations, "warn_after", lambda self, step, before, _: (
        told.append(self.count - before)
    ))  # fmt: skip
    put = sharding.put_batch
    monkeypatch.setattr(
        sharding, "put_batch", lambda b, *where: seen.append(b["motion"].shape[2]) or put(b, *where)
    )
    train.train(config, SPEC, corpus, str(tmp_path))
    assert set(seen) == {1, 2}
    assert told == [0] * 7
