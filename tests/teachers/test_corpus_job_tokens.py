"""Scores of a corpus whose frozen tower has been at work: what it made is not computed again."""

import csv

import numpy as np
import pytest

from tests.fixtures import cell_student
from tests.fixtures import light_teachers as made
from vqa_jax.corpus import store
from vqa_jax.teachers import corpus_job, job
from vqa_jax.teachers.light import features
from vqa_jax.training import tower_tokens

SPEC = cell_student.spec()


class FirstNumber:
    """A teacher whose score is the mean of the first of its features; it tells where it looked."""

    name, higher_is_better, fingerprint = "first", True, "first-1"

    def __init__(self, family="lite0_all"):
        self.card = made.card(family=family)
        self.looked = set()

    def score(self, kept, folds=None):
        self.looked.add("frames")
        return np.full(len(kept), -1.0)

    def score_tokens(self, tokens, folds):
        self.looked.add("tokens")
        return np.array([features.of_tokens("lite0_all", rows)[:, 0].mean() for rows in tokens])


class GreyTower:
    """Instead of the network: tokens that tell the frames' means."""

    def __init__(self, student, params):
        self._shape = (student.cfg.tokens_per_frame, student.cfg.vision.embed_dim)

    def __call__(self, videos):
        return [
            np.broadcast_to(v.mean((1, 2, 3))[:, None, None], (len(v), *self._shape)).astype(
                np.float16
            )
            for v in videos
        ]


@pytest.fixture
def data(tmp_path, monkeypatch) -> str:
    monkeypatch.setattr(tower_tokens.FrozenTower, "of_student", GreyTower)
    return cell_student.write_corpus(str(tmp_path / "corpus"), num_train=2)


def _scores(data, out, *teachers) -> dict[str, float]:
    corpus_job.run(data, teachers, str(out))
    with open(out / job.TABLE_CSV, encoding="utf-8", newline="") as text:
        return {row["video"]: float(row["first"]) for row in csv.DictReader(text)}


def test_tokens_of_the_same_tower_are_taken_and_of_another_are_not(data, tmp_path, monkeypatch):
    asked = FirstNumber()
    found = _scores(data, tmp_path / "before", asked)
    assert set(found.values()) == {-1.0} and asked.looked == {"frames"}
    tower_tokens.run(data, SPEC)
    videos = store.RecordStore(data, "vqa_videos")
    for others in ((), (_named("second", "colour"),)):  # alone no frame is read
        told = FirstNumber()
        with pytest.MonkeyPatch.context() as patch:
            if not others:
                patch.setattr(store, "ShardReader", _only_tokens)
            found = _scores(data, tmp_path / f"beside_{len(others)}", told, *others)
        assert told.looked == {"tokens"} and len(found) == 12
        assert all(other.looked == {"frames"} for other in others)
        for key, score in found.items():
            assert score == pytest.approx(videos[key]["frames"].mean(), rel=1e-3)
    monkeypatch.setattr(corpus_job.towers, "fingerprint", lambda path: "another")
    other = FirstNumber()
    assert set(_scores(data, tmp_path / "other", other).values()) == {-1.0}
    assert other.looked == {"frames"}


def _named(name, family):
    teacher = FirstNumber(family)
    teacher.name = name
    return teacher


def _only_tokens(path, kind):
    assert kind == "vqa_tokens"
    return _SHARD_READER(path, kind)


_SHARD_READER = store.ShardReader
