"""Scores of a corpus whose frozen tower has been at work: what it made is not computed again."""

import csv

import numpy as np
import pytest

from tests.fixtures import cell_student
from vqa_jax.corpus import store
from vqa_jax.models.efficientnet_lite import EfficientNetLiteConfig
from vqa_jax.teachers import corpus_job, job
from vqa_jax.teachers.light import features
from vqa_jax.training import tower_tokens

SPEC = cell_student.spec()
WIDTHS = EfficientNetLiteConfig(0).widths


class FirstNumber:
    """A teacher whose score is the mean of the first of its features."""

    name, higher_is_better, fingerprint = "first", True, "first-1"

    def __init__(self):
        self.extractor = features.Extractor()
        self.asked = 0
        self.extractor.tower(0)._moments = self._network

    def _network(self, state, pictures):
        self.asked += 1
        return np.full((len(pictures), 2 * sum(WIDTHS)), -1.0, np.float32)

    def score(self, kept, folds=None):
        return np.array([self.extractor.moments(0, list(f))[:, 0].mean() for f in kept])


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
    monkeypatch.setattr(tower_tokens, "FrozenTower", GreyTower)
    return cell_student.write_corpus(str(tmp_path / "corpus"), num_train=2)


def _scores(data, teacher, out) -> dict[str, float]:
    corpus_job.run(data, [teacher], str(out))
    with open(out / job.TABLE_CSV, encoding="utf-8", newline="") as text:
        return {row["video"]: float(row["first"]) for row in csv.DictReader(text)}


def test_tokens_of_the_same_tower_are_taken_and_of_another_are_not(data, tmp_path, monkeypatch):
    asked = FirstNumber()
    assert set(_scores(data, asked, tmp_path / "before").values()) == {-1.0} and asked.asked
    tower_tokens.run(data, SPEC)
    told = FirstNumber()
    found = _scores(data, told, tmp_path / "after")
    assert told.asked == 0 and len(found) == 12
    videos = store.RecordStore(data, "vqa_videos")
    for key, score in found.items():
        assert score == pytest.approx(videos[key]["frames"].mean(), rel=1e-3)
    monkeypatch.setattr(corpus_job.towers, "fingerprint", lambda path: "another")
    other = FirstNumber()
    assert set(_scores(data, other, tmp_path / "other").values()) == {-1.0} and other.asked
