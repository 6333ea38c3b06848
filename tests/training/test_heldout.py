"""Held-out pairs in training: what is asked, of whom, and that it decides what is kept."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.tiny_run import CONFIG, SPEC
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import settings
from vqa_jax.corpus import pair_shards, video_table
from vqa_jax.devices import sharding
from vqa_jax.jobs import files
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.pairs.simulators import all_simulator_pairs
from vqa_jax.training import heldout, train
from vqa_jax.training import step as step_lib
from vqa_jax.training.batch import PromptGeometry

PAIRS = 11  # of 12; no multiple of a batch


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """The corpus with pairs of a second iteration, some of them held out."""
    root = tiny_corpus.write_corpus(str(tmp_path_factory.mktemp("corpus")))
    table = video_table.read_video_table(root)
    pairs = {
        split: all_simulator_pairs(video_table.simulated_sets(table, split))
        for split in ("train", "heldout")
    }
    pair_shards.write(root, 2, pairs, 1, {"made": "by a test"})
    return root


def _config(**changes):
    named = {"pair_datasets": ("vqa_pairs_1", "vqa_pairs_2"), "heldout_pairs": PAIRS}
    return dataclasses.replace(CONFIG, **{**named, **changes})


def _asked(data: str, rows: int) -> heldout.Heldout:
    config = _config(input=tiny_corpus.input_config(batch_size=rows))
    geometry = PromptGeometry(prompt.tiny_tokenizer(), SPEC.student.tokens_per_frame, "level")
    step_config = step_lib.StepConfig.of(config, geometry.level_ids, geometry.level_index)
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    student = FunctionalStudent(SPEC.student)
    return heldout.Heldout(config, SPEC, student, step_config, mesh, data, geometry)


def test_a_student_that_knows_is_right_and_padding_counts_nothing(data):
    params = tiny_corpus.known_params(FunctionalStudent(SPEC.student))
    few, many = (_asked(data, rows)(params) for rows in (4, PAIRS))
    assert few["heldout/order_acc"] == few["heldout/order_consistency"] == 1.0
    assert few.keys() == many.keys() and few["heldout/level_acc"] > 0.5
    for name in few:
        np.testing.assert_allclose(few[name], many[name], **TOLERANCES["scores_and_losses"])


@pytest.mark.slow
def test_it_decides_which_checkpoint_is_kept(data, tmp_path, monkeypatch):
    """Told losses fall until step 2 and rise then; the latest two and the best one stay."""
    told = dict(enumerate((3.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0), 1))
    calls = iter(told.values())

    def pretend(self, params):
        return {"heldout/loss": next(calls), "heldout/order_acc": 0.5}

    monkeypatch.setattr(heldout.Heldout, "__call__", pretend)
    config = _config(keep_best=1, checkpoint_every=1, log_every=3)
    train.train(config, SPEC, data, str(tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {r["step"]: r["heldout/loss"] for r in rows if "heldout/loss" in r} == told
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()}
    assert kept == {"2", "6", "7"}


def test_what_cannot_be_is_said_at_once(corpus, tmp_path):
    with pytest.raises(settings.SettingsError, match=r"keep_best 2: .*heldout_pairs"):
        dataclasses.replace(CONFIG, keep_best=2)
    with pytest.raises(files.CorpusError, match=r"hold out no pairs: set .*heldout_pairs=0"):
        train.train(dataclasses.replace(CONFIG, heldout_pairs=4), SPEC, corpus, str(tmp_path))
