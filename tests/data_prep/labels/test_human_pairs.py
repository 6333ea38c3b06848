"""Human scores become a corpus split by content, and pairs that the trainer learns from."""

import collections
import dataclasses
import os

import numpy as np
import pytest

from data_prep.labels import human_listing, human_pairs
from data_prep.prepare import job
from data_prep.prepare.config import HumanConfig
from tests.fixtures import rated_videos, tiny_corpus, tiny_run
from vqa_jax.benchmarks import labels as benchmark_labels
from vqa_jax.corpus import pair_shards, store
from vqa_jax.motion import job as motion_job
from vqa_jax.pairs import levels
from vqa_jax.training import train
from vqa_jax.training.batch import GROUPS, PromptGeometry
from vqa_jax.training.input_pipeline import training_batches
from vqa_jax.weights import bundle

CONFIG = HumanConfig(seed=0, per_label=12, margin=0.4, ratings=30, num_shards=1)
CHANGES = {"input": tiny_corpus.input_config(mix=(("human", 1.0),))}  # of a run's settings


def test_deviation_is_that_of_a_mean_or_a_share_of_the_sets():
    mos = np.array([1.0, 2.0, 4.0])
    std, ratings = np.array([0.6, np.nan, 0.0]), np.array([9.0, np.nan, 1.0])
    labels = benchmark_labels.Labels(("a", "b", "c"), mos, std, ratings, (), (), 0, True)
    share = 0.4 * mos.std() / np.sqrt(2)
    np.testing.assert_allclose(human_pairs.opinion_std(labels, 0.4, 30), [0.2, share, share])
    unknown = dataclasses.replace(labels, ratings=np.full(3, np.nan))
    assert human_pairs.opinion_std(unknown, 0.4, 30)[0] == pytest.approx(0.6 / np.sqrt(30))


@pytest.fixture(scope="module")
def labelled(listed, tmp_path_factory) -> tuple[str, dict]:
    """A corpus of the listing with human pairs and motion; read only. And their manifest."""
    out, _ = listed
    data, labels = str(tmp_path_factory.mktemp("human") / "corpus"), os.path.join(out, "labels")
    job.build(os.path.join(out, human_listing.LISTING), data, rated_videos.PREP)
    manifest = human_pairs.label_pairs(data, CONFIG, [labels])
    assert human_pairs.label_pairs(data, CONFIG, [labels]) == manifest  # nothing is drawn anew
    motion_job.run(data, tiny_corpus.StubExtractor())
    return data, manifest


def test_pairs_are_labelled_as_people_scored(listed, labelled):
    labels, (data, manifest) = os.path.join(listed[0], "labels"), labelled
    kept = (
        rated_videos.CONTENTS * rated_videos.VERSIONS - 1
    )  # of two equal files the corpus holds one
    assert manifest["human"]["Waterloo-IVC-4K"] == {"videos": kept, "deviation_known": kept}
    videos = {v["video_id"]: v for v in store.RecordStore(data, "vqa_videos").records()}
    found = collections.Counter()
    for split in ("train", "heldout"):
        pairs = store.RecordStore(data, pair_shards.dataset_name(1), "vqa_pairs", split)
        for pair in pairs.records():
            source, _, name = pair["label_source"].partition(":")
            known = benchmark_labels.read_labels(os.path.join(labels, f"{name}.csv"))
            ends = []
            for side in ("first_id", "second_id"):
                path = os.path.basename(videos[pair[side]]["path"])
                row = [os.path.basename(n) for n in known.names].index(path)
                ends.append((known.mos[row], known.std[row] / np.sqrt(rated_videos.RATINGS)))
            if name == "Waterloo-IVC-4K":
                deviation = np.hypot(ends[0][1], ends[1][1])
                wanted = levels.label_from_margin(ends[1][0] - ends[0][0], deviation)
                assert int(np.argmax(pair["level_probs"])) == levels.LEVELS.index(wanted)
            found[source, split, name] += 1
    assert found["human", "train", "Waterloo-IVC-4K"] > 10


def test_batches_hold_pairs_that_people_scored(labelled):
    """What a step is given: the videos of human pairs, their motion and labels."""
    data, _ = labelled
    spec, name = tiny_run.SPEC, pair_shards.dataset_name(1)
    pairs = store.PairCorpus(data, (name,), "train", spec.extractor)
    geometry = PromptGeometry(
        bundle.make_tokenizer(spec), spec.student.tokens_per_frame, CHANGES["input"].answer
    )
    most = spec.preprocess.max_clips
    found = training_batches(pairs, CHANGES["input"], geometry, spec.severity_simulators, most)[0]
    assert (found["group"] == GROUPS.index("human")).all() and found["frames"].any()
    np.testing.assert_allclose(found["level_probs"].sum(-1), 1, rtol=1e-6)


@pytest.mark.slow  # compiles a step; what it is given is looked at above
def test_student_trains_on_pairs_that_people_scored(labelled, tmp_path):
    config = dataclasses.replace(tiny_run.CONFIG, **CHANGES)
    folder = train.train(config, tiny_run.SPEC, labelled[0], str(tmp_path / "run"))
    assert bundle.is_complete(folder)
    with open(tmp_path / "run" / "metrics.jsonl") as f:
        assert "train/level_acc/human" in f.read()
