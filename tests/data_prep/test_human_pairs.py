"""Human scores become a corpus split by content, and pairs that the trainer learns from."""

import collections
import csv
import dataclasses
import os

import numpy as np
import pytest

from data_prep.labels import human_listing, human_pairs
from data_prep.prepare import job
from data_prep.prepare.config import HumanConfig
from tests.fixtures import broken_files, prep_corpus, tiny_corpus
from vqa_jax.benchmarks import labels as benchmark_labels
from vqa_jax.corpus import pair_shards, store
from vqa_jax.motion import job as motion_job
from vqa_jax.pairs import levels
from vqa_jax.training import train
from vqa_jax.weights import bundle

CONTENTS, VERSIONS = 8, 3
RATINGS = 20
CONFIG = HumanConfig(seed=0, per_label=12, margin=0.4, ratings=30, num_shards=1)
PREP = prep_corpus.config(
    simulators=(),
    segments_per_source=1,
    num_buckets=1,
    deduplicate="exact",
    teachers=(),
    preprocess=dataclasses.asdict(tiny_corpus.PREPROCESS),
)


def _clip(content: int) -> np.ndarray:
    """A pattern of its own, moving."""
    small = np.random.default_rng(content).integers(0, 255, (8, 12, 3), np.uint8)
    picture = np.kron(small, np.ones((8, 8, 1), np.uint8))
    return np.stack([np.roll(picture, 3 * t, axis=1) for t in range(12)])


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Files of two sets, the second of which holds a copy of a file of the first; their labels."""
    root = tmp_path_factory.mktemp("human")
    rows = []
    for content in range(CONTENTS):
        for version, codec in enumerate(("AVC", "HEVC", "VP9")[:VERSIONS]):
            name = f"{codec}_{content:02d}_{version}.mp4"
            folder = root / "videos" / "Waterloo-IVC-4K"
            folder.mkdir(parents=True, exist_ok=True)
            darker = (_clip(content) * (1 - 0.3 * version)).astype(np.uint8)
            broken_files.encode(folder / name, darker)
            mos = 90 - 25 * version - content
            rows.append((name, mos, 10.0 + content, RATINGS))
    other = root / "videos" / "My set"
    other.mkdir()
    (other / "a.mp4").write_bytes((folder / "AVC_03_0.mp4").read_bytes())
    broken_files.encode(other / "b.mp4", _clip(50))
    broken_files.encode(other / "c.mp4", _clip(51))
    with open(root / "waterloo.csv", "w", newline="") as f:
        csv.writer(f).writerows([("video", "MOS", "MOS_std", "num_ratings"), *rows])
    (root / "mine.csv").write_text("video,mos\na.mp4,1.5\nb.mp4,3.0\nc.mp4,4.5\ngone.mp4,2\n")
    return root


@pytest.fixture(scope="module")
def listed(videos):
    specs = [f"Waterloo-IVC-4K={videos / 'waterloo.csv'}", f"My set={videos / 'mine.csv'}"]
    out = str(videos / "sets")
    counts = human_listing.make_listing(str(videos / "videos"), specs, out, PREP, 0.3)
    return out, counts


def test_listing_splits_by_content_also_across_sets(listed):
    out, counts = listed
    with open(os.path.join(out, human_listing.LISTING), newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == CONTENTS * VERSIONS + 3
    splits = collections.defaultdict(set)
    for row in rows:
        assert os.path.exists(os.path.join(out, row["path"]))
        name = os.path.basename(row["path"])
        content = name.split("_")[1] if row["source"] == "Waterloo-IVC-4K" else name
        splits[content].add(row["split"])
    splits["03"] |= splits.pop("a.mp4")  # its bytes are that content's
    assert all(len(split) == 1 for split in splits.values())
    assert set.union(*splits.values()) == {"train", "heldout"}
    waterloo = counts["Waterloo-IVC-4K"]
    assert waterloo["contents"] == CONTENTS
    held = [c for c, split in splits.items() if split == {"heldout"} and c.isdigit()]
    assert waterloo["heldout"] == VERSIONS * len(held)
    kept = benchmark_labels.read_labels(os.path.join(out, "heldout", "Waterloo-IVC-4K.csv"))
    assert len(kept.names) == waterloo["heldout"] and set(kept.ratings) == {RATINGS}


def test_deviation_is_that_of_a_mean_or_a_share_of_the_sets():
    mos = np.array([1.0, 2.0, 4.0])
    std, ratings = np.array([0.6, np.nan, 0.0]), np.array([9.0, np.nan, 1.0])
    labels = benchmark_labels.Labels(("a", "b", "c"), mos, std, ratings, (), 0)
    share = 0.4 * mos.std() / np.sqrt(2)
    np.testing.assert_allclose(human_pairs.opinion_std(labels, 0.4, 30), [0.2, share, share])
    unknown = dataclasses.replace(labels, ratings=np.full(3, np.nan))
    assert human_pairs.opinion_std(unknown, 0.4, 30)[0] == pytest.approx(0.6 / np.sqrt(30))


def test_student_trains_on_pairs_that_are_labelled_as_people_scored(listed, tmp_path):
    out, _ = listed
    data, labels = str(tmp_path / "corpus"), os.path.join(out, "labels")
    job.build(os.path.join(out, human_listing.LISTING), data, PREP)
    manifest = human_pairs.label_pairs(data, CONFIG, [labels])
    assert human_pairs.label_pairs(data, CONFIG, [labels]) == manifest  # nothing is drawn anew
    kept = CONTENTS * VERSIONS - 1  # of two equal files the corpus holds one
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
                ends.append((known.mos[row], known.std[row] / np.sqrt(RATINGS)))
            if name == "Waterloo-IVC-4K":
                deviation = np.hypot(ends[0][1], ends[1][1])
                wanted = levels.label_from_margin(ends[1][0] - ends[0][0], deviation)
                assert int(np.argmax(pair["level_probs"])) == levels.LEVELS.index(wanted)
            found[source, split, name] += 1
    assert found["human", "train", "Waterloo-IVC-4K"] > 10
    motion_job.run(data, tiny_corpus.StubExtractor())
    mix = (("human", 1.0),)
    config = tiny_corpus.train_config(
        3, input=tiny_corpus.input_config(mix=mix), severity_weight=0.0
    )
    folder = train.train(config, tiny_corpus.student_spec(), data, str(tmp_path / "run"))
    assert bundle.is_complete(folder)
    with open(tmp_path / "run" / "metrics.jsonl") as f:
        assert "train/level_acc/human" in f.read()
